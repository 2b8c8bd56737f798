"""Reading what PostgreSQL 17 and newer know of changed blocks: its WAL summaries, and the catalog's facts beside them.

A summary ends where a checkpoint began. So a checkpoint is forced behind an exported snapshot, and the summarizer is
waited for; the summaries then name every block that was changed before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import psycopg

from backupd.clock import Clock
from backupd.planning.incremental.facts import (
    UNIT,
    BlockChanges,
    ColumnFacts,
    FileId,
    Look,
    Reason,
    ServerMark,
    Summary,
    TableFacts,
    WalPair,
    Window,
)
from backupd.postgres.connect import Connection, identifier
from backupd.postgres.failures import translated
from backupd.postgres.settings import milliseconds

OLDEST = 170000
"""The `server_version_num` of the first server that summarizes its WAL."""
LONGEST_CHECKPOINT = 300.0
"""Seconds that a checkpoint may take while nothing is locked."""
_PAUSE = 0.02

_SETTINGS = """
SELECT pg_catalog.current_setting('summarize_wal'), pg_catalog.current_setting('fsync'),
  pg_catalog.pg_has_role(CURRENT_USER, 'pg_checkpoint', 'USAGE')
"""
_PAIR = """
SELECT redo_lsn - '0/0'::pg_catalog.pg_lsn, next_xid FROM pg_catalog.pg_control_checkpoint()
"""
_MARK = """
SELECT s.system_identifier, c.timeline_id, pg_catalog.pg_postmaster_start_time()::text, d.oid
FROM pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c, pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
"""
_OLDEST_XID = "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text"
_BEHIND = "SELECT pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn"
_SUMMARIES = """
SELECT tli, start_lsn - '0/0'::pg_catalog.pg_lsn, end_lsn - '0/0'::pg_catalog.pg_lsn
FROM pg_catalog.pg_available_wal_summaries()
"""
_CONTENTS = """
SELECT DISTINCT reltablespace, relfilenode, is_limit_block,
  CASE WHEN is_limit_block THEN 0 ELSE relblocknumber / %s END
FROM pg_catalog.pg_wal_summary_contents(
  %s, '0/0'::pg_catalog.pg_lsn + %s::numeric, '0/0'::pg_catalog.pg_lsn + %s::numeric)
WHERE reldatabase = %s AND (relforknumber = 0 OR relfilenode = 0)
"""
"""Query for what a summary says of the heaps of one database, by units of blocks."""
_TABLES = """
SELECT c.oid, COALESCE(NULLIF(c.reltablespace, 0), d.dattablespace), c.relfilenode, c.relpersistence = 'p',
  COALESCE(m.amname = 'heap', false)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
LEFT JOIN pg_catalog.pg_am m ON m.oid = c.relam
WHERE c.oid = ANY (%s::oid[]) AND c.relkind = 'r' AND c.relfilenode <> 0
"""
_COLUMNS = """
SELECT a.attrelid, a.attnum, a.attname,
  COALESCE(CASE WHEN t.typtype <> 'b' THEN NULL
    WHEN e.oid IS NULL THEN n.nspname || '.' || t.typname
    WHEN e.typtype = 'b' THEN en.nspname || '.' || e.typname || '[]' END, ''),
  a.atttypmod, a.attisdropped, a.attgenerated, a.xmin::text, COALESCE((
    SELECT pg_catalog.string_agg(l.oid || ' ' || l.xmin::text || ' ' || l.enumlabel, ',' ORDER BY l.oid)
    FROM pg_catalog.pg_enum l
    WHERE l.enumtypid = CASE 'e' WHEN t.typtype THEN t.oid WHEN e.typtype THEN e.oid END), ''),
  a.atttypid
FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_type e ON e.typarray = t.oid LEFT JOIN pg_catalog.pg_namespace en ON en.oid = e.typnamespace
WHERE a.attrelid = ANY (%s::oid[]) AND a.attnum > 0 ORDER BY 1, 2
"""


def find_obstacle(connection: Connection) -> Reason | None:
    """Return why this server's WAL summaries cannot be used, apart from what a look at them may bring."""
    if connection.info.server_version < OLDEST:
        return Reason.OLD_SERVER
    if connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() != (False,):
        return Reason.STANDBY
    summarized, durable, allowed = connection.execute(_SETTINGS).fetchall()[0]
    if summarized != "on":
        return Reason.NOT_SUMMARIZED
    if durable != "on":
        return Reason.NOT_DURABLE
    return None if allowed else Reason.NO_CHECKPOINT


