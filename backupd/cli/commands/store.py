"""The commands about stores: `snapshots` lists, `verify` compares, `replicate` copies from one store to another."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec import UNSET

from backupd.cli import output
from backupd.cli.options import (
    EXIT_STATUS,
    AtLeastOption,
    ConfigOption,
    DatabaseOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    QuietOption,
    RegionArgument,
    StoreOption,
    StoresOption,
    ledger_head,
    load_context,
    open_identity,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply, for_each
from backupd.errors import BackupdError, DamageError, ObjectMissingError, StoreError, UsageError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted, counts

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.replication import Replication
    from backupd.operations.snapshots import SnapshotInfo
    from backupd.operations.verify import Scope, Verification
    from backupd.repository.repository import Repository
    from backupd.trace import Trace
    from backupd.wiring.context import Context

_HEADINGS = ("snapshot", "region", "database", "tables", "rows", "segments", "bytes", "stored", "added")


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("snapshots", epilog=EXIT_STATUS)(snapshots)
    app.command("verify", epilog=EXIT_STATUS)(verify)
    app.command("replicate", epilog=EXIT_STATUS)(replicate)


def snapshots(
    ctx: typer.Context,
    region: RegionArgument = None,
    database: DatabaseOption = None,
    newest: Annotated[int | None, typer.Option("--newest", min=1, metavar="N", help="Only so many a region.")] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """List the snapshots of regions, oldest first.

    Each is named by its instant and hash; the beginning of a name is enough for restore. `stored` is all that the
    snapshot needs, `added` what its run had to send. Records that cannot be believed are reported and make the exit
    status that of damage.

    \b
    Examples:
      backupd snapshots be
      backupd snapshots --newest 1 --json
    """
    from backupd.operations.phases import Phases
    from backupd.operations.snapshots import list_snapshots
    from backupd.operations.snapshots.listed_names import remember_listing
    from backupd.wiring.answering_store import open_answering
    from backupd.wiring.context import QUICKLY

    context = load_context(ctx, config)
    lists = []
    with watched(context.clock, quiet=as_json) as trace:
        for name in context.regions(region or []):
            with open_answering(context, name, store, trace, QUICKLY) as (_, repository):
                note_signers(context, repository)
                phases = Phases(context.clock, trace, name)
                with phases.phase("listing", quiet=True):
                    lists.append((name, list_snapshots(repository, database=database, newest=newest)))
    if database is None and newest is None:
        for name, found in lists:
            remember_listing(context.config.node.state_dir / name, (one.name for one in found.snapshots))
    bad = [f"damage: {one.name}: {one.reason}" for _, found in lists for one in found.unreadable]
    return Reply(
        {"regions": [{"region": name, **msgspec.to_builtins(found)} for name, found in lists]},
        [output.TextTable(_HEADINGS, [_row(name, one) for name, found in lists for one in found.snapshots])],
        bad,
        DamageError.exit_code if bad else 0,
    ).print(as_json=as_json)


def _row(region: str, one: SnapshotInfo) -> tuple[output.Cell, ...]:
    label = one.database if one.member is None else f"{one.database} ({one.member})"
    size = output.human_bytes
    return (
        one.name[:SHORT_NAME],
        region,
        label,
        one.totals.tables,
        one.totals.rows,
        one.segments,
        size(one.totals.bytes),
        size(one.totals.stored),
        size(one.totals.added),
    )


def verify(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    read_data: Annotated[
        str,
        typer.Option("--read-data", metavar="N%|all|none", help="Of the content; least recently verified first."),
    ] = "none",
    ledger_at_least: AtLeastOption = None,
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare stores with their signed records.

    Signatures, the ledger and the chain of records are checked, and that everything they need is there with its size;
    with the tenant key, also whose each key is said to be. --read-data also reads that share of the packs and checks
    their hashes; with an identity, what is read is opened, and that share of the newest snapshots' rows is compared
    with their manifests. What the ledger says was purged or expired may be missing. Packs that nothing refers to are
    counted, and are no damage. Nothing is changed; a keeper's ledger learns which snapshots are
    proven, every byte of theirs having been read.

    \b
    Examples:
      backupd verify
      backupd verify be --read-data 10% --identity ops.identity
    """
    from backupd.model.answers import VerifyAnswer
    from backupd.operations.verify import Scope
    from backupd.planning.verify import parse_share

    context = load_context(ctx, config)
    share = parse_share(read_data)
    places = [(name, place) for name in context.regions(region or []) for place in context.stores_of(name, store)]
    secret = open_identity(identity, passphrase_file).secret if identity is not None else None
    scope = Scope(share, secret, ledger_head(ledger_at_least))
    if scope.at_least is not None and len({name for name, _ in places}) != 1:
        raise UsageError("--ledger-at-least is of one region's ledger", hint="Name the region.")
    with watched(context.clock, quiet=as_json or quiet) as trace:
        look = partial(_verify, context, scope=scope, trace=trace, only=store is not None)
        verdicts = for_each(places, look, as_json=as_json, quiet=quiet)
    return verdicts.finish("stores", VerifyAnswer)


