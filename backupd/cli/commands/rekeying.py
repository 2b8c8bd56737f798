"""`key rotate`: who may read what lies on the stores already."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backupd.cli import failures, output
from backupd.cli.options import (
    ConfigOption,
    JsonOption,
    PassphraseOption,
    RegionArgument,
    StoresOption,
    load_context,
)
from backupd.cli.passphrase import open_identity
from backupd.cli.progress import watched
from backupd.errors import BackupdError, DamageError, KeyRefusedError

if TYPE_CHECKING:
    from backupd.operations.keeper.rekeying import Rekeying
    from backupd.operations.keeper.values import Keeper


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
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Seal the keyrings on the stores to the configured recipients, and to nobody else. Runs on the keeper.

    First change `recipients` on every machine that writes: its next backup begins a new generation, with new keys, for
    these. Then this does the same for what is there already, with an identity that opens it, new or old. No key and no
    pack changes. What was cut off is gone on with by giving the command again. Who copied a keyring while an identity
    of theirs opened it can read what it opens for good: `backupd manual incidents` says what to do then.

    \b
    Examples:
      backupd key rotate be --dry-run
      backupd key rotate be --identity ops.identity
    """
    from backupd.wiring.context import configured_recipients
    from backupd.wiring.keeper import open_keeper

    context = load_context(ctx, config)
    places = [(name, context.stores_of(name, store)) for name in context.regions(region or [])]
    recipients = [recipient.public for recipient in configured_recipients(context)]
    keys = _Keys(recipients, None if dry_run and identity is None else open_identity(identity, passphrase_file).secret)
    told: list[dict[str, Any]] = []
    status = 0
    with watched(context.clock, quiet=as_json) as trace:
        for name, stores in places:
            with open_keeper(context, name, trace) as keeper:
                for place in stores:
                    try:
                        done = _rotate(keeper, place, keys, dry_run=dry_run)
                    except BackupdError as error:
                        status = status or error.exit_code
                        told.append({"region": name, "store": place, "error": failures.as_object(error)})
                        if not as_json:
                            failures.print_failure(error, f"{name} on {place}")
                        continue
                    status = status or _status(done)
                    told.append({"region": name, "store": place, "dry_run": dry_run, "rekeying": done})
                    if not as_json:
                        output.print_lines(_lines(name, done, dry_run=dry_run))
    if as_json:
        output.print_json({"stores": told})
    return status


@dataclass(frozen=True, slots=True)
class _Keys:
    recipients: list[bytes]
    """Public keys."""
    secret: bytes | None = field(repr=False)


def _rotate(keeper: Keeper, store: str, keys: _Keys, *, dry_run: bool) -> Rekeying:
    from backupd.operations.keeper.rekeying import look_at_recipients, rekey

    if dry_run or keys.secret is None:
        return look_at_recipients(keeper, store, keys.recipients, keys.secret)
    return rekey(keeper, store, keys.recipients, keys.secret)


def _status(done: Rekeying) -> int:
    if done.damaged:
        return DamageError.exit_code
    return KeyRefusedError.exit_code if done.unopened else 0


def _lines(region: str, done: Rekeying, *, dry_run: bool) -> Iterator[str]:
    did = "would be put anew" if dry_run else "put anew"
    yield (
        f"{region} on {done.store}: {done.keyrings} keyrings, {done.rekeyed} {did}, "
        f"{done.already} were sealed to the recipients already"
    )
    yield from (f"  recipient {recipient}" for recipient in done.recipients)
    yield from (f"  the identity does not open '{name}'" for name in done.unopened)
    yield from (f"  {message}" for message in done.damaged)