def cure(connection: Connection, obstacle: Reason) -> str:
    """Return what to do about an obstacle, with the statements to paste."""
    role = identifier(connection.info.user)
    cures = {
        Reason.OLD_SERVER: "Only PostgreSQL 17 and newer name the blocks that changed.",
        Reason.STANDBY: "Back up the primary, which summarizes its WAL.",
        Reason.NOT_SUMMARIZED: "ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf(); as a superuser.",
        Reason.NOT_DURABLE: "A crash of its machine could take back what was seen: ALTER SYSTEM SET fsync = on;",
        Reason.NO_CHECKPOINT: f"GRANT pg_checkpoint TO {role}; as a superuser.",
    }
    return f'{cures[obstacle]} Or set incremental = "off".'


def note_checkpoint(connection: Connection, patience: float = LONGEST_CHECKPOINT) -> WalPair | Reason:
    """Force a checkpoint, and return the pair that it or a later one noted; the connection is in autocommit.

    It may take `patience` seconds.
    """
    try:
        connection.execute(f"SET statement_timeout = '{milliseconds(patience)}'".encode())
        connection.execute("CHECKPOINT")
        lsn, xid = connection.execute(_PAIR).fetchall()[0]
    except psycopg.errors.QueryCanceled:
        return Reason.SLOW_SUMMARIES
    except psycopg.errors.InsufficientPrivilege:
        return Reason.NO_CHECKPOINT
    epoch, low = map(int, xid.split(":"))
    return WalPair(int(lsn), epoch << 32 | low)


class LookLimit(NamedTuple):
    """The time that a look may take while tables are locked, as others may wait for them."""

    seconds: float
    clock: Clock


def look_at(exported: Connection, beside: Connection, before: Iterable[WalPair], patience: LookLimit) -> Look | Reason:
    """Force a checkpoint behind an exported snapshot and return what the server then knows, or why nothing does.

    `exported` sees the snapshot, `beside` is in autocommit. Raises SourceGoneError, SourceError.
    """
    deadline = patience.clock.monotonic() + patience.seconds
    with translated():
        oldest = int(exported.execute(_OLDEST_XID).fetchall()[0][0])
        behind = int(beside.execute(_BEHIND).fetchall()[0][0])
        pair = note_checkpoint(beside, patience.seconds)
        if isinstance(pair, Reason):
            return pair
        try:
            summaries = _wait_for(beside, behind, deadline, patience.clock)
            system, timeline, started, database = beside.execute(_MARK).fetchall()[0]
        except psycopg.errors.InsufficientPrivilege:
            return Reason.NOT_ALLOWED
        if summaries is None:
            return Reason.SLOW_SUMMARIES
        mark = ServerMark(system, timeline, started, beside.info.server_version, database)
        return Look(mark, oldest, behind, pair.lsn, (*before, pair), summaries)


def _wait_for(connection: Connection, lsn: int, deadline: float, clock: Clock) -> tuple[Summary, ...] | None:
    """Return the summaries once one reaches a place; it is made soon after the checkpoint."""
    while True:
        rows = connection.execute(_SUMMARIES).fetchall()
        summaries = tuple(Summary(timeline, int(start), int(end)) for timeline, start, end in rows)
        if any(summary.end >= lsn for summary in summaries):
            return summaries
        if clock.monotonic() > deadline:
            return None
        clock.sleep(_PAUSE)


def read_changes(connection: Connection, window: Window, server: ServerMark) -> BlockChanges | Reason:
    """Return what the summaries of a window say of the heaps of the server's database."""
    units: defaultdict[FileId, set[int]] = defaultdict(set)
    limited: set[FileId] = set()
    with translated():
        for summary in window.summaries:
            try:
                rows = connection.execute(_CONTENTS.encode(), (UNIT, *summary, server.database)).fetchall()
            except (psycopg.errors.UndefinedFile, psycopg.errors.DataError):
                return Reason.GAP
            except psycopg.errors.InsufficientPrivilege:
                return Reason.NOT_ALLOWED
            for tablespace, number, is_limit, unit in rows:
                if is_limit:
                    limited.add(FileId(tablespace, number))
                else:
                    units[FileId(tablespace, number)].add(unit)
    whole = any(not file.number for file in (*limited, *units))
    return BlockChanges({file: frozenset(found) for file, found in units.items()}, frozenset(limited), whole)


def read_table_facts(connection: Connection, oids: Iterable[int]) -> dict[int, TableFacts]:
    """Return the facts of tables by their oids; those that hold no rows themselves have none."""
    wanted = list(oids)
    columns: defaultdict[int, list[ColumnFacts]] = defaultdict(list)
    with translated():
        for oid, number, name, kind, *rest, type_oid in connection.execute(_COLUMNS.encode(), (wanted,)):
            label = kind or str(type_oid)
            columns[oid].append(ColumnFacts(number, name, label, *rest))
        rows = connection.execute(_TABLES.encode(), (wanted,)).fetchall()
    return {
        oid: TableFacts(oid, FileId(tablespace, number), logged, heap, tuple(columns[oid]))
        for oid, tablespace, number, logged, heap in rows
    }
