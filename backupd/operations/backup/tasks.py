"""Plan the workers' tasks from mapped tables. Pure, except for the mask, which the index keeps for a generation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from backupd.model.inventory import Table, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, Column, ForeignKeyPath, MappedTable, Tenant
from backupd.planning.incremental.extents import TableExtent, extent_blocks, table_extents
from backupd.postgres.settings import copied
from backupd.postgres.source.select import GRID, BlockRange, block_ranges, read_tables, select_rows
from backupd.rows.protocol import BytesTask, CommandTask, CopyTask

CHUNK = 8 << 10
"""Mean bytes of a chunk: after 1 % scattered churn in 700 MB, 32.7 MB are sent; with 16 KiB, 37.7 (measured)."""
SMALLEST_CHUNK = 2 << 10
"""Mean bytes of a chunk at least, when a table has very many tenants."""
LANES = 4 << 20
"""Bytes all tenants' unfinished chunks of one table may take: with very many tenants chunks become smaller."""
USUAL_WIDTH = 256
"""Bytes of a row where PostgreSQL has no statistics."""
WIDEST_MASK = (1 << 20) - 1
"""The largest mask: on average a chunk then ends after 1,048,576 rows."""
BLOCK = 8192
"""Bytes of a heap block."""
HASHED_ROW = 64
"""Bytes that PostgreSQL's hash table takes, about, for a key, a tenant and its own head."""
HASHED = 128 << 20
"""Bytes of a hash table at most: half of what `settings.dump_settings` lets it take, as counts of rows are estimates.
With 2.6 million rows that find their tenants among 1.1 million, nested loops took PostgreSQL several times as long."""
CHEAPER = 2
"""Bytes of a hash table for each byte of heap whose keys are looked up in it, at most. Looking up the keys of 8 MiB of
heap took as long as hashing 70 MB (measured on 18), so this is a third of what would pay.
"""
NARROWEST_ROW = 40
"""Bytes of a row in its heap at least, nearly: with its line pointer, its head and one value."""


@dataclass(frozen=True, slots=True)
class TableTask:
    """The task that reads one block range of one table."""

    mapped: MappedTable
    table: Table
    place: int
    """Position of this range among the table's, from 0."""
    copy: CopyTask
    blocks: int
    """Blocks of 8 KiB in this range."""
    extent: TableExtent
    """Where this range begins and ends."""
    joined: tuple[Table, ...] = ()
    """The tables on the way to the rows' tenants."""


@dataclass(frozen=True, slots=True)
class FileTask:
    """The task that makes a file beside the tables, such as the schema."""

    name: str
    task: BytesTask | CommandTask


def plan_tasks(
    mapped: Iterable[MappedTable],
    tables: Mapping[TableName, Table],
    mask_of: Callable[[MappedTable, int], int],
    extent_of: Callable[[MappedTable, int], int] | None = None,
) -> list[TableTask]:
    """Return the tasks that read every row to be backed up exactly once, largest first, numbered from 0 in that order.

    `mask_of` is called with a table and the mask this would choose for it, and returns the one to use; so is
    `extent_of` with the blocks of an extent, where tables are to be cut into extents.
    """
    planned: list[TableTask] = []
    for one in mapped:
        if one.policy is not ClassPolicy.NEVER:
            table = tables[one.table]
            mask = mask_of(one, usual_mask(table, one))
            targets = read_tables(table, one.route)
            locks = tuple((tables[name].oid, sql) for name, sql in targets)
            joined = [tables[name] for name, _ in targets[1:]]
            hash_join = may_hash(table.blocks, joined)
            grid = stretch_blocks(joined) if hash_join else GRID
            tenants = _tenants_known(table, one, tables)
            ranges = block_ranges(table.blocks, grid)
            # A hash table is made again for each range, while nested loops cost the same in short ones. Where many
            # ranges are read, `stretches` has one made for all of them.
            if extent_of is not None and tenants is not None:
                size, hash_join = extent_of(one, extent_blocks(tenants, table.blocks)), False
                ranges = tuple(BlockRange(*extent) for extent in table_extents(table.blocks, size))
            planned.extend(_of_table(one, table, locks, _Cut(mask, ranges, hash_join, tuple(joined))))
    planned.sort(key=lambda task: -task.blocks)
    return [_numbered(task, number) for number, task in enumerate(planned)]


