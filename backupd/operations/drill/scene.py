"""What the checks of one drill look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from backupd.model.inventory import TableName
from backupd.model.stored.report import Check, CheckFinding, CheckName

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.inventory import Table
    from backupd.model.routes import MappedTable
    from backupd.model.stored.documents import Record
    from backupd.model.stored.manifest import Span
    from backupd.operations.drill.values import DrillWorld
    from backupd.operations.restore.choosing import OpenedChoice
    from backupd.operations.restore.contents import SnapshotContents
    from backupd.operations.verify.ledger import LedgerHistory
    from backupd.planning.drill import Chosen
    from backupd.planning.restoring.restore import RestorePlan
    from backupd.postgres.connect import Source
    from backupd.postgres.target.keys import BrokenKey

Segments = dict[str | None, list["Span"]]
"""What a table's rows of each tenant (None: nobody's) must be."""


@dataclass(frozen=True, slots=True)
class Subject:
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
    expected: Segments


@dataclass(frozen=True, slots=True)
class Compared:
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
    compared: Compared | None = None
    """None until rows were."""


@dataclass(frozen=True, slots=True)
class Scene:
    """All of it."""

    world: DrillWorld
    subject: Subject
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


def expected_rows(subject: Subject, plan: RestorePlan) -> dict[TableName, Segments]:
    """Every table's rows by tenant, as the manifests list them."""
    found: dict[TableName, Segments] = defaultdict(dict)
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
