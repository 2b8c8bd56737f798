"""Locking tables so that nobody waits behind us for long.

Locks that are held while another one is waited for keep others waiting, too: meanwhile a session that changes a table
that we have locked already waits, and the application waits behind it. So all tables are locked without waiting, or
none. Only the one table that stood in the way is waited for, briefly, while no other is locked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psycopg

from backupd.errors import SourceBusyError
from backupd.postgres.connect import Connection, qualified
from backupd.postgres.settings import SHORT_WAIT, milliseconds
from backupd.postgres.source.busy import busy_table

_BATCH = 500

_OBSTACLE = """
SELECT l.relation::int8 FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.relation = ANY (%s::oid[]) AND l.mode = 'AccessExclusiveLock'
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
ORDER BY l.granted, 1 LIMIT 1
"""
"""Query for a table that others have locked or wait to lock; locks of prepared transactions have no process."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The table that kept all tables from being locked."""

    oid: int | None
    """Oid of a table that somebody else has locked, or waits to lock; None when it was free again before it was
    found."""

    def error(self) -> SourceBusyError:
        """Make the error, which gives the table by its oid, as its name may be data."""
        return busy_table(self.oid)


def lock_tables(
    connection: Connection, tables: Mapping[int, tuple[str, str]], waited_for: Obstacle | None, wait: float
) -> Obstacle | None:
    """Lock all tables in the transaction at hand, or return the obstacle and end the transaction.

    `tables` are schemas and names by oid. The lock that was the obstacle before is waited for, `wait` seconds. Later
    statements of the transaction wait for a lock no longer than `SHORT_WAIT`. Raises psycopg's errors, among them those
    of tables that are gone.
    """
    try:
        if waited_for is not None and waited_for.oid is not None and waited_for.oid in tables:
            connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(wait)}'".encode())
            _lock(connection, [tables[waited_for.oid]], "")
        connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(SHORT_WAIT)}'".encode())
        names = list(tables.values())
        for start in range(0, len(names), _BATCH):
            _lock(connection, names[start : start + _BATCH], " NOWAIT")
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
        connection.rollback()
        return _obstacle(connection, list(tables))
    return None


def _lock(connection: Connection, names: Sequence[tuple[str, str]], end: str) -> None:
    listed = ", ".join(f"ONLY {qualified(*name)}" for name in names)
    connection.execute(f"LOCK TABLE {listed} IN ACCESS SHARE MODE{end}".encode())


def _obstacle(connection: Connection, oids: Sequence[int]) -> Obstacle:
    row = connection.execute(_OBSTACLE, (list(oids),)).fetchone()
    return Obstacle(None if row is None else int(row[0]))
