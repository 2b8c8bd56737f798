"""The task that every restore works on, made from the options that all of them share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from re import fullmatch
from typing import TYPE_CHECKING

from backupd.cli.commands.store import note_signers
from backupd.cli.options import ledger_head, load_context, open_identity, recipients_named
from backupd.cli.progress import watched
from backupd.errors import UsageError
from backupd.model.ledger import REFERENCE

if TYPE_CHECKING:
    import typer

    from backupd.cli.commands.restore.options import SnapshotOptions
    from backupd.model.ids import RegionName
    from backupd.model.ledger import Restored
    from backupd.operations.restore import RestoreEnvironment
    from backupd.operations.restore.preview import Rates
    from backupd.repository.repository import Repository
    from backupd.trace import Trace
    from backupd.wiring.context import Context

_NOT_NOTED = (
    "The restore is done. Its entry in the ledger goes to every store that answers, whichever was read from;"
    " {0} gets it with the keeper's next run."
)


@dataclass(frozen=True, slots=True)
class RestoreTask:
    """A region's repository on one store, and the surroundings of a restore."""

    context: Context
    region: RegionName
    repository: Repository
    world: RestoreEnvironment

    @property
    def store(self) -> str:
        """Return the configured name of the store that is read."""
        return self.world.store or ""

    def rates(self, label: str) -> Rates | None:
        """Return how fast restores of a database were on this machine; None where none was measured."""
        from backupd.operations.restore.preview import read_rates
        from backupd.wiring.restore import rates_file

        return read_rates(rates_file(self.context, self.region, label))


def configured(
    ctx: typer.Context, options: SnapshotOptions, region: str, database: str | None
) -> tuple[Context, RegionName]:
    """Return the configuration, and the region in it that is meant.

    Raises ConfigError, UsageError for a region or database that is not configured.
    """
    context = load_context(ctx, options.config)
    place = context.regions([region])[0]
    if database is not None:
        context.databases(place, database)
    return context, place


@contextmanager
def opened(context: Context, region: RegionName, options: SnapshotOptions) -> Iterator[RestoreTask]:
    """Open the identity and the repository, once the region's rows may be on this machine.

    Raises UsageError, ConfigError, RefusedError, KeyRefusedError, and the store's errors.
    """
    from backupd.wiring.answering_store import open_answering, warn_of_newer

    _require_residency(context, region, options.override)
    pair = open_identity(options.identity, options.passphrase_file)
    with (
        watched(context.clock, quiet=options.as_json) as trace,
        recipients_named(context),
        open_answering(context, region, options.store, trace) as (store, repository),
    ):
        note_signers(context, repository)
        if options.store is None and options.snapshot == "latest":
            warn_of_newer(context, region, (store, repository), trace)
        world = replace(_world(context, region, options, trace, pair.secret), store=store)
        yield RestoreTask(context, region, repository, world)


def _require_residency(context: Context, region: RegionName, override: str | None) -> None:
    if override is not None and (fullmatch(REFERENCE, override) is None or context.config.keeper is None):
        raise UsageError(
            "--override takes the number of a decision, on a keeper",
            hint="The ledger keeps it, and only a keeper writes that; it is never a sentence.",
        )
    context.require_residency(region, override)


def _world(
    context: Context, region: RegionName, options: SnapshotOptions, trace: Trace, secret: bytes
) -> RestoreEnvironment:
    from backupd.operations.restore import RestoreEnvironment
    from backupd.wiring.context import known_ledger_copy

    return RestoreEnvironment(
        secret,
        context.clock,
        trace,
        os.urandom,
        own_ledger=known_ledger_copy(context, region),
        at_least=ledger_head(options.ledger_at_least),
        override=options.override,
        note=_ledger_note(context, region, trace),
    )


def _ledger_note(context: Context, region: RegionName, trace: Trace) -> Callable[[Restored], None] | None:
    """Return the function that writes a restore into the ledger; None on a machine that is no keeper."""
    from backupd.wiring.context import QUICKLY
    from backupd.wiring.keeper import open_keeper

    if context.config.keeper is None:
        return None

    def note(event: Restored) -> None:
        # The restore is done, and another store gets the entry with the keeper's next run: nobody waits for it.
        with open_keeper(context, region, trace, QUICKLY, _NOT_NOTED) as keeper:
            keeper.book.append(lambda _: [event])

    return note
