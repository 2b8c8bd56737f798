"""What the server says of itself, of its tables and of changed blocks."""

from __future__ import annotations

from collections.abc import Callable

from doubles.node.processes import eventually
from doubles.servers.postgres import Server
from fix_postgres import Database
from fix_regions import NO_TENANTS

from backupd.clock import SystemClock
from backupd.operations.preflight import check_source
from backupd.planning.incremental.extents import PLAIN
from backupd.planning.incremental.facts import UNIT, BlockChanges, FileId, Look, Reason, WalPair, Window
from backupd.postgres.connect import Source, connect
from backupd.postgres.source.exported import hold
from backupd.postgres.source.wal_summaries import (
    LookLimit,
    find_obstacle,
    look_at,
    note_checkpoint,
    read_changes,
    read_table_facts,
)


def source(database: Database, user: str = "postgres") -> Source:
    return Source(database.server.conninfo(database.name, user), client_folders=(database.server.bin,))


def test_types_are_told_apart_by_where_their_text_comes_from(summarized: Database) -> None:
    """A domain's text and a name looked up may change without the row; so may their arrays'. Enums have labels."""
    summarized.sql(
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE DOMAIN email AS text",
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE TABLE t (a int, b text[], c varchar(9), d mood, e mood[], f email, g email[], h regclass, i pair, "
        "gone int, j timestamptz[], k jsonb, l int4range)",
        "ALTER TABLE t DROP COLUMN gone",
        "CREATE UNLOGGED TABLE u (a int)",
        "CREATE TABLE p (a int) PARTITION BY RANGE (a)",
    )
    oids = [oid for (oid,) in summarized.sql("SELECT oid FROM pg_class WHERE relname IN ('t', 'u', 'p') ORDER BY 1")]
    with connect(source(summarized)) as connection:
        facts = read_table_facts(connection, oids)
    table = facts[oids[0]]
    assert {one.name for one in table.columns if one.type in PLAIN} == set("abcjk")
    assert {one.name for one in table.columns if one.labels} == set("de")
    assert [one.number for one in table.columns if one.dropped] == [10]
    assert (table.logged, table.heap, facts[oids[1]].logged, len(facts)) == (True, True, False, 2)


def test_a_look_names_the_blocks_that_changed_up_to_the_exported_snapshot(summarized: Database) -> None:
    """Those of this database's heaps, and every file that was made or truncated."""
    summarized.sql(
        "CREATE TABLE t AS SELECT g AS a, repeat('x', 1000) AS b FROM generate_series(1, 20000) g",
        "CREATE TABLE cut (a int)",
        "VACUUM (FREEZE) t",
    )
    (kept,) = summarized.sql("SELECT pg_relation_filenode('t')")[0]
    with connect(source(summarized)) as beside:
        start = note_checkpoint(beside)
        assert isinstance(start, WalPair)
        summarized.sql("UPDATE t SET a = 0 WHERE ctid = '(1500,1)'", "TRUNCATE cut")
        (cut,) = summarized.sql("SELECT pg_relation_filenode('cut')")[0]
        with hold(source(summarized)) as holder:
            look = look_at(holder.connection, beside, [start], LookLimit(30.0, SystemClock()))
            assert isinstance(look, Look)
            assert look.durable >= look.lsn > start.lsn
            assert look.oldest >= start.next_xid
            wanted = tuple(one for one in look.summaries if one.end > start.lsn)
            changes = read_changes(beside, Window(start.lsn, look.lsn, wanted), look.server)
    assert isinstance(changes, BlockChanges)
    assert changes.units[FileId(1663, kept)] >= {1500 // UNIT}
    assert 0 not in changes.units[FileId(1663, kept)]
    assert changes.renewed(FileId(1663, cut))
    assert not changes.renewed(FileId(1663, kept))


def test_a_look_names_the_oldest_transaction_that_is_running(summarized: Database) -> None:
    """Not the next one: what it wrote shows when it commits, and then changes are looked for from before it."""
    summarized.sql("CREATE TABLE t (a int)")
    with summarized.server.connect(summarized.name) as late, connect(source(summarized)) as beside:
        late.execute("BEGIN; INSERT INTO t VALUES (1)")
        (running,) = late.execute("SELECT pg_current_xact_id()::text").fetchall()[0]
        summarized.sql("INSERT INTO t VALUES (2)", "INSERT INTO t VALUES (3)")
        with hold(source(summarized)) as holder:
            look = look_at(holder.connection, beside, [], LookLimit(30.0, SystemClock()))
        late.execute("ROLLBACK")
    assert isinstance(look, Look)
    assert look.oldest == int(running)


def test_what_is_missing_is_said_with_the_statements_that_help(
    summarized: Database, make_role: Callable[..., str], make_database: Callable[..., Database], pg17: Server
) -> None:
    """Only where something is to be skipped; where that is required, the check fails."""
    role = make_role(summarized.server)
    summarized.sql(f"GRANT pg_read_all_data TO {role}")
    with connect(source(summarized, role)) as connection:
        assert find_obstacle(connection) is Reason.NO_CHECKPOINT
        assert note_checkpoint(connection) is Reason.NO_CHECKPOINT
    found = {one.code: one for one in check_source(source(summarized, role), NO_TENANTS, "auto")}
    assert f'GRANT pg_checkpoint TO "{role}";' in found["incremental"].hint
    assert found["incremental"].severity == "warning"
    assert "incremental" not in {one.code for one in check_source(source(summarized, role), NO_TENANTS)}
    summarized.sql(f"GRANT pg_checkpoint TO {role}")
    assert "incremental" not in {one.code for one in check_source(source(summarized, role), NO_TENANTS, "require")}
    other = make_database(pg17)
    found = {one.code: one for one in check_source(source(other), NO_TENANTS, "require")}
    assert "ALTER SYSTEM SET summarize_wal = on" in found["incremental"].hint
    assert found["incremental"].severity == "error"


def test_a_server_whose_wal_may_be_lost_is_not_relied_on(
    make_database: Callable[..., Database], summarizing_of: Callable[[int], Server]
) -> None:
    """What was seen of an asynchronous commit may be taken back by a crash."""
    database = make_database(summarizing_of(18))
    try:
        _set_fsync(database, "off")
        with connect(source(database)) as connection:
            assert find_obstacle(connection) is Reason.NOT_DURABLE
    finally:
        _set_fsync(database, "on")


def _set_fsync(database: Database, value: str) -> None:
    """Set it, and return when new sessions have it."""
    database.sql(f"ALTER SYSTEM SET fsync = {value}", "SELECT pg_reload_conf()")
    eventually(lambda: database.sql("SHOW fsync") == [(value,)])
