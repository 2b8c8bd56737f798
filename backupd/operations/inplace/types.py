"""The values that a restore in place takes, and the report that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backupd.model.ids import SnapshotName
from backupd.model.tenancy import Tenancy
from backupd.planning.inplace import Conflict, ConflictKind
from backupd.postgres.connect import Source

Before = Callable[[], str]
"""Backs up the database; returns the name of the snapshot it is now in."""


@dataclass(frozen=True, slots=True)
class InPlaceRequest:
    """The tenant whose rows to restore, the snapshot, and the running database."""

    label: str
    """The configured label of the database."""
    snapshot: str
    """`latest`, the beginning of a snapshot's name or hash, or a time."""
    target: Source
    database: str = field(repr=False)
    """The running database's name on the target."""
    tenant: str = field(repr=False)
    tenancy: Tenancy
    apply: bool = False
    """Whether anything is written; otherwise it is a preview."""
    before: Before | str | None = None
    """The function that backs the database up first, or a reference to a backup that was made; needed to apply."""
    accepted: frozenset[ConflictKind] = frozenset()
    """Kinds of conflicts that need not stop it."""
    triggers_fire: bool = False
    """Whether triggers and rules act as they do for all other writes."""
    lock_timeout: float = 10.0
    """Seconds for all tries to lock what is compared and written together, and for each row that is written."""
    report_key: Callable[[str, str, str], None] | None = field(default=None, repr=False)
    """Called with each row that differs: its table, `delete`, `update` or `insert`, and its key as JSON."""


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The changes of a restore to one table, in rows."""

    table: str = field(repr=False)
    """The table's name as `schema.table`."""
    deletes: int
    updates: int
    inserts: int
    keyed: bool
    """Whether a key identifies rows; otherwise all their columns do."""


@dataclass(frozen=True, slots=True)
class InPlaceReport:
    """The differences, the conflicts, and what was done."""

    snapshot: SnapshotName
    exported: str
    label: str
    tables: tuple[TableChanges, ...]
    """The tables that differ, sorted by name."""
    rows: int
    """Rows of the tenant in the snapshot."""
    conflicts: tuple[Conflict, ...]
    blocked: bool
    """Whether a conflict forbids writing."""
    applied: bool
    triggers: str
    """Either `off` or `fire`: whether triggers and rules acted."""
    before: str | None
    """The snapshot made before, or the reference given instead."""
    others: int
    """Rows of others whose digests were compared before and after."""
    sequences: int
    """Number of sequences that were raised."""
    settled: bool | None
    """Whether the tenant's rows were still those of the snapshot after the commit; None when nothing was committed."""
    phases: tuple[tuple[str, float], ...]
    seconds: float
    noted: bool
    """Whether the restore was appended to the ledger."""
