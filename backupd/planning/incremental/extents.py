"""Decide which extents are read: those of which anything speaks for a change, or of which too little is known.

An extent is called by its identity, which has in it everything that decides what its rows look like and whose they are,
apart from the rows themselves. What was read under another identity is not found, and is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from backupd.model.inventory import Table, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, MappedTable, Route
from backupd.planning.incremental.facts import UNIT, BlockChanges, ColumnFacts, Reason, TableFacts
from backupd.planning.incremental.waypoints import WayChange

_PLAIN_TYPES = (
    "bool bytea char name int2 int4 int8 float4 float8 numeric text varchar bpchar date time timetz timestamp "
    "timestamptz interval uuid json jsonb inet cidr macaddr macaddr8 bit varbit tsvector oid "
    "point line lseg box path polygon circle"
)
PLAIN = frozenset(f"pg_catalog.{name}{array}" for name in _PLAIN_TYPES.split() for array in ("", "[]"))
"""Types whose text follows from the value and from settings that every session of a backup fixes: not those of domains,
of extensions, nor those that look a name up in the catalog. An enum's text follows from its labels, too, which the
identity of an extent has in it."""
_OPERATOR = 'OPERATOR("pg_catalog".=)'
_VIRTUAL = "v"
TENANT_SHARE = 4
"""Blocks of an extent for each tenant in it, 32 KiB, so that its chunks stay large."""
LARGEST = 128 * UNIT
MOST_EXTENTS = 4096
"""Extents of a table to aim at, at most: a manifest has a line for all of a table, with each of them on it."""


class TableExtent(NamedTuple):
    """Consecutive heap blocks from `start` up to but excluding `end`; without an end, up to the table's."""

    start: int
    end: int | None


def extent_blocks(tenants: int, blocks: int) -> int:
    """Return the blocks of an extent of a table of so many blocks, which so many tenants share: a power of two."""
    wanted = min(max(UNIT, TENANT_SHARE * tenants), LARGEST)
    return 1 << (max(wanted, -(-blocks // MOST_EXTENTS)) - 1).bit_length()


def table_extents(blocks: int, size: int) -> list[TableExtent]:
    """Return the extents that cover a table of so many blocks, in order; the last has no end.

    At a table's end, where rows are added and recent ones changed, they are cut in halves. When it grows, those before
    stay where they were.
    """
    half = size // 2 if size > UNIT else size
    last = max(0, (blocks - half // 2) // size * size - size)
    behind = range(last, max(blocks - half // 2, last + 1), half)
    starts = [*range(0, last, size), *behind]
    return [TableExtent(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]


def why_never(table: Table, mapped: MappedTable, facts: Mapping[TableName, TableFacts]) -> Reason | None:
    """Return why a table's extents are never skipped: something may change their content that no summary shows."""
    own = facts.get(table.name)
    unseen = _unseen(own)
    if own is None or unseen is not None:
        return unseen
    if table.condition is not None:
        return Reason.CONDITION
    if not all(_is_plain(own.column(name)) for name in table.columns):
        return Reason.OUTPUT
    return None if _is_seen(mapped.route, own, facts) else Reason.ROUTE


def why_read(extent: TableExtent, own: TableFacts, changes: BlockChanges, *, remembered: bool) -> Reason | None:
    """Return why an extent is read for its own rows' sake."""
    if changes.renewed(own.file):
        return Reason.NEW_FILE
    if not remembered:
        return Reason.NOTHING_REMEMBERED
    aligned = extent.start % UNIT == 0 and (extent.end or 0) % UNIT == 0
    return Reason.CHANGED if not aligned or changes.touch(own.file, *extent) else None


def why_led_elsewhere(changes: Iterable[WayChange], *, homeless: bool) -> Reason | None:
    """Return why an extent is read for the sake of the rows that lead to its tenants, given what became of them.

    `homeless` is whether some of its rows found no tenant: a row that was added may lead them to one.
    """
    for change in changes:
        if change is WayChange.UNKNOWN or (homeless and change is WayChange.MORE):
            return Reason.ROUTE_CHANGED
    return None


def identity(
    reading: Sequence[object], mapped: MappedTable, table: Table, facts: Mapping[TableName, TableFacts]
) -> list[object]:
    """Return everything that decides an extent's content, apart from its rows.

    `reading` is how its rows are read: the statement, whose range of blocks is the extent's, and how its rows are cut
    and routed.
    """
    names = [table.name]
    if isinstance(mapped.route, ForeignKeyPath):
        names += [step.key.target for step in mapped.route.steps]
    return [*reading, *(form(facts[name]) for name in names)]


def form(facts: TableFacts) -> list[object]:
    """Return everything that decides how a table's rows are written, and where they lie."""
    return [facts.oid, *facts.file, facts.logged, facts.heap, [list(column) for column in facts.columns]]


def _unseen(facts: TableFacts | None) -> Reason | None:
    """Return why changes of a table's rows do not show in the WAL."""
    if facts is None or not facts.heap:
        return Reason.NOT_HEAP
    return None if facts.logged else Reason.UNLOGGED


def _is_plain(column: ColumnFacts | None) -> bool:
    """Check whether a column's text follows from what is stored in its row, and from its facts."""
    known = column is not None and (column.type in PLAIN or bool(column.labels))
    return column is not None and known and column.generated != _VIRTUAL


def _is_seen(route: Route, own: TableFacts, facts: Mapping[TableName, TableFacts]) -> bool:
    """Check whether a row's tenant follows from rows of tables whose changes are seen, by PostgreSQL's own code."""
    if isinstance(route, Column):
        return _is_plain(own.column(route.column))
    if not isinstance(route, ForeignKeyPath):
        return True
    left = own
    for step in route.steps:
        key, right = step.key, facts.get(step.key.target)
        if right is None or _unseen(right) is not None or step.whole or key.foreign_code or key.temporal:
            return False
        if key.backward:  # what refers to a row may come and go, while nothing of the row itself changes
            return False
        used = [left.column(name) for name in key.columns] + [right.column(name) for name in key.target_columns]
        if set(key.operators) != {_OPERATOR} or not all(map(_is_plain, used)):
            return False
        left = right
    return _is_plain(left.column(route.column))
