"""Whether staged rows fit between everybody else's: keys, exclusions, checks. Counts only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from backupd.planning.restoring.inplace import Conflict, ConflictKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.postgres.connect import Connection
    from backupd.postgres.inplace.comparing import Pair
    from backupd.postgres.inplace.live import UniqueKey


def key_conflicts(connection: Connection, pair: Pair) -> Iterator[Conflict]:
    """Keys of staged rows that other tenants' rows have, or that two staged rows have. Raises psycopg's errors."""
    if pair.source is None:
        return
    table = pair.live.name.dotted
    for key in pair.live.keys:
        count = _count(connection, _taken(pair, key)) + _count(connection, _twice(pair, key))
        if count:
            kind = (
                ConflictKind.EXCLUDED
                if key.exclusion
                else ConflictKind.PRIMARY_KEY
                if key.primary
                else ConflictKind.UNIQUE_KEY
            )
            yield Conflict(table, kind, count)


def check_conflicts(connection: Connection, pair: Pair) -> Iterator[Conflict]:
    """Staged rows that break a check constraint or the bounds of their partition. Raises psycopg's errors."""
    if pair.source is None or not pair.live.checks:
        return
    broken = " OR ".join(f"({check}) IS FALSE" for check in pair.live.checks)
    count = _count(connection, f"SELECT pg_catalog.count(*) FROM {pair.source} WHERE {broken}")  # noqa: S608  # the server's own words
    if count:
        yield Conflict(pair.live.name.dotted, ConflictKind.CHECK, count)


def _taken(pair: Pair, key: UniqueKey) -> str:
    others = _expressed(key, f"ONLY {pair.live.sql} AS t", pair.live.belonging.others(), "t.ctid")
    return f"SELECT pg_catalog.count(*) FROM ({_ours(pair, key)}) AS a WHERE EXISTS (SELECT FROM ({others}) AS b WHERE {_met(key)})"  # noqa: S608, E501  # likewise


def _twice(pair: Pair, key: UniqueKey) -> str:
    ours = _ours(pair, key)
    met = f"a.id < b.id AND {_met(key)}"
    return f"SELECT pg_catalog.count(*) FROM ({ours}) AS a WHERE EXISTS (SELECT FROM ({ours}) AS b WHERE {met})"  # noqa: S608  # likewise


def _ours(pair: Pair, key: UniqueKey) -> str:
    return _expressed(key, f"{pair.source} AS s", "true", "s.ctid")


def _expressed(key: UniqueKey, rows: str, condition: str, address: str) -> str:
    listed = ", ".join(f"{expression} AS e{place}" for place, expression in enumerate(key.expressions))
    partial = f" AND ({key.condition})" if key.condition else ""
    return f"SELECT {address} AS id, {listed} FROM {rows} WHERE {condition}{partial}"  # noqa: S608  # likewise


def _met(key: UniqueKey) -> str:
    pairs = []
    for place, operator in enumerate(key.operators):
        equal = f"a.e{place} {operator} b.e{place}"
        pairs.append(f"({equal} OR a.e{place} IS NULL AND b.e{place} IS NULL)" if key.nulls_equal else equal)
    return " AND ".join(pairs)


def _count(connection: Connection, query: str) -> int:
    """What cannot be asked, because it is about columns the snapshot does not have, the server checks as it writes."""
    try:
        with connection.transaction():
            ((count,),) = connection.execute(query.encode()).fetchall()
    except psycopg.errors.UndefinedColumn:
        return 0
    return int(count)
