"""The values that a drill takes, those that its checks share, and its outcome."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.documents import Record
from backupd.model.ids import SnapshotName
from backupd.model.inventory import Table, TableName
from backupd.model.manifest import Span
from backupd.model.report import Check, CheckFinding, CheckName, Objectives, Report, every_check
from backupd.model.tenancy import MappedTable, Tenancy
from backupd.model.text import counted
from backupd.operations.drill.named_findings import FindingNames, NamedFinding
from backupd.planning.drill import Chosen
from backupd.planning.restore import RestorePlan
from backupd.postgres.connect import Source
from backupd.postgres.target.finish import UnfilledView
from backupd.postgres.target.foreign_keys import BrokenKey
from backupd.repository.repository import Repository
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import Trace

if TYPE_CHECKING:
    from backupd.operations.drill.checks.row_sets import SetsByTenant
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore.contents import SnapshotContents
    from backupd.operations.restore.opened_choice import OpenedChoice


@dataclass(frozen=True, slots=True)
class Assertion:
    """An operator's own query, and the number it must return."""

    name: str
    """At most 40 characters of `a-z0-9-`: the name stands in reports."""
    database: str
    """The configured label of the database to query."""
    sql: str = field(repr=False)
    """One SELECT that returns one whole number."""
    exact: int | None = None
    least: int | None = None

    def holds(self, number: int) -> bool:
        return (self.exact is None or number == self.exact) and (self.least is None or number >= self.least)


@dataclass(frozen=True, slots=True)
class DrillPlace:
    """The place where a drill's server runs, and how much it may take."""

    parent: Path
    """Folder for scratch servers."""
    folders: tuple[Path, ...]
    """Folders where PostgreSQL's programs are looked for first."""
    user: str | None
    """The account that runs the server when backupd runs as root."""
    size: int
    """Bytes that the server's files may take on the disk."""
    restore_limit: timedelta
    check_limit: timedelta
    memory: int = 2 << 30
    """Bytes that one process of the server may have; its caches and sorts are made to fit."""
    preload: tuple[str, ...] = ()
    """Libraries that the server loads when it starts, where they are installed."""
    target: Source | None = None
    """A server that was set aside for drills; None when each drill makes its own."""


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """The snapshot to drill, and the kind of drill."""

    database: str | None = None
    """Label of the database to drill; None for the one whose turn it is."""
    snapshot: str | None = None
    """Name or time as for a restore; None for the snapshot whose turn it is."""
    seed: str = "0"
    """Hex digits that decide the turns of the random rule."""
    tenant: str | None = field(default=None, repr=False)
    """The only tenant to restore, with what is shared; None to restore all."""
    explain: bool = False
    """Whether somebody looks at what is found: an object that PostgreSQL refuses is named then and left out, where
    another drill ends."""
    damage: bool = False
    """Whether the drill damages what it fetches, which must be noticed."""
    trigger: str = "command"
    """What started the drill: `timetable`, `catch-up` or `command`."""
    scheduled: datetime | None = None
    """The instant that the timetable had for the drill; None when somebody asked for it."""


def _nothing(_: Source) -> None:
    """Do nothing between restore and checks; only tests do something there."""


@dataclass(frozen=True, slots=True)
class DrillEnvironment:
    """The keys, clock, randomness, settings and earlier reports that a drill uses."""

    identity: bytes = field(repr=False)
    """The secret half of the drill's own identity."""
    place: DrillPlace
    clock: Clock
    trace: Trace
    random: Callable[[int], bytes] = field(repr=False)
    machine: str
    store: str
    """The configured name of the store that is restored from."""
    tenancies: Mapping[str, Tenancy]
    """Tenancy rules by the databases' labels."""
    objectives: Objectives
    assertions: tuple[Assertion, ...] = ()
    escrow: bytes | None = field(default=None, repr=False)
    """The secret half of the identity that is kept for a disaster; None when it is not tried."""
    production: tuple[Source, ...] = ()
    """Databases that are backed up: no drill may touch a server of theirs."""
    past: tuple[Report, ...] = ()
    """Reports of earlier drills of the region, oldest first."""
    own_ledger: Store | None = None
    location: str | None = None
    """Where this machine is, as configured."""
    tags: TenantTags | None = field(default=None, repr=False)
    """Makes the id by which a report names a tenant; None when it names none."""
    between: Callable[[Source], None] = _nothing
    """Called with the restored database before it is checked."""
    between_again: Callable[[Source], None] = _nothing
    """Called with the database that the canary check restored."""


