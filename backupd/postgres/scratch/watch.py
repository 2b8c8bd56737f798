"""The limits of a scratch server in time and disk space, and what is faulty in a restored database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from backupd.errors import BackupdError, SourceBusyError, SourceError, SpoolFullError
from backupd.postgres.connect import Connection, Source, connect
from backupd.postgres.scratch.folder import ScratchServer

_EVERY = 2.0
"""Seconds between two looks at the size."""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """The limits of one phase of a drill."""

    seconds: float
    size: int
    """Bytes that all the server's files may take."""


@contextmanager
def limited(server: ScratchServer, phase: str, limits: PhaseLimits) -> Iterator[None]:
    """Stop the server when the block takes more time or disk space than allowed; the block's work then fails.

    Raises SourceBusyError or SpoolFullError in place of that failure, or of the block's own end.
    """
    ended, broken = threading.Event(), list[BackupdError]()
    watching = threading.Thread(target=_watch, args=(server, phase, limits, ended, broken), name="watch", daemon=True)
    watching.start()
    try:
        yield
    except BackupdError as error:
        if broken:
            raise broken[0] from error
        raise
    finally:
        ended.set()
        watching.join()
    if broken:
        raise broken[0]


def _watch(
    server: ScratchServer, phase: str, limits: PhaseLimits, ended: threading.Event, broken: list[BackupdError]
) -> None:
    until = time.monotonic() + limits.seconds
    while not ended.wait(max(0.0, min(_EVERY, until - time.monotonic()))):
        error = _exceeded(server, phase, limits, until)
        if error is not None:
            broken.append(error)
            server.stop()
            return


def _exceeded(server: ScratchServer, phase: str, limits: PhaseLimits, until: float) -> BackupdError | None:
    if time.monotonic() >= until:
        return SourceBusyError(
            f"the drill's phase '{phase}' took longer than the {limits.seconds:.0f} s it may take",
            hint="Look at what slowed it down, or raise the limit under [drill].",
        )
    if server.size() > limits.size:
        return SpoolFullError(
            "the drill's scratch server needs more room than it may take",
            hint="Raise drill.max_size, and see that the disk of drill.scratch_dir has it.",
        )
    return None


_USER = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
_CONSTRAINTS = f"""
SELECT count(*), coalesce(array_agg(CASE WHEN k.conrelid <> 0 THEN k.conrelid::pg_catalog.regclass::text
  ELSE k.contypid::pg_catalog.regtype::text END || ' ' || k.conname) FILTER (WHERE NOT k.convalidated), '{{}}')
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_namespace n ON n.oid = k.connamespace WHERE {_USER} AND k.contype IN ('c', 'f', 'p', 'u', 'x')
AND (k.conparentid = 0 OR k.convalidated)
"""  # noqa: S608  # made of constants of this module
_INDEXES = f"""
SELECT count(*), coalesce(array_agg(i.indexrelid::pg_catalog.regclass::text)
  FILTER (WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive)), '{{}}')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {_USER}
"""  # noqa: S608  # made of constants of this module
_IDENTIFIER = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"


@dataclass(frozen=True, slots=True)
class FaultyObjects:
    """The number of objects of a kind, and the names of the faulty ones."""

    total: int
    faulty: tuple[str, ...] = field(default=(), repr=False)


def constraints(connection: Connection) -> FaultyObjects:
    """Count the constraints, and name those of them that were never validated."""
    return _read(connection, _CONSTRAINTS)


def indexes(connection: Connection) -> FaultyObjects:
    """Count the indexes, and name those of them that queries do not use."""
    return _read(connection, _INDEXES)


def system_identifier(connection: Connection) -> str | None:
    """Return the text that identifies a cluster; None where the role may not read it.

    A copy made file by file, such as a standby, has its origin's.
    """
    try:
        return str(connection.execute(_IDENTIFIER).fetchall()[0][0])
    except psycopg.errors.InsufficientPrivilege:
        return None


def whole_number(source: Source, sql: str, seconds: int) -> int | None:
    """Return the whole number that a query gives in one row, read in a transaction that can change nothing.

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


def _read(connection: Connection, sql: str) -> FaultyObjects:
    total, faulty = connection.execute(sql.encode()).fetchall()[0]
    return FaultyObjects(int(total), tuple(sorted(map(str, faulty))))
