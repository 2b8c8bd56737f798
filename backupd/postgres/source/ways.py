"""Counting where the rows of a table lead: how many name no tenant, and how many lead to another one by another way.

The database counts. What is counted is for people to look at; no mapping depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from backupd.model.inventory import Table, TableKind
from backupd.model.tenancy import Column, ForeignKeyPath
from backupd.postgres.connect import Connection
from backupd.postgres.settings import SHORT_WAIT, milliseconds
from backupd.postgres.source.select import from_clause, tenant_expression

SAMPLED_FROM = 65_536
"""Blocks from which on a table is sampled, 512 MiB of 8 KiB each."""
_SAMPLE = 16_384
"""Blocks of a sample, about."""
_PATIENCE = 20.0
"""Seconds for the count of one table."""
_REFUSED = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.DataError,
)
"""Errors of one table that leave it uncounted: time, locks, rights, changes meanwhile, columns that cannot be computed.
"""


@dataclass(frozen=True, slots=True)
class WayCounts:
    """The rows of one table, or of a sample of it, by the ways from it to tenants."""

    rows: int
    named: tuple[int, ...]
    """Rows that each way leads to a tenant."""
    apart: int
    """Rows that two of the ways lead to different tenants."""
    missed: int
    """Rows that the first way leads to nobody, and another one to a tenant."""
    sampled: bool


def count_ways(
    connection: Connection, table: Table, ways: Sequence[Column | ForeignKeyPath], blocks: int
) -> WayCounts | None:
    """Count the rows of a table; None where that takes too long, or is not possible.

    A partitioned table is counted with its partitions; `blocks` is the size of what is counted.
    """
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(SHORT_WAIT)}'".encode())
            connection.execute(f"SET LOCAL statement_timeout = '{milliseconds(_PATIENCE)}'".encode())
            rows, apart, missed, *named = connection.execute(_query(table, ways, blocks).encode()).fetchall()[0]
    except _REFUSED:
        return None
    return WayCounts(rows, tuple(named), apart, missed, blocks >= SAMPLED_FROM)


def _query(table: Table, ways: Sequence[Column | ForeignKeyPath], blocks: int) -> str:
    sample = f" TABLESAMPLE SYSTEM ({100 * _SAMPLE / blocks:.6f})" if blocks >= SAMPLED_FROM else ""
    found = [tenant_expression(way, f"w{place}_") for place, way in enumerate(ways)]
    texts = [f'pg_catalog.concat({tenant}) COLLATE pg_catalog."C"' for tenant, _ in found]
    differ = [
        f"({one} IS NOT NULL AND {other} IS NOT NULL AND {texts[place]} <> {texts[0]})"
        for place, (one, (other, _)) in enumerate((found[0][0], each) for each in found)
        if place
    ]
    apart = f"pg_catalog.count(*) FILTER (WHERE {' OR '.join(differ)})" if differ else "0"
    led = " OR ".join(f"{tenant} IS NOT NULL" for tenant, _ in found[1:])
    missed = f"pg_catalog.count(*) FILTER (WHERE {found[0][0]} IS NULL AND ({led}))" if led else "0"
    named = ", ".join(f"pg_catalog.count({tenant})" for tenant, _ in found)
    source = from_clause(table.name, whole=table.kind is TableKind.PARTITIONED)
    joins = "".join(joined for _, joined in found)
    return f"SELECT pg_catalog.count(*), {apart}, {missed}, {named} {source} AS t{sample}{joins}"  # names are quoted
