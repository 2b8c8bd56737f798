"""`snapshots` and `verify`: what lies on the stores.

`replicate`: one store brought up to date from another.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from msgspec import UNSET

from backupd.cli import output
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    DatabaseOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    RegionArgument,
    StoreOption,
    StoresOption,
    load_context,
    open_identity,
)
from backupd.cli.progress import watched
from backupd.errors import BackupdError, DamageError

if TYPE_CHECKING:
    from backupd.model.answers import StoreVerification
    from backupd.model.ids import RegionName
    from backupd.operations.replication import Replication
    from backupd.operations.snapshots import SnapshotInfo
    from backupd.operations.verify import Scope, Verification
    from backupd.repository.repository import Repository
    from backupd.trace import Trace
    from backupd.wiring.context import Context

_HEADINGS = ("snapshot", "region", "database", "tables", "rows", "segments", "bytes", "stored", "added")
_SHORT = len("20300101T000000Z-") + 8
"""Characters of a snapshot's name that are shown: two of one second are told apart by 8 digits."""


def add(app: typer.Typer) -> None:
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
    snapshot needs, `added` what its run had to send. Records that cannot be believed are told and make the exit status
    that of damage.

    \b
    Examples:
      backupd snapshots be
      backupd snapshots --newest 1 --json
    """
    from backupd.operations.snapshots import list_snapshots
    from backupd.wiring.context import QUICKLY, open_repository

    context = load_context(ctx, config)
    lists = []
    for name in context.regions(region or []):
        with open_repository(context, name, store, QUICKLY) as repository:
            tell_signers(context, repository)
            lists.append((name, list_snapshots(repository, database=database, newest=newest)))
    if as_json:
        output.print_json({"regions": [{"region": name, **msgspec.to_builtins(found)} for name, found in lists]})
    else:
        output.print_table(
            output.TextTable(_HEADINGS, [_row(name, one) for name, found in lists for one in found.snapshots])
        )
    bad = [f"{one.name}: {one.reason}" for _, found in lists for one in found.unreadable]
    if not as_json:
        output.print_lines((f"damage: {line}" for line in bad), sys.stderr)
    return DamageError.exit_code if bad else 0


def _row(region: str, one: SnapshotInfo) -> tuple[output.Cell, ...]:
    label = one.database if one.member is None else f"{one.database} ({one.member})"
    size = output.human_bytes
    return (
        one.name[:_SHORT],
        region,
        label,
        one.totals.tables,
        one.totals.rows,
        one.segments,
        size(one.totals.bytes),
        size(one.totals.stored),
        size(one.totals.added),
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found on one store, or why nobody can tell; both when the ledger could not be told."""

    region: RegionName
    store: str
    found: Verification | None
    error: BackupdError | None
    noted: int | None = None
    """Snapshots the ledger now calls proven; None: this machine does not write it."""


