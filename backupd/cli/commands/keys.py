"""The commands `key generate`, `key check` and `key rotate`; `key escrow` has a module of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands import escrow
from backupd.cli.commands.store import note_signers
from backupd.cli.consent import YesOption, is_asked, require_consent
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    RegionArgument,
    StoresOption,
    load_context,
    new_passphrase,
    open_identity,
    recipients_named,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply, Results, for_each, for_each_store
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import DamageError, KeyRefusedError, ObjectMissingError, UsageError
from backupd.model.text import counted, counts

if TYPE_CHECKING:
    from backupd.operations.keeper.rekey import Rekeying
    from backupd.operations.keeper.types import Keeper
    from backupd.operations.keys import CheckedKeyring


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Make and check keys.")
    group.command("generate", epilog=EXIT_STATUS)(generate)
    group.command("check", epilog=EXIT_STATUS)(check)
    group.command("rotate", epilog=EXIT_STATUS)(rotate)
    escrow.add(group)
    app.add_typer(group, name="key")


def generate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; never overwritten.", show_default=False)],
    signer: Annotated[bool, typer.Option("--signer", help="A signing key instead of an identity.")] = False,
    tenant_key: Annotated[bool, typer.Option("--tenant-key", help="A tenant key instead of an identity.")] = False,
    name: Annotated[
        str | None, typer.Option("--name", show_default=False, help="Whose it is. [default: FILE's name]")
    ] = None,
    recipient: Annotated[
        Path | None,
        typer.Option("--recipient", metavar="FILE", show_default=False, help="[default: FILE's name with .recipient]"),
    ] = None,
    passphrase_file: PassphraseOption = None,
    as_json: JsonOption = False,
) -> int:
    """Make an identity and its recipient, a signing key, or the tenant key.

    The identity opens backups: keep it, and its passphrase, away from the machines that write them. The recipient is
    its public half, named in their configuration. A signing key belongs to one machine that writes or keeps backups;
    its public half, which is printed, belongs under [trust] in the configuration of all. The tenant key is one for all
    these machines: without it nobody can find a tenant's segments, so keep a copy with the identities.

    \b
    Examples:
      backupd key generate ops.identity
      backupd key generate --signer /etc/backupd/signing.key
    """
    if tenant_key:
        _refuse_beside("--tenant-key", name=name, recipient=recipient, passphrase_file=passphrase_file, signer=signer)
        return _made_tenant_key(file).print(as_json=as_json)
    if signer:
        _refuse_beside("--signer", name=name, recipient=recipient, passphrase_file=passphrase_file)
        return _made_signer(file).print(as_json=as_json)
    from backupd.operations.keys import generate_identity, require_new

    public = recipient or file.with_suffix(".recipient")
    require_new(file, public)
    passphrase = new_passphrase(passphrase_file, str(file))
    made = generate_identity(file, public, name or file.stem, passphrase)
    facts: dict[str, output.Cell] = {
        "identity": str(file),
        "recipient": str(public),
        "fingerprint": made.fingerprint,
    }
    return Reply(facts, output.fact_lines(facts)).print(as_json=as_json)


def check(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    identity: IdentityOption = None,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check that an identity opens the backups.

    Every keyring of the regions is opened with it and every key in it authenticated, without reading any data. An
    identity that opens none of them is reported as the wrong one.

    \b
    Example:
      backupd key check be --identity ops.identity
    """
    from backupd.operations.keys import check_identity
    from backupd.wiring.answering_store import suggesting_others
    from backupd.wiring.context import QUICKLY, open_repository

    context = load_context(ctx, config)
    places = [(name, place) for name in context.regions(region or []) for place in context.stores_of(name, store)]
    secret = open_identity(identity, passphrase_file).secret
    checks = []
    for name, place in places:
        with (
            counted_seconds(f"reading the keyrings on {place}", quiet=as_json),
            suggesting_others(context, name, place),
            open_repository(context, name, place, QUICKLY) as repository,
        ):
            note_signers(context, repository)
            with recipients_named(context):
                checks.append((name, place, check_identity(repository, secret)))
    if not any(keyrings for _, _, keyrings in checks):
        raise ObjectMissingError("there are no keyrings yet", hint="`backupd backup` writes the first one.")
    return for_each(checks, lambda one: _checked(*one), as_json=as_json).finish("stores")


def _checked(region: str, store: str, keyrings: list[CheckedKeyring]) -> Reply:
    """Return the reply of one store whose keyrings were opened with an identity."""
    opened = [ring for ring in keyrings if ring.opened]
    segments, shredded = sum(ring.segments for ring in opened), sum(ring.shredded for ring in opened)
    where = f"{region} on {store}"
    lines = [
        f"{where}: opens {len(opened)} of {counts(keyring=len(keyrings), segment=segments)}, {shredded} shredded",
        *(f"  not {ring.generation}/{ring.run}" for ring in keyrings if not ring.opened),
    ]
    status = 0 if len(opened) == len(keyrings) else KeyRefusedError.exit_code
    return Reply({"region": region, "store": store, "keyrings": keyrings}, lines, status=status)


