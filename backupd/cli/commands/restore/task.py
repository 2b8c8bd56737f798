"""What every restore has at hand, made from the options that all of them share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from re import fullmatch
from typing import TYPE_CHECKING

from backupd.cli.commands.store import tell_signers
from backupd.cli.options import wired
from backupd.cli.passphrase import open_identity
from backupd.cli.progress import watched
from backupd.errors import UsageError
from backupd.model.stored.ledger import REFERENCE

if TYPE_CHECKING:
    import typer

    from backupd.catalog.repository import Repository
    from backupd.cli.commands.restore.options import SnapshotOptions
    from backupd.model.ids import RegionName
    from backupd.model.stored.ledger import Restored
    from backupd.operations.restore import World
    from backupd.operations.restore.paper.rates import Rates
    from backupd.trace import Trace
    from backupd.wiring import Wiring


@dataclass(frozen=True, slots=True)
class RestoreTask:
    """A region's repository on one store, and what a restore takes from outside."""

    wiring: Wiring
    region: RegionName
    repository: Repository
    world: World

    @property
    def store(self) -> str:
        """The configured name of the store that is read."""
        return self.world.store or ""

    def rates(self, label: str) -> Rates | None:
        """How fast restores of a database were on this machine; None where none was measured."""
        from backupd.operations.restore.paper.rates import read_rates

        return read_rates(self.wiring.rates_file(self.region, label))


def configured(
    context: typer.Context, options: SnapshotOptions, region: str, database: str | None
) -> tuple[Wiring, RegionName]:
    """The configuration, and in it the region that is meant.

    Raises ConfigError, UsageError for a region or database that is not configured.
    """
    wiring = wired(context, options.config)
    place = wiring.regions([region])[0]
    if database is not None:
        wiring.databases(place, database)
    return wiring, place


@contextmanager
def opened(wiring: Wiring, region: RegionName, options: SnapshotOptions) -> Iterator[RestoreTask]:
    """Open the identity and the repository, once the region's rows may be on this machine.

    Raises UsageError, ConfigError, RefusedError, KeyRefusedError, and the store's errors.
    """
    _require_residency(wiring, region, options.override)
    pair = open_identity(options.identity, options.passphrase_file)
    with (
        wiring.repository(region, options.store) as repository,
        watched(wiring.clock, quiet=options.as_json) as trace,
    ):
        tell_signers(wiring, repository)
        yield RestoreTask(wiring, region, repository, _world(wiring, region, options, trace, pair.secret))


def _require_residency(wiring: Wiring, region: RegionName, override: str | None) -> None:
    if override is not None and (fullmatch(REFERENCE, override) is None or wiring.config.keeper is None):
        raise UsageError(
            "--override takes the number of a decision, on a keeper",
            hint="The ledger keeps it, and only a keeper writes that; it is never a sentence.",
        )
    wiring.require_residency(region, override)


def _world(wiring: Wiring, region: RegionName, options: SnapshotOptions, trace: Trace, secret: bytes) -> World:
    from backupd.operations.restore import World

    return World(
        secret,
        wiring.clock,
        trace,
        os.urandom,
        store=wiring.stores_of(region, options.store)[0],
        own_ledger=wiring.known_ledger(region),
        override=options.override,
        note=_ledger_note(wiring, region, trace),
    )


def _ledger_note(wiring: Wiring, region: RegionName, trace: Trace) -> Callable[[Restored], None] | None:
    """What writes a restore into the ledger; None but on a keeper."""
    if wiring.config.keeper is None:
        return None

    def note(event: Restored) -> None:
        with wiring.keeper(region, trace) as keeper:
            keeper.book.append(lambda _: [event])

    return note
