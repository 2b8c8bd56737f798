"""What a drill needs and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.ids import SnapshotName
from backupd.model.stored.report import Objectives, Report
from backupd.model.tenancy import Tenancy
from backupd.postgres.connect import Source
from backupd.seal.keys.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import Trace


@dataclass(frozen=True, slots=True)
class Assertion:
    """A query of the operator's own, and the number it must return."""

    name: str
    """Of `a-z0-9-`, at most 40: it stands in reports."""
    database: str
    """The configured label."""
    sql: str = field(repr=False)
    """One SELECT that returns one whole number."""
    exact: int | None = None
    least: int | None = None

    def holds(self, number: int) -> bool:
        return (self.exact is None or number == self.exact) and (self.least is None or number >= self.least)


@dataclass(frozen=True, slots=True)
class DrillPlace:
    """Where a drill's server runs, and how much it may take."""

    parent: Path
    """Folder for scratch servers."""
    folders: tuple[Path, ...]
    """Where PostgreSQL's programs are looked for first."""
    user: str | None
    """Who runs the server where we are root."""
    size: int
    """Bytes it may take on the disk."""
    restore_limit: timedelta
    check_limit: timedelta
    memory: int = 2 << 30
    """Bytes that one process of the server may have; its caches and sorts are made to fit."""
    target: Source | None = None
    """A server that was set aside for drills; None: each makes its own."""


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """What to drill."""

    database: str | None = None
    """Only this label; None: the one whose turn it is."""
    snapshot: str | None = None
    """As for a restore; None: the one whose turn it is."""
    seed: str = "0"
    """Hex digits, for the turns of the random rule."""
    tenant: str | None = field(default=None, repr=False)
    """Only this one is restored, with what is shared; None: all are."""
    damage: bool = False
    """Whether this is a drill that damages what it fetches, and must notice."""
    trigger: str = "command"
    scheduled: datetime | None = None


def _nothing(_: Source) -> None:
    """What happens between restore and checks, but for tests."""


@dataclass(frozen=True, slots=True)
class DrillWorld:
    """What a drill takes from outside."""

    identity: bytes = field(repr=False)
    """Secret half of the drill's own identity."""
    place: DrillPlace
    clock: Clock
    trace: Trace
    random: Callable[[int], bytes] = field(repr=False)
    machine: str
    store: str
    """The configured name of the store that is restored from."""
    tenancies: Mapping[str, Tenancy]
    """By label."""
    objectives: Objectives
    assertions: tuple[Assertion, ...] = ()
    escrow: bytes | None = field(default=None, repr=False)
    """Secret half of the identity that is kept for a disaster; None: it is not tried."""
    production: tuple[Source, ...] = ()
    """Databases that are backed up: no drill may touch a server of theirs."""
    past: tuple[Report, ...] = ()
    """Reports of earlier drills of the region, oldest first."""
    own_ledger: Store | None = None
    location: str | None = None
    """Where this machine is."""
    tags: TenantTags | None = field(default=None, repr=False)
    """By which a tenant is called in a report; None: it is not."""
    between: Callable[[Source], None] = _nothing
    """Called with the restored database before it is checked."""
    between_again: Callable[[Source], None] = _nothing
    """The same with what was restored a second time."""


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """A drill that ended."""

    report: Report
    snapshot: SnapshotName | None
    error: BackupdError | None = None
    """Why there is no verdict, or what the verdict rests on."""