def note_signers(context: Context, repository: Repository) -> None:
    """Print on standard error which signers are believed, where none is trusted by configuration (FORMAT.md §3)."""
    if context.trusted_signers() is None:
        prints = sorted(hashlib.sha256(bytes.fromhex(key)).hexdigest()[:16] for key in repository.signers)
        output.print_lines([f"note: believing the signers that the repository names: {', '.join(prints)}"], sys.stderr)


def _verify(
    context: Context, place: tuple[RegionName, str], scope: Scope, trace: Trace, *, only: bool = False
) -> Reply:
    """Verify one store, maybe the only one that was asked for, which is when an error advises to ask another.

    Where only the ledger cannot be written, the reply has both the findings and the error.
    """
    from backupd.operations.verify import verify as run
    from backupd.wiring.answering_store import suggesting_others
    from backupd.wiring.backup import verify_index, verify_tools
    from backupd.wiring.context import open_repository

    found, noted, error = None, None, None
    region, store = place
    try:
        with (
            suggesting_others(context, region, store, named=True) if only else nullcontext(),
            open_repository(context.telling(trace), region, store) as repository,
            verify_index(context, region, store) as checked,
        ):
            note_signers(context, repository)
            found = run(repository, checked, scope, verify_tools(context, region, store, trace))
        noted = _noted(context, place, found, trace)
    except BackupdError as failure:
        error = failure
    return _verdict(place, found, noted, error)


def _noted(context: Context, place: tuple[RegionName, str], found: Verification, trace: Trace) -> int | None:
    """Write into a keeper's ledger which snapshots are proven; return how many are new to it, None on no keeper."""
    from backupd.operations.verify import note_proven
    from backupd.wiring.keeper import has_keeper_key, open_keeper

    if not has_keeper_key(context):
        return None
    region, store = place
    with open_keeper(context, region, trace) as keeper:
        return len(note_proven(keeper.book, store, found.proven))


def _verdict(
    place: tuple[RegionName, str], found: Verification | None, noted: int | None, error: BackupdError | None
) -> Reply:
    """Return the reply of one store; damage weighs more than an error."""
    from backupd.model.answers import StoreContents, StoreVerification, of_value

    region, store = place
    name = f"{region} on {store}"
    value = StoreVerification(
        region=region,
        store=store,
        error=UNSET if error is None else output.as_object(error),
        clean=UNSET if found is None else found.clean,
        verification=UNSET if found is None else of_value(found, StoreContents),
        noted=UNSET if found is None else noted,
    )
    status = error.exit_code if error is not None else 0
    if found is not None and not found.clean:
        status = DamageError.exit_code if found.findings else status or ObjectMissingError.exit_code
    return Reply(
        value,
        verified_lines(place, found, noted) if found is not None else (),
        output.failure_lines(error, name) if error is not None else (),
        status,
    )