def in_encoding(tasks: Iterable[TableTask], encoding: str) -> list[TableTask]:
    """Return the tasks as they read rows in an encoding of PostgreSQL's."""
    from msgspec.structs import replace

    return [
        dataclasses.replace(task, copy=replace(task.copy, sql=copied(task.copy.sql, encoding), encoding=encoding))
        for task in tasks
    ]


def usual_mask(table: Table, mapped: MappedTable) -> int:
    """Return the mask of a table: one row in `mask + 1` ends a chunk, on average."""
    width = max(1, table.width or _mean(table) or USUAL_WIDTH)
    target = max(SMALLEST_CHUNK, min(CHUNK, LANES // _tenants(table, mapped)))
    rows = max(1, target // width)
    nearest = max(0, round(math.log2(rows)))
    return min((1 << nearest) - 1, WIDEST_MASK)


@dataclass(frozen=True, slots=True)
class _Cut:
    """The places at which a table is divided, and its rows are cut."""

    mask: int
    ranges: tuple[BlockRange, ...]
    hash_join: bool
    joined: tuple[Table, ...]


def _of_table(mapped: MappedTable, table: Table, locks: tuple[tuple[int, str], ...], cut: _Cut) -> Iterable[TableTask]:
    for place, blocks in enumerate(cut.ranges):
        selection = select_rows(table, mapped.route, blocks if len(cut.ranges) > 1 else None)
        tenant = mapped.route.tenant if isinstance(mapped.route, Tenant) else None
        copy = CopyTask(
            -1,
            selection.sql,
            mapped.data_class,
            selection.routed,
            tenant,
            mapped.null_to_shared,
            locks,
            mapped.table.dotted if selection.routed else "",
            cut.mask,
            cut.hash_join,
        )
        size = (blocks.end or table.blocks) - blocks.start
        extent = TableExtent(blocks.start, blocks.end)
        yield TableTask(mapped, table, place, copy, max(0, size), extent, cut.joined)


def may_hash(blocks: int, joined: Sequence[Table], *, together: bool = False) -> bool:
    """Check whether the server may follow the foreign keys of so many blocks of a table by hash tables.

    They must fit into memory, or the rows would come in another order; and the planner must not think of hashing the
    table's own rows, for which they have to be several times larger. Of the rows of several extents that are read
    `together` it does not think: it has no statistics of them, and takes their keys for hardly different. Then what
    counts is that a hash table costs less than looking each key up.
    """
    if not joined or any(target.kind not in (TableKind.TABLE, TableKind.PARTITION) for target in joined):
        return False
    hashed = HASHED_ROW * sum(_most_rows(target) for target in joined)
    wanted = hashed // CHEAPER if together and len(joined) == 1 else 4 * hashed
    return hashed <= HASHED and wanted <= blocks * BLOCK


def _most_rows(table: Table) -> int:
    return table.blocks * BLOCK // NARROWEST_ROW if table.rows is None else table.rows


def stretch_blocks(joined: Sequence[Table]) -> int:
    """Return the blocks to read with one hash table: making it reads the keys' targets, so they are twice as many."""
    blocks = sum(target.blocks for target in joined)
    return GRID << max(0, math.ceil(math.log2(max(1, 2 * blocks) / GRID)))


def _numbered(task: TableTask, number: int) -> TableTask:
    from msgspec.structs import replace

    return dataclasses.replace(task, copy=replace(task.copy, task=number))


def _mean(table: Table) -> int:
    return table.size // table.rows if table.rows else 0


def _tenants_known(table: Table, mapped: MappedTable, tables: Mapping[TableName, Table]) -> int | None:
    """Return how many tenants share a table's extents; None where nobody knows."""
    route = mapped.route
    # Of rows that find their tenant through others, the last table on the way has as many.
    owner = tables[route.steps[-1].key.target] if isinstance(route, ForeignKeyPath) else table
    known = not isinstance(route, Column | ForeignKeyPath) or dict(owner.distinct).get(route.column)
    return _tenants(owner, mapped) if known else None


def _tenants(table: Table, mapped: MappedTable) -> int:
    if not isinstance(mapped.route, Column | ForeignKeyPath):
        return 1
    distinct = dict(table.distinct).get(mapped.route.column, 0.0)
    if distinct < 0:
        distinct = -distinct * (table.rows or 0)
    return max(1, int(distinct))
