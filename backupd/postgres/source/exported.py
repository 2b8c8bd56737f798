"""An exported snapshot, held with the locks that keep its tables as they are.

Order matters: tables are locked *before* the snapshot is taken, because TRUNCATE and rewriting ALTERs do not respect
snapshots: a table truncated between snapshot and lock would be dumped empty. Tables made between listing and snapshot
show up as unlocked, and the attempt starts over.

`backupd manual trust`, row *who backs the database up now: an advisory lock*,
says who can write this, and what is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg

from backupd.clock import Clock, SystemClock
from backupd.errors import BusyError, SourceBusyError, SourceError, SourceGoneError
from backupd.postgres import settings
from backupd.postgres.connect import (
    Connection,
    Source,
    literal,
    open_connection,
    place_of,
    refuse_pooler,
    resolved,
)
from backupd.postgres.failures import translated
from backupd.postgres.source.locks import Obstacle, lock_tables

_LOCK_KEY = 0x6261636B75706421
"""Advisory lock of every backup of this database: "backup!" in ASCII."""
_ATTEMPTS = 5
"""Attempts made at least, where tables come and go."""
_LONGEST_NAME = 40
"""Characters of the application's name that are kept: PostgreSQL cuts the whole at 63."""
_PAUSE = 1.0
"""Seconds between two tries, in which nothing is locked and nothing is waited for."""
_BLINK = 0.1
"""Seconds before the tables are listed again."""

END_READERS = """
SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity a
WHERE a.application_name = %s AND a.usename = SESSION_USER AND a.pid <> pg_catalog.pg_backend_pid()
"""
"""Query that ends our readers: a statement whose output nobody takes at the moment can be ended, but not cancelled."""

_STRANGERS = """
SELECT l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %s AND l.objid = %s AND l.objsubid = 1
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND a.usesysid <> (SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolname = SESSION_USER)
  AND NOT (r.rolbypassrls OR r.rolsuper)
"""
"""Query for sessions that hold the lock and cannot be backups: their role cannot read everything."""
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
class ExportedSnapshot:
    """An exported snapshot, which other connections can join."""

    identifier: str
    instant: datetime
    """A time in UTC; nothing committed after it is in the snapshot."""
    lsn: str
    version: int
    """The server's `server_version_num`, such as 170004."""
    database: str
    """Real name of the database; it is data where databases are named after tenants."""
    standby: bool
    place: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Parameters that lead to the server where it is, which may be one of several of the source."""

    def preamble(self) -> str:
        """Return SQL that puts a session under the fixed settings, with short lock waits, and into this snapshot."""
        return settings.statements(settings.short_wait_settings(self.version)) + (
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;\n"
            f"SET TRANSACTION SNAPSHOT '{self.identifier}';\n"
        )


class Holder:
    """The transaction that keeps an exported snapshot and its table locks alive. Used by one thread."""

    def __init__(self, connection: Connection, exported: ExportedSnapshot) -> None:
        self.connection = connection
        """Connection that sees the snapshot until `release`."""
        self.exported = exported
        self._held = True

    @property
    def readers(self) -> str:
        """Return the application name of connections that read beside this one; on the server nobody else has it."""
        info = self.connection.info
        name = re.sub(r"[^ -~]", "?", info.get_parameters().get("application_name", ""))
        return f"{name[:_LONGEST_NAME]} {info.backend_pid}".strip()

    def parameters(self) -> dict[str, str]:
        """Return parameters for programs that read beside this connection; as secret as those of `resolved`."""
        return {**resolved(self.connection), "application_name": self.readers}

    def end_readers(self) -> None:
        """End all sessions that read beside this connection, as their results are not needed any more."""
        with suppress(psycopg.Error):
            self.connection.execute(END_READERS, (self.readers,))

    @property
    def held(self) -> bool:
        return self._held

    def check(self) -> None:
        """Check that the snapshot is still held, unless it was released.

        Raises SourceGoneError when the connection that held it is gone.
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
        """Release the snapshot and the table locks; the advisory lock stays until the end of `hold`."""
        if self._held:
            self._held = False
            with translated():
                self.connection.rollback()


