"""Summing what rows on the way to a tenant lead to, in the server: no value of any row leaves it.

`backupd manual trust`, row *sums of rows on the way to a tenant, where only what changed is read*, says who can write
them, and what is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from backupd.planning.incremental.waypoints import Cell, Waypoint, WaySum
from backupd.postgres.connect import Connection, identifier
from backupd.postgres.failures import translated
from backupd.postgres.source.select import BlockRange, block_condition, from_clause

_WORD = 1 << 64


class Seeds(NamedTuple):
    """The secret numbers of two hash functions, of 64 bits with a sign each."""

    low: int
    high: int


def sum_cell(connection: Connection, waypoint: Waypoint, cell: Cell, seeds: Seeds) -> WaySum:
    """Return the sum of the rows of one cell that the connection sees. Raises SourceError and its subclasses."""
    return _sum(connection, _rows(waypoint, cell), seeds)


def sum_oldest(
    connection: Connection, waypoint: Waypoint, parts: Sequence[Cell], count: int, seeds: Seeds
) -> Iterator[WaySum]:
    """Yield sums of so many rows of some cells: those of the smallest keys, then those that were written first.

    Where keys grow, or no older row was written since, these are the rows that were there before others came.
    """
    keys = ", ".join(f"t.{identifier(name)}" for name in waypoint.key)
    for place in (f"ROW({keys})", "-pg_catalog.age(t.xmin)"):
        rows = " UNION ALL ".join(_rows(waypoint, cell, f", {place} AS place") for cell in parts)
        yield _sum(connection, f"SELECT way FROM ({rows}) AS found ORDER BY place LIMIT {count}", seeds)  # noqa: S608  # names are quoted


def _rows(waypoint: Waypoint, cell: Cell, more: str = "") -> str:
    columns = ", ".join(f"t.{identifier(name)}" for name in (*waypoint.key, *waypoint.onward))
    # Two rows whose values have another text have another text here, too.
    text = f'pg_catalog.textin(pg_catalog.record_out(ROW({columns}))) COLLATE "pg_catalog"."C"'
    source = f"{from_clause(waypoint.table, whole=False)} AS t{block_condition(BlockRange(*cell))}"
    return f"SELECT {text} AS way{more} {source}"


def _sum(connection: Connection, rows: str, seeds: Seeds) -> WaySum:
    hashed = "pg_catalog.sum(pg_catalog.hashtextextended(way, %s::pg_catalog.int8))"
    ways = rows.replace("%", "%%")
    # As parameters: others may see what statements run.
    statement = f"SELECT pg_catalog.count(*), {hashed}, {hashed} FROM ({ways} OFFSET 0) AS ways"  # noqa: S608  # names are quoted
    with translated():
        count, low, high = connection.execute(statement.encode(), seeds).fetchall()[0]
    return WaySum(count, int(low or 0) % _WORD, int(high or 0) % _WORD)
