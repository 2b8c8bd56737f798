r"""The statements that read a table's rows, as text for any client, and the ranges that divide big tables.

A routed table's rows begin with their tenant: the first field of the line, in COPY's text format, `\N` where there is
none; the row follows after the first tab. A row of a table without columns is the tenant alone. Big tables are divided
into ranges of heap blocks, always at the same places, for several readers to share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from backupd.model.inventory import ForeignKey, Table, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Route
from backupd.postgres.connect import identifier, literal, qualified


@dataclass(frozen=True, slots=True)
class TableQuery:
    """The statement that reads a table, or a range of it."""

    sql: str
    """One COPY ... TO STDOUT, without semicolon; every name in it is qualified."""
    routed: bool
    """Whether each row begins with its tenant."""


def select_rows(table: Table, route: Route, blocks: BlockRange | None = None) -> TableQuery:
    """Return the statement that reads the rows of `table` in heap order, under `settings.dump_settings`."""
    tenant, joins = tenant_expression(route)
    range_ = block_condition(blocks)
    if not tenant and not range_ and table.condition is None:
        columns = ", ".join(identifier(column) for column in table.columns)
        listed = f" ({columns})" if columns else ""
        return TableQuery(f"COPY {qualified(table.name.schema, table.name.table)}{listed} TO STDOUT", routed=False)
    return TableQuery(f"COPY ({_query(table, tenant, joins, range_)}) TO STDOUT", routed=bool(tenant))


def select_stretch(table: Table, route: ForeignKeyPath, extents: Sequence[BlockRange]) -> str:
    """Return the statement that reads several extents of a table, which are given in order, as `select_rows` one.

    A row begins with the number of its extent among these, from 0, and a tab. What lies between them is not read.
    """
    tenant, joins = tenant_expression(route)
    places = ",".join(f'"({extent.start},0)"' for extent in extents[1:])
    number = f"pg_catalog.width_bucket(t.ctid, '{{{places}}}'::pg_catalog.tid[])"
    listed = ", ".join([number, tenant, *(f"t.{identifier(column)}" for column in table.columns)])
    # PostgreSQL has no scan of several ranges. It gives the rows of these queries in the order of the queries.
    used = dict.fromkeys(("ctid", *map(identifier, (*table.columns, *route.steps[0].key.columns))))
    source = f"SELECT {', '.join(f't.{name}' for name in used)} FROM {_only(table.name)} AS t"  # noqa: S608  # names are quoted
    parts = [f"{source}{block_condition(extent)}" for extent in extents]
    return f"COPY (SELECT {listed} FROM ({' UNION ALL '.join(parts)}) AS t{joins}) TO STDOUT"  # noqa: S608  # as above


def read_tables(table: Table, route: Route) -> list[tuple[TableName, str]]:
    """List the tables that `select_rows` reads, each with statements that lock it and answer its oid.

    The oid is that of the table they locked. They do not wait for the lock.
    """
    found = [(table.name, _lock(table.name, whole=False))]
    if isinstance(route, ForeignKeyPath):
        found += [(step.key.target, _lock(step.key.target, whole=step.whole)) for step in route.steps]
    return list(dict.fromkeys(found))


def _lock(name: TableName, *, whole: bool) -> str:
    found = f"SELECT {literal(qualified(name.schema, name.table))}::pg_catalog.regclass::pg_catalog.oid"
    return f"LOCK TABLE {_only(name, whole=whole)} IN ACCESS SHARE MODE NOWAIT; {found}"


def _only(name: TableName, *, whole: bool = False) -> str:
    return ("" if whole else "ONLY ") + qualified(name.schema, name.table)


def _query(table: Table, tenant: str, joins: str, range_: str) -> str:
    columns = [f"t.{identifier(column)}" for column in table.columns]
    listed = ", ".join([tenant, *columns] if tenant else columns)
    source = f"FROM {_only(table.name)}"
    if table.condition is not None and not tenant and not range_:
        plain = ", ".join(identifier(column) for column in table.columns)
        return f"SELECT {plain} {source} {table.condition}"
    if table.condition:
        # An extension's text may end in anything, so it is applied to a table of its own.
        chosen = f"t.ctid IN (SELECT ctid {source} {table.condition})"
        range_ = f"{range_} AND {chosen}" if range_ else f" WHERE {chosen}"
    return f"SELECT {listed} {source} AS t{joins}{range_}"


def tenant_expression(route: Route, alias: str = "p") -> tuple[str, str]:
    """Return the tenant's column of the rows `t`, and the joins it needs; empty for tables with one owner.

    It is not cast to text: a cast is the application's where it made one, and COPY's own text is what is meant. The
    tables on the way are called `alias` with a number.
    """
    if isinstance(route, Column):
        return f"t.{identifier(route.column)}", ""
    if isinstance(route, ForeignKeyPath):
        end = f"{alias}{len(route.steps)}"
        return f"{end}.{identifier(route.column)}", "".join(_joins(route, alias))
    return "", ""


def _joins(route: ForeignKeyPath, alias: str) -> list[str]:
    joins, left = [], "t"
    for number, step in enumerate(route.steps, start=1):
        right, key = f"{alias}{number}", step.key
        joins.append(f" LEFT JOIN {_only(key.target, whole=step.whole)} AS {right} ON {matched(key, left, right)}")
        left = right
    return joins


def matched(key: ForeignKey, near: str, far: str) -> str:
    """Return the condition that a key leads from one row to another, by their aliases."""
    conditions = []
    for own, operator, other in zip(key.columns, key.operators, key.target_columns, strict=True):
        here, there = f"{near}.{identifier(own)}", f"{far}.{identifier(other)}"
        # The operator has the value that is referred to on its left.
        conditions.append(f"{here} {operator} {there}" if key.backward else f"{there} {operator} {here}")
    return " AND ".join(conditions)


def from_clause(name: TableName, *, whole: bool) -> str:
    """Return where rows are read from: one table, or with `whole` a partitioned table with its partitions."""
    return f"FROM {_only(name, whole=whole)}"


def block_condition(blocks: BlockRange | None) -> str:
    """Return the WHERE clause, for rows called `t`, by which PostgreSQL reads these blocks and no other."""
    bounds = []
    if blocks is not None and blocks.start:
        bounds.append(f"t.ctid >= '({blocks.start},0)'::pg_catalog.tid")
    if blocks is not None and blocks.end is not None:
        bounds.append(f"t.ctid < '({blocks.end},0)'::pg_catalog.tid")
    return f" WHERE {' AND '.join(bounds)}" if bounds else ""


GRID = 16_384
"""Blocks of a range, 128 MiB of 8 KiB each. Fixed, so that today's backup divides a table where yesterday's did."""


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Heap blocks from `start` up to but excluding `end`; without an end, up to the table's."""

    start: int
    end: int | None


def block_ranges(blocks: int, grid: int = GRID) -> tuple[BlockRange, ...]:
    """Return ranges that cover a table of `blocks` blocks exactly once, in order.

    The last has no end; a remainder shorter than half the grid is part of the last, so that a small table is one range.
    """
    cuts = [*range(0, max(blocks - grid // 2, 1), grid), None]
    return tuple(BlockRange(start or 0, end) for start, end in pairwise(cuts))
