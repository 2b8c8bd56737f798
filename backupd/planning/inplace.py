"""The conflicts that prevent restoring a tenant in place, with their sentences, and the order to write tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class ConflictKind(StrEnum):
    """The kinds of conflicts. Values are stable, because they are printed and named in `--accept`."""

    TABLE_GONE = "table-gone"
    TABLE_NEW = "table-new"
    ROUTE_CHANGED = "route-changed"
    CLASS_MISSING = "class-missing"
    COLUMN_GONE = "column-gone"
    COLUMN_NEW = "column-new"
    COLUMN_REQUIRED = "column-required"
    TYPE_CHANGED = "type-changed"
    CHECK = "check"
    PRIMARY_KEY = "primary-key-taken"
    UNIQUE_KEY = "unique-key-taken"
    EXCLUDED = "exclusion"
    REFERENCE_GONE = "shared-row-gone"
    REFERENCE_CHANGED = "shared-row-changed"
    REFERENCE_LOST = "other-row-gone"
    REFERRED = "referred-to"
    TRIGGERS = "triggers"
    ALWAYS_FIRES = "triggers-always"
    ROW_SECURITY = "row-security"
    PRIVILEGE = "privilege"
    DEFERRABLE = "deferrable-key"
    CYCLE = "cycle"
    FOREIGN_CODE = "owners-code"


SENTENCES: Mapping[ConflictKind, tuple[str, str]] = {
    ConflictKind.TABLE_GONE: (
        "rows of tables that are not there any more",
        "Create the table as it was, or restore into a new database and migrate it.",
    ),
    ConflictKind.TABLE_NEW: (
        "rows in tables that did not exist at the snapshot",
        "--accept table-new leaves them as they are; or delete the tenant's rows there first.",
    ),
    ConflictKind.ROUTE_CHANGED: (
        "rows of tables that belonged to others at the snapshot, by the rules of that time",
        "Which rows were the tenant's cannot be told: restore into a new database.",
    ),
    ConflictKind.CLASS_MISSING: (
        "rows of data classes of which the snapshot holds nothing of this tenant, while some of it was purged",
        "Choose a newer snapshot, or restore into a new database: here the rows would only be deleted.",
    ),
    ConflictKind.COLUMN_GONE: (
        "columns of the snapshot that are not there any more, or are generated now",
        "Restore into a new database and migrate it, or put the column back for the restore.",
    ),
    ConflictKind.COLUMN_NEW: (
        "columns that are newer than the snapshot",
        "Rows that exist keep theirs, rows that come back get its default.",
    ),
    ConflictKind.COLUMN_REQUIRED: (
        "new columns that are NOT NULL and have no default",
        "Give the column a default for the restore, or restore into a new database and migrate it.",
    ),
    ConflictKind.TYPE_CHANGED: (
        "rows that the table's columns do not take as they were",
        "The type of a column was changed: restore into a new database and migrate it.",
    ),
    ConflictKind.CHECK: (
        "rows that break NOT NULL, a check or bounds of a partition that was not there or was different",
        "Relax it for the restore, or restore into a new database and migrate it.",
    ),
    ConflictKind.PRIMARY_KEY: (
        "primary keys that another tenant's rows have now",
        "Give those rows other keys, or restore into a new database.",
    ),
    ConflictKind.UNIQUE_KEY: (
        "unique keys that are taken now, or that the snapshot's rows have twice",
        "Change the rows that have them now, or restore into a new database.",
    ),
    ConflictKind.EXCLUDED: (
        "rows that an exclusion constraint does not allow beside those of others",
        "Change the rows that are in the way, or restore into a new database.",
    ),
    ConflictKind.REFERENCE_GONE: (
        "references to shared rows that are not there any more",
        "Put the shared rows back: a restore into a new database has them.",
    ),
    ConflictKind.REFERENCE_CHANGED: (
        "shared rows that are referred to and were changed since",
        "--accept shared-row-changed refers to them as they are now; shared rows are never written.",
    ),
    ConflictKind.REFERENCE_LOST: (
        "references to rows of others that are not there any more",
        "Put those rows back, or restore into a new database.",
    ),
    ConflictKind.REFERRED: (
        "rows that are not restored and refer to rows that would go",
        "Delete them, or have them refer elsewhere.",
    ),
    ConflictKind.TRIGGERS: (
        "triggers and rules that would fire, because the role may not switch them off",
        "Use a role that may set session_replication_role, or let them with --triggers-fire.",
    ),
    ConflictKind.ALWAYS_FIRES: (
        "triggers and rules that fire even when switched off (ENABLE ALWAYS or REPLICA)",
        "Disable them for the restore, or let them with --triggers-fire.",
    ),
    ConflictKind.ROW_SECURITY: (
        "tables whose row level security applies to the role",
        "Use a role with BYPASSRLS, or the tables' owner where it is not forced.",
    ),
    ConflictKind.PRIVILEGE: (
        "tables or sequences the role may not read and write",
        "Grant SELECT, INSERT, UPDATE and DELETE, and UPDATE on sequences, or use another role.",
    ),
    ConflictKind.DEFERRABLE: (
        "deferrable unique keys, which are not checked against rows written at the same time while triggers are off",
        "--accept deferrable-key when nobody else writes there; or let triggers fire with --triggers-fire.",
    ),
    ConflictKind.CYCLE: (
        "foreign keys in a circle, none of which can be deferred, while triggers stay on",
        "Use a role that may set session_replication_role, or make one of them DEFERRABLE.",
    ),
    ConflictKind.FOREIGN_CODE: (
        "keys, checks and types that call functions of a role that is no superuser, and were not tried",
        "Nothing of it is run to look. --apply runs it as the role it writes with; a row it refuses undoes all.",
    ),
}
"""For each kind of conflict: what was found, and what to do."""

ACCEPTABLE = frozenset({ConflictKind.TABLE_NEW, ConflictKind.REFERENCE_CHANGED, ConflictKind.DEFERRABLE})
"""The kinds that `--accept` takes."""
HARMLESS = frozenset({ConflictKind.COLUMN_NEW, ConflictKind.FOREIGN_CODE})
"""The kinds that are reported but do not prevent the restore."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One kind of conflict in one table."""

    table: str = field(repr=False)
    """`schema.table`; the schema may be named after the tenant, whose name the operator knows."""
    kind: ConflictKind
    count: int
    """Number of rows, columns, triggers or tables, as the sentence of the kind says."""


