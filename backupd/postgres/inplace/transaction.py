"""The transaction a restore in place looks and writes in, and what a session must be for it."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg

from backupd.errors import RefusedError
from backupd.postgres.failures import translated
from backupd.postgres.source.exported import refuse_pooler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.postgres.connect import Connection

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
def begun(connection: Connection, lock_timeout: float) -> Iterator[None]:
    """A transaction that sees one instant, and its own changes; rolled back unless the block commits it.

    The instant is that of the first look: locks of tables can be taken before. Errors of PostgreSQL leave the block as
    SourceErrors; SourceBusyError when somebody else holds a lock, or changed a row that was to be locked.
    """
    with translated():
        connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")
        try:
            connection.execute(f"SET LOCAL lock_timeout = '{round(lock_timeout * 1000)}ms'".encode())
            yield
        finally:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK")


def commit(connection: Connection) -> None:
    """Raises psycopg's errors."""
    connection.execute("COMMIT")