@dataclass(frozen=True, slots=True)
class DrillOutcome:
    """The end of a drill: its report, and the error that stopped it."""

    report: Report
    snapshot: SnapshotName | None
    error: BackupdError | None = None
    """The reason why there is no verdict, or on which the verdict rests."""
    named: tuple[NamedFinding, ...] = field(default=(), repr=False)
    """What the report's findings are about, by name; never to be kept."""


SpansByTenant = dict[str | None, list["Span"]]
"""The spans that a table's rows of each tenant (None for nobody's) must have."""


@dataclass(frozen=True, slots=True)
class DrilledSnapshot:
    """The snapshot under drill, opened."""

    repository: Repository
    chosen: Chosen
    record: Record
    """The record as it was written."""
    choice: OpenedChoice
    """What of the snapshot was to be restored, with its keys."""
    history: LedgerHistory
    tenant: str | None = field(default=None, repr=False)
    """The only tenant that is restored, with what is shared; None when all are."""
    alike: frozenset[SnapshotName] = frozenset()
    """The snapshots of the same database that are there, also where its label has several."""

    @property
    def database(self) -> str:
        """The real name of the database, which may be a tenant's."""
        return self.choice.name_of(self.choice.segments[0]).database


@dataclass(frozen=True, slots=True)
class TableToCompare:
    """A table whose rows are to be compared with the spans that they must have."""

    table: Table
    mapped: MappedTable
    expected: SpansByTenant
    encoding: str = "UTF8"
    """PostgreSQL's name of the encoding in which the rows were read."""
    root: TableName | None = None
    """The table through which this partition was filled, as its rows may belong into others here; they are compared
    with those of all partitions below the root."""


class RowFault(NamedTuple):
    """Rows of one tenant (None for nobody's) in a table that are not those that they must be."""

    tenant: str | None
    code: str
    table: TableName
    expected: int
    found: int

    def __repr__(self) -> str:
        return f"RowFault({self.code})"

    @property
    def what(self) -> str:
        """The table and the tenant."""
        whose = "shared rows" if self.tenant is None else f'tenant "{self.tenant}"'
        return f"{self.table.schema}.{self.table.table}, {whose}"

    @property
    def details(self) -> list[str]:
        """The number of rows that there must be, and of those that are there."""
        return [f"- {counted(self.expected, 'row')}", f"+ {counted(self.found, 'row')}"]


@dataclass(frozen=True, slots=True)
class RowComparison:
    """The result of comparing tables' rows with their spans."""

    tasks: tuple[TableToCompare, ...] = field(repr=False)
    rows: Counter[str | None] = field(repr=False)
    """Rows found, by tenant."""
    faults: tuple[RowFault, ...] = field(repr=False)
    segments: int
    """Segments of tables that were compared."""
    strangers: frozenset[str] = field(repr=False)
    """Tenants with rows in a table that must have none of theirs."""
    sets: SetsByTenant = field(default_factory=dict, repr=False)
    """The rows that must be below each root."""


@dataclass(frozen=True, slots=True)
class RestoredDatabase:
    """The restored database, with the contents and the plan it was restored from."""

    source: Source
    contents: SnapshotContents
    plan: RestorePlan
    roles: frozenset[str] = frozenset()
    """Roles that the server had before."""
    broken_keys: tuple[BrokenKey, ...] = ()
    """Foreign keys that cannot hold, because rows they refer to were purged."""
    unfilled_views: tuple[UnfilledView, ...] = ()
    """Materialized views whose query failed."""