def blocking(conflicts: Iterable[Conflict], accepted: frozenset[ConflictKind]) -> list[Conflict]:
    """Return the conflicts that prevent writing: those neither harmless nor accepted."""
    return [one for one in conflicts if one.kind not in HARMLESS | accepted]


def write_order(
    tables: Sequence[int], references: Mapping[int, frozenset[int]]
) -> tuple[list[int], list[frozenset[int]]]:
    """Sort tables so that each stands behind the tables it refers to, and return the circles of two or more among them.

    `references` gives the tables that a table refers to; the table itself, and tables that are not listed, do not
    count. Tables of a circle stand together.
    """
    reach = {table: _reach(table, references, frozenset(tables)) for table in tables}
    circle = {table: frozenset(other for other in reach[table] if table in reach[other]) for table in tables}
    # A table that refers to another reaches all that one reaches, and itself: more, unless both are in one circle.
    order = sorted(tables, key=lambda table: (len(reach[table]), min(circle[table]), table))
    return order, sorted({one for one in circle.values() if len(one) > 1}, key=min)


def _reach(table: int, references: Mapping[int, frozenset[int]], within: frozenset[int]) -> frozenset[int]:
    found, waiting = {table}, [table]
    while waiting:
        new = (references.get(waiting.pop(), frozenset()) & within) - found
        found |= new
        waiting += new
    return frozenset(found)