@contextmanager
def hold(
    source: Source, *, lock_timeout: float = 30.0, single: bool = True, clock: Clock | None = None
) -> Iterator[Holder]:
    """Export a snapshot and hold it, and the right to be the only backup of this database, until the block ends.

    `lock_timeout` is in seconds, for all tries to lock the tables together. `single=False` takes no advisory lock, for
    readers that are no backup. Raises BusyError while another backup runs, SourceBusyError when a lock cannot be taken
    in time, and SourceError and SourceGoneError for PostgreSQL's errors.
    """
    with translated():
        connection = open_connection(source)
        try:
            refuse_pooler(connection)
            if single:
                _claim(connection)
            holder = Holder(connection, _export(connection, lock_timeout, clock or SystemClock()))
            yield holder
            holder.release()
        finally:
            _end(connection)


@contextmanager
def connect_beside(source: Source, holder: Holder) -> Iterator[Connection]:
    """Yield a connection in autocommit beside the holder's, which waits for locks only briefly.

    Raises SourceBusyError when it would have to wait longer, and when a thing that the holder's snapshot shows was
    dropped.
    """
    with translated():
        connection = open_connection(source, place=holder.exported.place)
        try:
            connection.execute(settings.statements(settings.short_wait_settings(holder.exported.version)).encode())
            connection.execute(f"SET application_name = {literal(holder.readers)}".encode())
            yield connection
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            raise SourceBusyError(
                "something was dropped or renamed after the snapshot was taken",
                hint="The next attempt takes the database as it is then.",
            ) from None
        finally:
            connection.close()


def _claim(connection: Connection) -> None:
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (_LOCK_KEY,)).fetchone()
    if row != (True,):
        if strangers := connection.execute(_STRANGERS, (_LOCK_KEY >> 32, _LOCK_KEY & 0xFFFFFFFF)).fetchall():
            pid = strangers[0][0]
            raise SourceError(
                f"the session with process id {pid}, which is no backup's, holds the lock of backups of this database",
                hint="pg_stat_activity names its role. Anybody who may connect can take this lock: end the session by "
                f"pg_terminate_backend({pid}), and ask why.",
            )
        raise BusyError(
            "another backup of this database is running", hint="Wait for it to end; the lock goes with its connection."
        )


def _end(connection: Connection) -> None:
    """Close the connection so that the advisory lock is free at once.

    The server notices a closed connection only after a while, and the next run may ask for the lock before that.
    """
    with closing(connection), suppress(psycopg.Error):
        connection.rollback()
        connection.execute("SELECT pg_catalog.pg_advisory_unlock_all()")


def _export(connection: Connection, lock_timeout: float, clock: Clock) -> ExportedSnapshot:
    """Try until all tables can be locked at once; other sessions wait for us no longer than one try.

    Raises SourceBusyError when `lock_timeout` seconds have passed.
    """
    deadline, attempts = clock.monotonic() + lock_timeout, 0
    obstacle: Obstacle | None = None
    while True:
        left = deadline - clock.monotonic()
        outcome = _attempt(connection, obstacle, min(left, settings.SHORT_WAIT))
        if isinstance(outcome, ExportedSnapshot):
            return outcome
        connection.rollback()
        attempts, left = attempts + 1, deadline - clock.monotonic()
        if isinstance(outcome, Obstacle):
            if left <= 0:
                raise outcome.error()
            # The first time it is waited for at once: most locks are held briefly.
            clock.sleep(min(left, _PAUSE) if obstacle is not None else 0)
            obstacle = outcome
        elif left > 0 or attempts < _ATTEMPTS:
            clock.sleep(_BLINK)
        else:
            raise SourceBusyError(
                "tables come and go faster than they can be locked", hint="Run the backup when no migration is running."
            )


def _attempt(connection: Connection, waited_for: Obstacle | None, wait: float) -> ExportedSnapshot | Obstacle | None:
    """Try once; return the snapshot, the obstacle, or None when the tables changed meanwhile."""
    wanted = {oid: (schema, table) for oid, schema, table in connection.execute(_LOCKABLE)}
    connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        obstacle = lock_tables(connection, wanted, waited_for, wait)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.WrongObjectType):
        return None
    if obstacle is not None:
        return obstacle
    row = connection.execute(_EXPORT).fetchone()
    if row is None:
        return None
    identifier, instant, database, lsn, standby = row
    if {oid: (schema, table) for oid, schema, table in connection.execute(_LOCKABLE)} != wanted:
        return None
    version = connection.info.server_version
    return ExportedSnapshot(
        identifier, instant.astimezone(UTC), lsn or "0/0", version, database, standby, place_of(connection)
    )