def verify(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    read_data: Annotated[
        str,
        typer.Option("--read-data", metavar="N%|all|none", help="Of the content; least recently verified first."),
    ] = "none",
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Compare stores with their signed records.

    Signatures, the ledger and the chain of records are checked, and that everything they need is there with its size.
    --read-data also reads that share of the content and checks its hashes; with an identity, what is read is opened,
    and rows are compared with their manifests. What the ledger says was purged or expired may be missing. Objects that
    nothing refers to are told, and are no damage. Nothing is changed; a keeper's ledger learns which snapshots are
    proven, every byte of theirs having been read.

    \b
    Examples:
      backupd verify
      backupd verify be --read-data 10% --identity ops.identity
    """
    from backupd.operations.verify import Scope
    from backupd.planning.verify import parse_share

    context = load_context(ctx, config)
    share = parse_share(read_data)
    places = [(name, place) for name in context.regions(region or []) for place in context.stores_of(name, store)]
    secret = open_identity(identity, passphrase_file).secret if identity is not None else None
    with watched(context.clock, quiet=as_json) as trace:
        verdicts = [_verdict(context, place, Scope(share, secret), trace) for place in places]
    if as_json:
        from backupd.model.answers import VerifyAnswer

        output.print_json(VerifyAnswer(stores=tuple(map(_as_object, verdicts))))
    else:
        for verdict in verdicts:
            _print(verdict)
    return next((_status(verdict) for verdict in verdicts if _status(verdict)), 0)


def tell_signers(context: Context, repository: Repository) -> None:
    """Where nobody is trusted by configuration, say on standard error whom we believe instead (FORMAT.md §3)."""
    if context.trusted_signers() is None:
        prints = sorted(hashlib.sha256(bytes.fromhex(key)).hexdigest()[:16] for key in repository.signers)
        output.print_lines([f"note: believing the signers that the repository names: {', '.join(prints)}"], sys.stderr)


def _verdict(context: Context, place: tuple[RegionName, str], scope: Scope, trace: Trace) -> _Verdict:
    from backupd.operations.verify import verify as run
    from backupd.wiring.backup import verify_index, verify_tools
    from backupd.wiring.context import open_repository

    found = None
    region, store = place
    try:
        with open_repository(context, region, store) as repository, verify_index(context, region, store) as checked:
            tell_signers(context, repository)
            found = run(repository, checked, scope, verify_tools(context, region, store, trace))
        return _Verdict(region, store, found, None, _noted(context, place, found, trace))
    except BackupdError as error:
        return _Verdict(region, store, found, error)


def _noted(context: Context, place: tuple[RegionName, str], found: Verification, trace: Trace) -> int | None:
    """On a keeper, write down what is proven by now."""
    from backupd.operations.verify import note_proven
    from backupd.wiring.keeper import has_keeper_key, open_keeper

    if not has_keeper_key(context):
        return None
    region, store = place
    with open_keeper(context, region, trace) as keeper:
        return len(note_proven(keeper.book, store, found.proven))


def _status(verdict: _Verdict) -> int:
    if verdict.found is not None and not verdict.found.clean:
        return DamageError.exit_code
    return verdict.error.exit_code if verdict.error is not None else 0


def _as_object(verdict: _Verdict) -> StoreVerification:
    from backupd.model.answers import StoreContents, StoreVerification, of_value

    found = verdict.found
    return StoreVerification(
        region=verdict.region,
        store=verdict.store,
        error=UNSET if verdict.error is None else output.as_object(verdict.error),
        clean=UNSET if found is None else found.clean,
        verification=UNSET if found is None else of_value(found, StoreContents),
        noted=UNSET if found is None else verdict.noted,
    )


def _print(verdict: _Verdict) -> None:
    where = f"{verdict.region} on {verdict.store}"
    if verdict.found is not None:
        output.print_lines(_told(where, verdict.found, verdict.noted))
    if verdict.error is not None:
        output.print_failure(verdict.error, where)


def _told(where: str, found: Verification, noted: int | None) -> Iterator[str]:
    size = output.human_bytes
    yield f"{where}: {'clean' if found.clean else 'DAMAGED'}"
    yield f"  {found.snapshots} snapshots, {found.generations} generations, {found.keyrings} keyrings"
    yield f"  {found.parts} parts and {found.packs} packs, {size(found.size)}"
    yield f"  read {found.read} of them, {size(found.read_size)}; compared the rows of {found.opened} parts"
    yield f"  {len(found.proven)} snapshots proven" + (f", {noted} of them new to the ledger" if noted else "")
    if found.entries:
        yield f"  {found.entries} entries of the ledger; {found.purged} segments purged, {found.aged} parts expired"
    if found.unpurged:
        yield f"  {found.unpurged} segments whose purge is not done: a key or an object of theirs is still there"
    if found.orphans:
        yield f"  {len(found.orphans)} objects nothing refers to, {size(found.orphans_size)}"
    if found.leftovers:
        yield f"  {len(found.leftovers)} uploads that were cut off or are under way"
    for name in found.foreign:
        yield f"  not ours: {name}"
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
    meanwhile stays purged. Nothing is overwritten; what was cut off is gone on with by giving the command again.

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
    if as_json:
        output.print_json({"region": name, "dry_run": dry_run, "replication": done})
    else:
        output.print_lines(_lines(name, done, dry_run=dry_run))
    return DamageError.exit_code if done.damage else 0


def _lines(region: str, done: Replication, *, dry_run: bool) -> Iterator[str]:
    did = "would be copied" if dry_run else "copied"
    yield f"{region}: {done.origin} to {done.target}: {len(done.snapshots)} snapshots {did}, {done.already} were there"
    yield f"  {done.generations} generations, {done.objects} objects, {output.human_bytes(done.bytes)}"
    if done.left_out:
        yield f"  {done.left_out} left out, because they expired"
    yield from (f"  {message}" for message in done.damage)
