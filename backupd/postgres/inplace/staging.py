"""A snapshot's rows beside the live ones: in temporary tables of the session that compares and writes.

Temporary tables, and not a schema or database of their own, because nobody else sees them: no backup that runs
meanwhile copies a tenant's rows a second time or finds tables that belong to nobody, nothing goes to replicas, and
they end with the session, however it ends. Nothing can be left behind, so there is nothing to clean.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import psycopg

from backupd.postgres.quoting import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from backupd.postgres.connect import Connection

_UNFIT = (psycopg.DataError, psycopg.IntegrityError)
"""A type or a domain does not take a value."""


def staged(oid: int) -> str:
    """The temporary table of a snapshot's rows of the live table."""
    return f"pg_temp.staged_{oid}"


def stage(connection: Connection, oid: int, live: str, columns: Sequence[str], rows: Iterable[memoryview]) -> bool:
    """Put rows into a temporary table with the live table's types; whether it gives them back, byte for byte.

    The rows of a type that was changed since do not come back as they went in, or are not taken at all; then there is
    no table. Raises psycopg's errors, and what `rows` does.
    """
    listed = ", ".join(map(identifier, columns))
    given = hashlib.sha256()
    connection.execute("BEGIN")
    try:
        connection.execute(
            f"CREATE TEMPORARY TABLE {staged(oid)} AS SELECT {listed} FROM ONLY {live} WITH NO DATA".encode()  # noqa: S608  # names are quoted
        )
        with ExitStack() as copying:
            # In the transaction that made the table, FREEZE keeps rows in their order.
            named = f" ({listed})" if listed else ""
            text = f"COPY {staged(oid)}{named} FROM STDIN WITH (FREEZE)"
            copy = copying.enter_context(connection.cursor().copy(text.encode()))
            for piece in rows:
                given.update(piece)
                copy.write(piece)
        same = _digest(connection, oid) == given.digest()
    except _UNFIT:
        connection.execute("ROLLBACK")
        return False
    except BaseException:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT" if same else "ROLLBACK")
    if same:
        connection.execute(f"ANALYZE {staged(oid)}".encode())
    return same


def _digest(connection: Connection, oid: int) -> bytes:
    found = hashlib.sha256()
    with connection.cursor().copy(f"COPY {staged(oid)} TO STDOUT".encode()) as copy:
        for piece in copy:
            found.update(piece)
    return found.digest()