@dataclass(frozen=True, slots=True)
class DrillScene:
    """Everything that the checks of a drill look at."""

    environment: DrillEnvironment
    subject: DrilledSnapshot
    restored: RestoredDatabase
    names: FindingNames = field(default_factory=FindingNames, repr=False)
    """Takes what findings are about."""


@dataclass(slots=True)
class Findings:
    """The findings of one check, counted by code."""

    name: CheckName
    examined: int = 0
    names: FindingNames = field(default_factory=FindingNames, repr=False)
    """Takes what the findings are about."""
    _counts: Counter[str] = field(default_factory=Counter)
    _notes: Counter[str] = field(default_factory=Counter)

    def add(self, code: str, count: int = 1) -> None:
        """Count a fault, which fails the check; a count of 0 is no fault."""
        self._counts[code] += count

    def note(self, code: str, count: int = 1) -> None:
        """Count something that is shown and is no fault."""
        self._notes[code] += count

    def one(self, code: str, what: str, details: Iterable[str] = ()) -> None:
        """Count one thing as a fault, and keep its name with lines on how it differs."""
        self.add(code)
        self.name_it(code, what, details)

    def each(self, code: str, things: Iterable[str]) -> None:
        """Count each of these things as a fault, and keep its name."""
        for what in things:
            self.one(code, what)

    def name_it(self, code: str, what: str, details: Iterable[str] = ()) -> None:
        """Keep the name of something that is counted elsewhere, and lines on how it differs."""
        self.names.add(self.name, code, what, details)

    def check(self) -> Check:
        """Return the check with its verdict and findings."""
        faults, notes = +self._counts, +self._notes
        verdict: Literal["pass", "fail"] = "fail" if faults else "pass"
        return Check.of(self.name, verdict, self.examined, _listed([*faults.items(), *notes.items()]))


def bounded(check: Check, most: int) -> Check:
    """Return a check no number of which is more than `most`.

    The server's numbers are the word of code that was restored, and a report is published: large ones could say
    anything. `backupd manual trust`, row *its answers to a drill's checks*.
    """
    findings = [CheckFinding(found.code, min(found.count, most)) for found in check.findings]
    return Check.of(check.name, check.verdict, min(check.examined, most), findings)


def skipped(name: CheckName, because: str) -> Check:
    """Return a check that was not to be made, with the reason's code."""
    return Check.of(name, "skip", 0, [CheckFinding(because)])


def checks_reported(made: Iterable[Check], *, damage: bool) -> list[Check]:
    """Return every check for a report: those made, and why each other one was not."""
    checks = every_check(made, "not-asked" if damage else "not-reached")
    if damage:
        return checks
    # Damage has its turn in another drill: this one has not ended before it.
    return [skipped(one.name, "not-asked") if one.name is CheckName.DAMAGE else one for one in checks]


def undecided(name: CheckName, because: str, count: int = 1) -> Check:
    """Return a check that could not be made, though it should have been, with the reason's code."""
    return Check.of(name, "error", 0, [CheckFinding(because, count)])


def expected_rows(subject: DrilledSnapshot, plan: RestorePlan) -> dict[TableName, SpansByTenant]:
    """Return every table's spans by tenant, as the manifests list them."""
    found: dict[TableName, SpansByTenant] = defaultdict(dict)
    tenants = [subject.choice.name_of(segment).tenant for segment in subject.choice.segments]
    for bundles in plan.passes:
        for bundle in bundles:
            for piece in bundle:
                table = plan.tables[piece.table]
                spans, _ = piece.unpacked()
                ours = found[TableName(table.schema, table.name)].setdefault(tenants[piece.segment], [])
                ours.extend(spans)
    return found


def _listed(counts: Iterable[tuple[str, int]]) -> list[CheckFinding]:
    return [CheckFinding(code, count) for code, count in counts]
