"""The transaction a restore in place looks and writes in, and what a session must be for it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from backupd.errors import RefusedError
from backupd.postgres.failures import translated
from backupd.postgres.settings import SHORT_WAIT, milliseconds
from backupd.postgres.source.exported import refuse_pooler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backupd.clock import Clock
    from backupd.postgres.connect import Connection

_PAUSE = 0.5
"""Seconds between two tries, in which nothing is locked."""

_INSTANCE = """
SELECT pg_catalog.pg_postmaster_start_time()::text, d.oid FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
"""


def refuse_unfit(connection: Connection) -> None:
    """Refuse a pooler, whose sessions are not ours alone, and a standby, and have commits waited for.

    Raises SourceError, RefusedError.
    """
    refuse_pooler(connection)
    if connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() != (False,):
        raise RefusedError("the target is a standby", hint="Give the server that takes writes.")
    connection.execute("RESET synchronous_commit")


def instance(connection: Connection) -> tuple[str, int]:
    """Tells this database of this running server from every other."""
    ((started, oid),) = connection.execute(_INSTANCE).fetchall()
    return started, oid


@contextmanager
def begun(connection: Connection, lock: Callable[[], object], lock_timeout: float, clock: Clock) -> Iterator[None]:
    """A transaction that sees one instant, and its own changes; rolled back unless the block commits it.

    `lock` takes the locks it needs, in as many short tries as fit into `lock_timeout` seconds: others must not wait for
    what we have locked while we wait for the rest. The instant is that of the first look: locks of tables can be taken
    before. Errors of PostgreSQL leave the block as SourceErrors; SourceBusyError when somebody else holds a lock, or
    changed a row that was to be locked.
    """
    with translated():
        try:
            _begin(connection, lock, lock_timeout, clock)
            connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(lock_timeout)}'".encode())
            yield
        finally:
            _roll_back(connection)


def _begin(connection: Connection, lock: Callable[[], object], lock_timeout: float, clock: Clock) -> None:
    deadline = clock.monotonic() + lock_timeout
    while True:
        connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")
        wait = min(SHORT_WAIT, deadline - clock.monotonic())
        connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(wait)}'".encode())
        try:
            lock()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            _roll_back(connection)
            if clock.monotonic() >= deadline:
                raise
            clock.sleep(_PAUSE)
        else:
            return


def _roll_back(connection: Connection) -> None:
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def commit(connection: Connection) -> None:
    """Raises psycopg's errors."""
    connection.execute("COMMIT")
