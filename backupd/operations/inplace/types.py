"""What a restore in place needs and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backupd.model.ids import SnapshotName
from backupd.model.tenancy import Tenancy
from backupd.planning.inplace import Conflict, ConflictKind
from backupd.postgres.connect import Source

Before = Callable[[], str]
"""Backs up the database, and says which snapshot it is now in."""


@dataclass(frozen=True, slots=True)
class InPlaceRequest:
    """Whose rows, of which snapshot, into which running database."""

    label: str
    snapshot: str
    """`latest`, the beginning of a snapshot's name or hash, or a time."""
    target: Source
    database: str = field(repr=False)
    """The running database's name on the target."""
    tenant: str = field(repr=False)
    tenancy: Tenancy
    apply: bool = False
    """Whether anything is written."""
    before: Before | str | None = None
    """What backs the tenant up before anything is written, or a reference to what did; needed to apply."""
    accepted: frozenset[ConflictKind] = frozenset()
    """Conflicts that need not stop it."""
    triggers_fire: bool = False
    """Whether triggers and rules act as they do for everybody."""
    lock_timeout: float = 10.0
    """Seconds, for all tries to lock what is compared and written together, and for each row that is written."""
    report_key: Callable[[str, str, str], None] | None = field(default=None, repr=False)
    """Is given each row that differs: its table, `delete`, `update` or `insert`, and its key as JSON."""


@dataclass(frozen=True, slots=True)
class TableChanges:
    """What a restore does to one table, in rows."""

    table: str = field(repr=False)
    """`schema.table`."""
    deletes: int
    updates: int
    inserts: int
    keyed: bool
    """Whether rows are told apart by a key; else only by all they hold."""


@dataclass(frozen=True, slots=True)
class InPlaceReport:
    """What differs, what stands in the way, and what was done."""

    snapshot: SnapshotName
    exported: str
    label: str
    tables: tuple[TableChanges, ...]
    """That differ."""
    rows: int
    """Of the tenant in the snapshot."""
    conflicts: tuple[Conflict, ...]
    blocked: bool
    """Whether a conflict forbids writing."""
    applied: bool
    triggers: str
    """`off` or `fire`."""
    before: str | None
    """The snapshot made before, or the reference given instead."""
    others: int
    """Rows of others whose digests were compared before and after."""
    sequences: int
    """Raised."""
    settled: bool | None
    """Whether the tenant's rows were still those of the snapshot after the commit; None: nothing was committed."""
    phases: tuple[tuple[str, float], ...]
    seconds: float
    noted: bool
    """Whether the ledger was told."""
