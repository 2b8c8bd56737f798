"""What a drill needs and what it answers.

What the checks of one drill look at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.documents import Record
from backupd.model.ids import SnapshotName
from backupd.model.inventory import Table, TableName
from backupd.model.manifest import Span
from backupd.model.report import Check, CheckFinding, CheckName, Objectives, Report
from backupd.model.tenancy import MappedTable, Tenancy
from backupd.planning.drill import Chosen
from backupd.planning.restore import RestorePlan
from backupd.postgres.connect import Source
from backupd.postgres.target.foreign_keys import BrokenKey
from backupd.repository.repository import Repository
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import Trace

if TYPE_CHECKING:
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore.choose import OpenedChoice
    from backupd.operations.restore.contents import SnapshotContents


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
class DrillEnvironment:
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


SpansByTenant = dict[str | None, list["Span"]]
"""What a table's rows of each tenant (None: nobody's) must be."""


@dataclass(frozen=True, slots=True)
class DrilledSnapshot:
    """The snapshot under drill."""

    repository: Repository
    chosen: Chosen
    record: Record
    """As it was written, with all its parts."""
    choice: OpenedChoice
    """What of it was to be restored."""
    history: LedgerHistory
    tenant: str | None = field(default=None, repr=False)
    """The one that is restored, with what is shared; None: all are."""

    @property
    def database(self) -> str:
        """The real name. May be a tenant's."""
        return self.choice.keys[self.choice.record.parts[0][0]].name.database


@dataclass(frozen=True, slots=True)
class TableToCompare:
    """One table whose rows are to be held against what they must be."""

    table: Table
    mapped: MappedTable
    expected: SpansByTenant


@dataclass(frozen=True, slots=True)
class RowComparison:
    """What a look at rows came to."""

    tasks: tuple[TableToCompare, ...] = field(repr=False)
    rows: Counter[str | None] = field(repr=False)
    """There, by tenant."""
    faults: tuple[tuple[str | None, str], ...] = field(repr=False)
    """A tenant, and what is wrong with its rows of one table."""
    segments: int
    strangers: frozenset[str] = field(repr=False)
    """Tenants with rows in a table that must have none of theirs."""


@dataclass(slots=True)
class RestoredDatabase:
    """The restored database, and what it must be."""

    source: Source
    contents: SnapshotContents
    plan: RestorePlan
    roles: frozenset[str] = frozenset()
    """Those the server had before."""
    broken_keys: tuple[BrokenKey, ...] = ()
    """Foreign keys that cannot hold, because rows they refer to were purged."""
    compared: RowComparison | None = None
    """None until rows were."""


@dataclass(frozen=True, slots=True)
class DrillScene:
    """All of it."""

    environment: DrillEnvironment
    subject: DrilledSnapshot
    restored: RestoredDatabase


@dataclass(slots=True)
class Findings:
    """What one check comes upon, counted."""

    name: CheckName
    examined: int = 0
    _counts: Counter[str] = field(default_factory=Counter)
    _notes: Counter[str] = field(default_factory=Counter)

    def add(self, code: str, count: int = 1) -> None:
        """Something that fails the check; nothing when it is none."""
        self._counts[code] += count

    def note(self, code: str, count: int = 1) -> None:
        """Something to be seen that is no fault."""
        self._notes[code] += count

    def check(self) -> Check:
        faults, notes = +self._counts, +self._notes
        verdict: Literal["pass", "fail"] = "fail" if faults else "pass"
        return Check.of(self.name, verdict, self.examined, _listed([*faults.items(), *notes.items()]))


def skipped(name: CheckName, because: str) -> Check:
    return Check.of(name, "skip", 0, [CheckFinding(because)])


def undecided(name: CheckName, because: str, count: int = 1) -> Check:
    """The check could not be made, though it should have been."""
    return Check.of(name, "error", 0, [CheckFinding(because, count)])


def expected_rows(subject: DrilledSnapshot, plan: RestorePlan) -> dict[TableName, SpansByTenant]:
    """Every table's rows by tenant, as the manifests list them."""
    found: dict[TableName, SpansByTenant] = defaultdict(dict)
    keys, parts = subject.choice.keys, subject.choice.record.parts
    for bundles in plan.passes:
        for bundle in bundles:
            for piece in bundle:
                table = plan.tables[piece.table]
                tenant = keys[parts[piece.part][0]].name.tenant
                spans, _ = piece.unpacked()
                found[TableName(table.schema, table.name)].setdefault(tenant, []).extend(spans)
    return found


def _listed(counts: Iterable[tuple[str, int]]) -> list[CheckFinding]:
    return [CheckFinding(code, count) for code, count in counts]