def _refuse_beside(chosen: str, **others: object) -> None:
    for option, value in others.items():
        if value:
            raise UsageError(
                f"--{option.replace('_', '-')} means nothing with {chosen}",
                hint="Only an identity has a name, a recipient and a passphrase.",
            )


def _made_tenant_key(file: Path) -> Reply:
    from backupd.seal.tags import write_tenant_key

    write_tenant_key(file)
    return Reply({"tenant_key": str(file)}, output.fact_lines({"tenant key": str(file)}))


def _made_signer(file: Path) -> Reply:
    from backupd.seal.keyfiles import write_signer

    public = write_signer(file).public
    facts = {"signing key": str(file), "public": public}
    return Reply({"signing_key": str(file), "public": public}, output.fact_lines(facts))


def rotate(
    ctx: typer.Context,
    region: RegionArgument = None,
    store: StoresOption = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            "--identity",
            metavar="FILE",
            show_default=False,
            help="The identity file that opens the keyrings as they are.",
        ),
    ] = None,
    passphrase_file: PassphraseOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the keyrings, and change none.")] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Seal the keyrings on the stores to the configured recipients, and to nobody else. Runs on the keeper.

    First change `recipients` on every machine that writes: its next backup begins a new generation, with new keys, for
    these. Then this does the same for what is there already, with an identity that opens it, new or old. No key and no
    pack changes. The same command goes on with what was cut off. Somebody who copied a keyring while an identity of
    theirs opened it can read what it opens for good: `backupd manual incidents` says what to do then.

    \b
    Examples:
      backupd key rotate be --dry-run
      backupd key rotate be --identity ops.identity
    """
    from backupd.wiring.context import configured_recipients
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    places = [(name, context.stores_of(name, store)) for name in context.regions(region or [])]
    recipients = {recipient.public: recipient.name for recipient in configured_recipients(context)}
    keys = _Keys(recipients, None if dry_run and identity is None else open_identity(identity, passphrase_file).secret)

    def run(*, dry_run: bool) -> Results:
        with watched(context.clock, quiet=as_json) as trace:
            return for_each_store(
                places,
                lambda name: open_keeper(context, name, trace),
                lambda keeper, place: _rotate(keeper, place, keys, dry_run=dry_run),
                as_json=as_json,
            )

    if not dry_run and is_asked(yes=yes):
        planned = [reply.value["rekeying"] for reply in run(dry_run=True).replies if "rekeying" in reply.value]
        if keyrings := sum(one.rekeyed for one in planned):
            require_consent(f"Seal {counted(keyrings, 'keyring')} to these recipients, and to nobody else?")
    return run(dry_run=dry_run).finish("stores")


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a rotation."""

    recipients: dict[bytes, str]
    """The public keys of the configured recipients, with their names."""
    secret: bytes | None = field(repr=False)
    """The key of the identity that opens the keyrings; None for a dry run without one."""


def _rotate(keeper: Keeper, store: str, keys: _Keys, *, dry_run: bool) -> Reply:
    """Seal the keyrings of one store to the recipients, or count them."""
    from backupd.operations.keeper.rekey import preview_rekey, rekey

    if dry_run or keys.secret is None:
        done = preview_rekey(keeper, store, list(keys.recipients), keys.secret)
    else:
        done = rekey(keeper, store, list(keys.recipients), keys.secret)
    return Reply(
        {"region": keeper.region, "store": store, "dry_run": dry_run, "rekeying": done},
        rekeyed_lines(keeper.region, done, keys.recipients, dry_run=dry_run),
        status=_status(done),
    )


def _status(done: Rekeying) -> int:
    if done.damaged:
        return DamageError.exit_code
    return KeyRefusedError.exit_code if done.unopened else 0


def rekeyed_lines(region: str, done: Rekeying, names: Mapping[bytes, str], *, dry_run: bool) -> Iterator[str]:
    """Yield the lines about one store's keyrings; with the names by which people know recipients."""
    from backupd.seal.suite import fingerprint

    known = {fingerprint(public): name for public, name in names.items()}
    did = "would be rewritten" if dry_run else "rewritten"
    yield (
        f"{region} on {done.store}: {counted(done.keyrings, 'keyring')}, {done.rekeyed} {did}, "
        f"{done.already} sealed to the recipients already"
    )
    yield from (f"  recipient {one}{f' ({known[one]})' if one in known else ''}" for one in done.recipients)
    yield from (f"  the identity does not open '{name}'" for name in done.unopened)
    yield from (f"  {message}" for message in done.damaged)