def verified_lines(place: tuple[RegionName, str], found: Verification, noted: int | None) -> Iterator[str]:
    """Yield the text about one store that was looked at, its verdict first."""
    size, (region, store) = output.human_bytes, place
    if found.findings or found.clean:
        yield f"{region} on {store}: {'DAMAGED' if found.findings else 'clean'}"
    else:
        never = "nothing was ever copied there, as far as this machine knows"
        yield f"{region} on {store}: NOTHING TO VERIFY, {never if found.unfilled else 'no snapshot is there'}"
        yield f"  `backupd backup {region}` makes a snapshot there, and a keeper's `backupd replicate {region} --from"
        yield f"  OTHER --to {store}` copies those of another store."
    yield f"  {counts(snapshot=found.snapshots, generation=found.generations, keyring=found.keyrings)}"
    yield f"  {counted(found.sections, 'section')} in {counted(found.packs, 'pack')}, {size(found.size)}"
    compared = counted(found.opened, "segment")
    yield f"  read {found.read} of the packs, {size(found.read_size)}; compared the rows of {compared}"
    if found.packs and not found.read:
        yield "  so no snapshot counts as verified by this: that takes `--read-data`"
    proven = counted(len(found.proven), "snapshot")
    yield f"  {proven} proven" + (f", {noted} of them new to the ledger" if noted else "")
    if found.entries:
        gone = f"{counted(found.purged, 'segment')} purged, {counted(found.aged, 'section')} expired"
        yield f"  {counted(found.entries, 'entry')} of the ledger; {gone}"
    if found.unpurged:
        yield f"  {counted(found.unpurged, 'segment')} whose purge is not done: a key or a section is still there"
    if found.orphans:
        yield f"  {counted(len(found.orphans), 'pack')} nothing refers to, {size(found.orphans_size)}"
    if found.leftovers:
        yield f"  {counted(len(found.leftovers), 'upload')} that were cut off or are under way"
    yield from output.unnamed_lines(found.unnamed_keepers)
    for file in found.other_help:
        yield f"  warning: '{file}' on this store is not the one of this version of backupd"
        yield "    A writer of another version signed its hash, or a thief of a node. Run none whose hash nobody knows:"
        yield "    `backupd store accept STORE --reason REFERENCE` puts the one of this version in its place."
    yield from (f"  not ours: {foreign}" for foreign in found.foreign)
    for finding in found.findings:
        yield f"  damage: {finding.sentence}"


def replicate(
    ctx: typer.Context,
    region: Annotated[str, typer.Argument(metavar="REGION", show_default=False)],
    origin: Annotated[
        str, typer.Option("--from", metavar="STORE", show_default=False, help="The store that has the snapshots.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="STORE", show_default=False, help="The store that is to have them, too.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would be copied, and copy nothing.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Copy to one store what it lacks of another one's snapshots, without a key. Runs on the keeper.

    For a store that is new, or comes back after it was away. Objects are copied as they are, and compared with their
    hashes and signatures on the way; records come last. What was purged or expired is not copied, and what is purged
    meanwhile stays purged. Nothing is overwritten; the same command goes on with what was cut off.

    \b
    Examples:
      backupd replicate be --from zurich --to cellar --dry-run
      backupd replicate be --from zurich --to cellar
    """
    from backupd.operations.replication import replicate
    from backupd.wiring.keeper import open_keeper, replication_between

    context = load_context(ctx, config)
    (name,) = context.regions([region])
    for store in (origin, target):
        context.stores_of(name, store)
    with watched(context.clock, quiet=as_json) as trace, open_keeper(context, name, trace) as keeper:
        done = replicate(replication_between(context, keeper, origin, target, dry_run=dry_run))
    return Reply(
        {"region": name, "dry_run": dry_run, "replication": done},
        _replicated_lines(name, done, dry_run=dry_run),
        status=DamageError.exit_code if done.damage else StoreError.exit_code if done.refused else 0,
    ).print(as_json=as_json)


def _replicated_lines(region: str, done: Replication, *, dry_run: bool) -> Iterator[str]:
    did = "would be copied" if dry_run else "copied"
    number = counted(len(done.snapshots), "snapshot")
    yield f"{region}: {done.origin} to {done.target}: {number} {did}, {done.already} were there"
    yield f"  {counts(generation=done.generations, object=done.objects)}, {output.human_bytes(done.bytes)}"
    if done.left_out:
        yield f"  {done.left_out} left out, because they expired"
    yield from (f"  {message}" for message in (*done.damage, *done.refused))
