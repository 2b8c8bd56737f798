"""Holding an exported snapshot, with the locks that keep its tables as they are.

Order matters: tables are locked *before* the snapshot is taken, because TRUNCATE and rewriting ALTERs do not respect
snapshots: a table cut between snapshot and lock would be dumped empty. Tables made between listing and
snapshot show up as unlocked, and the attempt starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from backupd.errors import BusyError, SourceBusyError, SourceError, SourceGoneError
from backupd.postgres import settings
from backupd.postgres.connect import Connection, Source, open_connection
from backupd.postgres.failures import translated
from backupd.postgres.quoting import qualified

_LOCK_KEY = 0x6261636B75706421
"""Advisory lock of everybody who backs up this database: "backup!" in ASCII."""
_BATCH = 500
_ATTEMPTS = 5

_LOCKABLE = """
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^pg_(toast|temp)'
  AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                   AND d.objid = c.oid AND d.deptype = 'e')
       OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
ORDER BY 1
"""

_EXPORT = """
SELECT pg_catalog.pg_export_snapshot(), pg_catalog.clock_timestamp(), pg_catalog.current_database(),
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
       ELSE pg_catalog.pg_current_wal_lsn() END::text,
  pg_catalog.pg_is_in_recovery()
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported snapshot, for everybody who wants to read what it shows."""

    identifier: str
    instant: datetime
    """Nothing committed after it is in the snapshot."""
    lsn: str
    version: int
    """server_version_num"""
    database: str
    """Real name; data where databases are named after tenants."""
    standby: bool

    def preamble(self) -> str:
        """SQL that puts a session under the fixed settings and into this snapshot."""
        return settings.statements(settings.reading(self.version)) + (
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n"
            f"SET TRANSACTION SNAPSHOT '{self.identifier}';\n"
        )


class Holder:
    """The transaction that keeps an exported snapshot and its table locks alive. Used by one thread."""

    def __init__(self, connection: Connection, exported: Exported) -> None:
        self.connection = connection
        """Sees the snapshot until `release`."""
        self.exported = exported
        self._held = True

    @property
    def held(self) -> bool:
        return self._held

    def check(self) -> None:
        """Do nothing while the snapshot is held.

        Raises SourceGoneError when the connection that held it is no more.
        """
        if not self._held:
            return
        try:
            self.connection.execute("SELECT 1")
        except psycopg.Error:
            self._held = False
            raise SourceGoneError(
                "the connection that held the exported snapshot is gone", hint="The next run starts with a new one."
            ) from None

    def release(self) -> None:
        """Let the snapshot and the table locks go; the advisory lock stays until the end of `hold`."""
        if self._held:
            self._held = False
            with translated():
                self.connection.rollback()


@contextmanager
def hold(source: Source, *, lock_timeout: float = 30.0, single: bool = True) -> Iterator[Holder]:
    """Export a snapshot and hold it, and the right to be the only backup of this database, until the block ends.

    `lock_timeout` is in seconds, for each batch of tables. `single=False` does without the advisory lock, for
    readers that are no backup. Raises BusyError while another backup runs, SourceBusyError when a lock is not to be had
    in time, and SourceError and SourceGoneError as PostgreSQL answers.
    """
    with translated():
        connection = open_connection(source)
        try:
            refuse_pooler(connection)
            if single:
                _claim(connection)
            holder = Holder(connection, _export(connection, lock_timeout))
            yield holder
            holder.release()
        finally:
            _end(connection)


@contextmanager
def joined(source: Source, exported: Exported) -> Iterator[Connection]:
    """A connection of one's own that sees what the exported snapshot shows, as long as the block lasts.

    Raises SourceGoneError when nobody holds the snapshot any more.
    """
    with translated():
        connection = open_connection(source)
        try:
            try:
                connection.execute(exported.preamble().encode())
            except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
                raise SourceGoneError(
                    "the exported snapshot is gone", hint="The next run starts with a new one."
                ) from None
            yield connection
        finally:
            connection.close()


def refuse_pooler(connection: Connection) -> None:
    """Refuse a connection that a pooler forwards.

    A pooler invents the process id it gives to clients, so it differs from the one the server tells.
    """
    row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    if row is None or row[0] != connection.info.backend_pid:
        raise SourceError(
            "the connection goes through a pooler, which breaks exported snapshots and session settings",
            hint="Give host and port of PostgreSQL itself.",
        )


def _claim(connection: Connection) -> None:
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_LOCK_KEY,)).fetchone()
    if row != (True,):
        raise BusyError(
            "another backup of this database is running", hint="Wait for it to end; the lock goes with its connection."
        )


def _end(connection: Connection) -> None:
    """Close the connection and have the advisory lock free at once.

    The server notices a closed connection only in its own time, and a next run may ask for the lock before that.
    """
    with closing(connection), suppress(psycopg.Error):
        connection.rollback()
        connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()")


def _export(connection: Connection, lock_timeout: float) -> Exported:
    for _ in range(_ATTEMPTS):
        exported = _attempt(connection, lock_timeout)
        if exported is not None:
            return exported
        connection.rollback()
    raise SourceBusyError(
        "tables come and go faster than they can be locked", hint="Run the backup when no migration is running."
    )


def _attempt(connection: Connection, lock_timeout: float) -> Exported | None:
    """One try; None when the tables changed under it."""
    wanted = {oid: (schema, table) for oid, schema, table in connection.execute(_LOCKABLE)}
    connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        _lock(connection, list(wanted.values()), lock_timeout)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.WrongObjectType):
        return None
    row = connection.execute(_EXPORT).fetchone()
    if row is None:
        return None
    identifier, instant, database, lsn, standby = row
    if {oid: (schema, table) for oid, schema, table in connection.execute(_LOCKABLE)} != wanted:
        return None
    version = connection.info.server_version
    return Exported(identifier, instant.astimezone(UTC), lsn or "0/0", version, database, standby)


def _lock(connection: Connection, tables: Sequence[tuple[str, str]], timeout: float) -> None:
    execute: Callable[[str], object] = lambda text: connection.execute(text.encode())  # noqa: E731  # shorter than a def
    execute(f"SET LOCAL lock_timeout = '{round(timeout * 1000)}ms'")
    for start in range(0, len(tables), _BATCH):
        names = ", ".join(f"ONLY {qualified(*name)}" for name in tables[start : start + _BATCH])
        execute(f"LOCK TABLE {names} IN ACCESS SHARE MODE")
    execute("SET LOCAL lock_timeout = 0")
