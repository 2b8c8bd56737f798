"""Counts of what is not as it should be in a restored database, without a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from backupd.errors import SourceError
from backupd.postgres.connect import connect

if TYPE_CHECKING:
    from backupd.postgres.connect import Connection, Source

_USER = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
_CONSTRAINTS = f"""
SELECT count(*), count(*) FILTER (WHERE NOT k.convalidated) FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace WHERE {_USER} AND k.contype IN ('c', 'f', 'p', 'u', 'x')
AND (k.conparentid = 0 OR k.convalidated)
"""  # noqa: S608  # made of constants of this module
_INDEXES = f"""
SELECT count(*), count(*) FILTER (WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive))
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_USER}
"""  # noqa: S608  # made of constants of this module
_IDENTIFIER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"


def constraints(connection: Connection) -> tuple[int, int]:
    """How many constraints there are, and how many of them were never validated."""
    return _pair(connection, _CONSTRAINTS)


def indexes(connection: Connection) -> tuple[int, int]:
    """How many indexes there are, and how many of them are not used by queries."""
    return _pair(connection, _INDEXES)


def system_identifier(connection: Connection) -> str | None:
    """What tells one cluster from all others; None where the role may not ask.

    A copy made file by file, such as a standby, has its origin's.
    """
    try:
        return str(connection.execute(_IDENTIFIER).fetchall()[0][0])
    except psycopg.errors.InsufficientPrivilege:
        return None


def whole_number(source: Source, sql: str, seconds: int) -> int | None:
    """What a query of one row and one whole number returns, in a transaction that can change nothing.

    None when it returns something else, or PostgreSQL refuses it. Raises SourceGoneError and SourceBusyError.
    """
    try:
        with connect(source) as connection:
            connection.execute(
                f"BEGIN READ ONLY; SET LOCAL statement_timeout = '{seconds}s'; SET LOCAL search_path TO DEFAULT"
            )
            rows = connection.execute(sql.encode()).fetchmany(2)
    except SourceError as error:
        if error.retryable:
            raise
        return None
    value = rows[0][0] if len(rows) == 1 and len(rows[0]) == 1 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _pair(connection: Connection, sql: str) -> tuple[int, int]:
    first, second = connection.execute(sql.encode()).fetchall()[0]
    return int(first), int(second)
