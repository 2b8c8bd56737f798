"""Reading a source on real servers: snapshot, inventory, statements."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database, unique

from backupd.errors import BusyError, SourceBusyError, SourceError, SourceGoneError
from backupd.model.inventory import Table, TableKind, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Shared, TableRule, Tenancy, TenancyKind
from backupd.operations.tenancy.report import report_tenancy
from backupd.planning.mapping.tables import map_tables
from backupd.postgres.connect import Connection, Source, connect, open_connection, place_of
from backupd.postgres.source import exported
from backupd.postgres.source.exported import ExportedSnapshot, connect_beside, hold
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.select import BlockRange, block_ranges, select_rows
from backupd.postgres.target import session as target_session

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant_id")


def copied(connection: Connection, sql: str) -> bytes:
    with connection.cursor().copy(sql.encode()) as copy:
        return b"".join(copy)


def table_of(database: Database, name: str, schema: str = "public") -> Table:
    with connect(Source(database.conninfo)) as connection:
        return read_inventory(connection).by_name()[TableName(schema, name)]


@contextmanager
def joined(source: Source, exported: ExportedSnapshot) -> Iterator[Connection]:
    """A connection that sees the exported snapshot, by the words that psql and COPY are given."""
    with open_connection(source, place=exported.place) as connection:
        connection.execute(exported.preamble().encode())
        yield connection


class TestSnapshot:
    def test_rows_written_later_are_not_in_it(self, database: Database) -> None:
        """A reader that joins sees what was there at the export, whatever was committed since."""
        database.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        source = Source(database.conninfo)
        with hold(source) as holder:
            database.sql("INSERT INTO t VALUES (2)")
            with joined(source, holder.exported) as reader:
                assert reader.execute("SELECT n FROM public.t").fetchall() == [(1,)]
            assert holder.connection.execute("SELECT n FROM public.t").fetchall() == [(1,)]

    def test_it_says_when_and_where_it_was_taken(self, database: Database) -> None:
        """Instant, LSN, version and database are the server's own."""
        before = datetime.now(UTC)
        with hold(Source(database.conninfo)) as holder:
            exported = holder.exported
        assert before - timedelta(seconds=5) <= exported.instant <= datetime.now(UTC) + timedelta(seconds=5)
        assert exported.instant.utcoffset() == timedelta(0)
        assert exported.version // 10000 == database.server.major
        assert exported.database == database.name
        assert not exported.standby
        assert "/" in exported.lsn

    def test_all_that_read_it_go_where_it_is(
        self, pg15: Server, pg16: Server, make_database: Callable[..., Database]
    ) -> None:
        """Of several hosts libpq may choose another for each connection; only one of them has the snapshot."""
        one = make_database(pg15)
        make_database(pg16, name=one.name)
        hosts, ports = f"{pg15.sockets},{pg16.sockets}", f"{pg15.port},{pg16.port}"
        source = Source(f"host={hosts} port={ports} dbname={one.name} user=postgres load_balance_hosts=random")
        with hold(source) as holder:
            version, place = holder.exported.version, holder.exported.place
            for _ in range(5):
                with joined(source, holder.exported) as reader, connect_beside(source, holder) as free:
                    assert [each.info.server_version for each in (reader, free)] == [version] * 2
            found = holder.parameters()
        assert (found["host"], found["port"]) == (place["host"], place["port"])
        assert not found.keys() & {"load_balance_hosts", "target_session_attrs"}, "nothing is left to choose"

    def test_a_host_name_stays_beside_its_address(self, pg15: Server, tmp_path: Path) -> None:
        """A certificate is compared with the name; the address keeps to one server of those that bear it."""
        passfile = tmp_path / "pgpass"
        passfile.touch(0o600)
        passfile.write_text(f"localhost:{pg15.port}:*:*:{pg15.password}\n")
        with connect(Source(pg15.tcp().replace("127.0.0.1", "localhost"), passfile)) as connection:
            assert place_of(connection) == {"host": "localhost", "hostaddr": "127.0.0.1", "port": str(pg15.port)}

    def test_tables_cannot_be_cut_while_it_is_held(self, database: Database) -> None:
        """TRUNCATE, which snapshots do not protect from, waits for the release."""
        database.sql("CREATE TABLE t (n int)", "INSERT INTO t VALUES (1)")
        with hold(Source(database.conninfo)) as holder:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                database.sql("SET lock_timeout = '50ms'; TRUNCATE t")
            holder.release()
            database.sql("SET lock_timeout = '5s'; TRUNCATE t")

    def test_a_lock_not_to_be_had_is_worth_a_retry(self, database: Database) -> None:
        """A migration in the way makes a retryable error within the lock timeout, and names no table."""
        database.sql("CREATE TABLE marker_in_name (n int)")
        with database.server.connect(database.name) as other:
            other.execute("BEGIN; LOCK TABLE marker_in_name IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(SourceBusyError) as caught, hold(Source(database.conninfo), lock_timeout=0.2):
                pass
            assert caught.value.retryable
            assert "marker" not in str(caught.value) + caught.value.hint
            other.execute("ROLLBACK")

    def test_tables_made_meanwhile_start_it_over(self, database: Database) -> None:
        """With tables coming and going, whatever the snapshot shows is locked."""
        database.sql("CREATE TABLE old (n int)")
        stop = threading.Event()

        def churn() -> None:
            while not stop.is_set():
                database.sql("CREATE TABLE coming (n int)", "DROP TABLE coming")

        thread = threading.Thread(target=churn)
        thread.start()
        try:
            for _ in range(10):
                try:
                    with hold(Source(database.conninfo)) as holder:
                        seen = {table.oid for table in read_inventory(holder.connection).tables}
                        locked = holder.connection.execute(
                            "SELECT relation FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessShareLock'"
                        )
                        assert seen <= {oid for (oid,) in locked}
                except SourceBusyError:
                    continue
        finally:
            stop.set()
            thread.join()

    def test_one_backup_at_a_time(self, database: Database) -> None:
        """A second holder is told that another backup runs, until the first has ended, not merely released."""
        source = Source(database.conninfo)
        with hold(source) as holder:
            with pytest.raises(BusyError), hold(source):
                pass
            holder.release()
            with pytest.raises(BusyError), hold(source):
                pass
            with hold(source, single=False):
                pass
        with hold(source):
            pass

    def test_a_lost_holder_is_noticed(self, database: Database) -> None:
        """When the holding connection dies, `check` says so and nobody can join any more."""
        source = Source(database.conninfo)
        with hold(source) as holder:
            holder.check()
            database.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'backupd' AND datname = current_database()"
            )
            with pytest.raises(psycopg.Error), joined(source, holder.exported):
                pass
            with pytest.raises(SourceGoneError):
                holder.check()
            assert not holder.held

    def test_joining_after_release_fails_as_gone(self, database: Database) -> None:
        """A snapshot that was let go cannot be joined."""
        source = Source(database.conninfo)
        with hold(source) as holder:
            holder.release()
            assert not holder.held
            with pytest.raises(psycopg.Error), joined(source, holder.exported):
                pass


def test_who_takes_the_lock_and_makes_no_backup_is_found_out(database: Database, make_role: Callable[..., str]) -> None:
    """Anybody who may connect can: that is no backup under way, which would only be waited for, day by day."""
    source, claim = Source(database.conninfo), f"SELECT pg_advisory_lock({exported._LOCK_KEY})"
    for options, error in (("LOGIN", SourceError), ("LOGIN BYPASSRLS", BusyError)):
        role = make_role(database.server, options)
        with psycopg.connect(database.conninfo, user=role, autocommit=True) as other:
            other.execute(claim.encode())
            with pytest.raises(error) as caught, hold(source):
                pass
            said = f"process id {other.info.backend_pid}," in caught.value.message
            assert said == (error is SourceError), caught.value.message
            assert role not in caught.value.message + caught.value.hint


class TestSettings:
    def test_text_is_the_same_whatever_the_database_prefers(self, every_type: Database) -> None:
        """Defaults of database and role do not change how values are written."""
        value = (
            "SELECT '2026-01-31 12:00+00'::timestamptz::text, '1 day 2 hours'::interval::text, "
            r"'\x00ff'::bytea::text, 0.1::float8 + 0.2::float8, 1234.5::numeric::money::text"
        )
        assert every_type.sql(value)[0][0] != "2026-01-31 12:00:00+00"
        with connect(Source(every_type.conninfo)) as connection:
            assert connection.execute(value.encode()).fetchall() == [
                ("2026-01-31 12:00:00+00", "1 day 02:00:00", r"\x00ff", 0.30000000000000004, "$1,234.50")
            ]

    def test_psql_joins_by_the_preamble(self, database: Database) -> None:
        """The preamble puts any client into the snapshot and under the settings."""
        database.sql("CREATE TABLE t (n int)")
        with hold(Source(database.conninfo)) as holder:
            database.sql("INSERT INTO t VALUES (1)")
            script = holder.exported.preamble() + "SELECT count(*) FROM public.t; SHOW TimeZone;"
            arguments = [database.server.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", database.conninfo]
            done = subprocess.run(arguments, input=script, capture_output=True, text=True, check=True)
        assert done.stdout == "0\nUTC\n"


class TestInventory:
    def test_every_kind_of_table_is_known_for_what_it_is(self, every_type: Database) -> None:
        """Leaf partitions and heirs hold rows of their own; parents, views and foreign tables hold none to dump."""
        with connect(Source(every_type.conninfo)) as connection:
            tables = read_inventory(connection).by_name()
        zoo_tables = {name.table: table for name, table in tables.items() if name.schema == "zoo"}
        kinds = {name: table.kind for name, table in zoo_tables.items()}
        assert kinds["by_list"] is kinds["by_list_rest"] is TableKind.PARTITIONED
        assert kinds["by_list_rest_low"] is TableKind.PARTITION
        assert kinds["heir"] is TableKind.TABLE
        assert kinds["a_second"] is TableKind.MATVIEW
        assert kinds["far"] is TableKind.FOREIGN
        assert {name for name, table in zoo_tables.items() if not table.dumped} == {
            "by_list", "by_list_rest", "by_range", "by_hash", "by_none", "a_second", "z_first", "m_third",
            "not_populated", "far", *({"passwd"} & set(zoo_tables)),
        }  # fmt: skip
        low = zoo_tables["by_list_rest_low"]
        assert low.parents == (TableName("zoo", "by_list_rest"), TableName("zoo", "by_list"))
        assert not zoo_tables["unlogged"].logged
        assert "plain" not in zoo_tables
        assert not [name for name in tables if name.schema.startswith(("pg_", "information"))]

    def test_columns_are_those_pg_dump_writes(self, every_type: Database) -> None:
        """Neither dropped nor generated columns, in order; a table may have none."""
        columns = {
            name: table_of(every_type, name, "zoo").columns for name in ("generated", "dropped", "no_columns_left")
        }
        assert columns == {"generated": ("id", "a", "b"), "dropped": ("a", "b", "c", "late"), "no_columns_left": ()}
        assert len(table_of(every_type, "wide", "zoo").columns) == 1000
        if every_type.server.major >= 18:
            assert table_of(every_type, "virtual", "zoo").columns == ("id", "a")

    def test_an_extensions_configuration_is_dumped_its_internals_are_not(self, every_type: Database) -> None:
        """Of an extension's tables, only those it declares, under its condition."""
        tables = {name: table_of(every_type, name, "backupd_zoo") for name in ("settings", "internals", "all_rows")}
        assert {name: table.dumped for name, table in tables.items()} == {
            "settings": True, "internals": False, "all_rows": True,
        }  # fmt: skip
        assert tables["settings"].condition == "WHERE NOT standard"
        assert tables["all_rows"].condition == ""
        assert tables["settings"].extension == "backupd_zoo"

    def test_foreign_keys_say_where_they_lead(self, every_type: Database) -> None:
        """A key to a partitioned table appears once, a composite one in its order, with its operators."""
        (to_hash,) = table_of(every_type, "to_hash", "zoo").foreign_keys
        assert to_hash.target == TableName("zoo", "by_hash")
        (to_pair,) = table_of(every_type, "to_pair", "zoo").foreign_keys
        assert (to_pair.columns, to_pair.target_columns) == (("a", "b"), ("a", "b"))
        assert to_pair.operators == ('OPERATOR("pg_catalog".=)',) * 2
        (egg,) = table_of(every_type, "egg", "zoo").foreign_keys
        assert egg.required
        assert not to_hash.required

    def test_sizes_are_there(self, every_type: Database) -> None:
        """Blocks are real, rows and width estimates, n_distinct there for the columns asked for."""
        mixed = table_of(every_type, "mixed", "zoo")
        (count,) = every_type.sql("SELECT count(*) FROM zoo.mixed")[0]
        assert mixed.blocks * 8192 == every_type.sql("SELECT pg_relation_size('zoo.mixed')")[0][0]
        assert mixed.rows == count
        assert mixed.width is not None
        assert mixed.width > 100
        assert table_of(every_type, "huge", "zoo").size > 500_000
        with connect(Source(every_type.conninfo)) as connection:
            asked = read_inventory(connection, ["id"]).by_name()[TableName("zoo", "mixed")]
        assert asked.distinct == (("id", -1.0),)

    def test_temporary_tables_are_left_out(self, database: Database) -> None:
        """Another session's temporary tables are nobody's business."""
        with database.server.connect(database.name) as other:
            other.execute("CREATE TEMPORARY TABLE fleeting (n int)")
            with connect(Source(database.conninfo)) as connection:
                assert read_inventory(connection).tables == ()


class TestStatements:
    def test_each_table_reads_as_copy_reads_it(self, every_type: Database) -> None:
        """For every table of every type, routed or not, whole or by ranges: the bytes of a plain COPY."""
        with hold(Source(every_type.conninfo)) as holder:
            for table in read_inventory(holder.connection).tables:
                if not table.dumped:
                    continue
                whole = copied(holder.connection, select_rows(table, Shared()).sql)
                parts = [select_rows(table, Shared(), part).sql for part in block_ranges(table.blocks, grid=2)]
                assert b"".join(copied(holder.connection, part) for part in parts) == whole
                if table.condition is None and table.columns:
                    quoted = '"{}"."{}"'.format(*(part.replace('"', '""') for part in _parts(table)))
                    assert copied(holder.connection, f"COPY {quoted} TO STDOUT") == whole

    def test_a_routed_row_is_the_row_behind_its_tenant(self, every_type: Database) -> None:
        """By any column, taking away the first field leaves the unrouted bytes."""
        with hold(Source(every_type.conninfo)) as holder:
            for table in read_inventory(holder.connection).tables:
                if not table.dumped or not table.columns or table.columns[0] != "id":
                    continue
                routed = select_rows(table, Column("id"))
                assert routed.routed
                lines = copied(holder.connection, routed.sql).splitlines(keepends=True)
                rows = b"".join(line.split(b"\t", 1)[1] for line in lines)
                assert rows == copied(holder.connection, select_rows(table, Shared()).sql)

    def test_rows_without_columns_are_empty_lines(self, every_type: Database) -> None:
        """A table without columns still has its rows counted."""
        with hold(Source(every_type.conninfo)) as holder:
            tables = read_inventory(holder.connection).by_name()
            for name, count in (("no_columns", 7), ("no_columns_left", 2), ("only_generated", 2)):
                table = tables[TableName("zoo", name)]
                assert copied(holder.connection, select_rows(table, Shared()).sql) == b"\n" * count
                assert copied(holder.connection, select_rows(table, Shared(), BlockRange(0, 9)).sql) == b"\n" * count

    def test_conditions_of_extensions_are_kept(self, every_type: Database) -> None:
        """An extension's own rows are left out, also in a routed or a partial read."""
        with hold(Source(every_type.conninfo)) as holder:
            table = read_inventory(holder.connection).by_name()[TableName("backupd_zoo", "settings")]
            expected = b"mine\tkept\tf\nmine too\ttab\\t\tf\n"
            assert copied(holder.connection, select_rows(table, Shared()).sql) == expected
            assert copied(holder.connection, select_rows(table, Shared(), BlockRange(0, 5)).sql) == expected
            routed = copied(holder.connection, select_rows(table, Column("value")).sql)
            assert routed == b"kept\tmine\tkept\tf\ntab\\t\tmine too\ttab\\t\tf\n"

    def test_paths_keep_the_order_of_the_heap(self, database: Database) -> None:
        """Joining along foreign keys, also through a partitioned table, moves no row; orphans have no tenant."""
        database.sql(
            "CREATE TABLE account (id int PRIMARY KEY, tenant_id uuid)",
            "INSERT INTO account SELECT n, md5((n % 7)::text)::uuid FROM generate_series(1, 500) n",
            "CREATE TABLE project (id int PRIMARY KEY, account int REFERENCES account) PARTITION BY HASH (id)",
            "CREATE TABLE project_0 PARTITION OF project FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
            "CREATE TABLE project_1 PARTITION OF project FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
            "INSERT INTO project SELECT n, 1 + n % 500 FROM generate_series(1, 2000) n",
            "CREATE TABLE issue (id int, project int REFERENCES project, t text)",
            "INSERT INTO issue SELECT n, NULLIF(1 + (n * 7919) % 2001, 2001), 'i' FROM generate_series(1, 20000) n "
            "ORDER BY md5(n::text)",
            "ANALYZE",
        )
        rules = (
            TableRule(tables=("public.issue",), path=("issue_project_fkey",)),
            TableRule(tables=("public.project",), path=("project_account_fkey",)),
        )
        with hold(Source(database.conninfo)) as holder:
            inventory = read_inventory(holder.connection)
            mapping = map_tables(Tenancy(kind=TenancyKind.COLUMN, column="tenant_id", rules=rules), inventory)
            routes = {mapped.table.table: mapped.route for mapped in mapping.tables}
            assert not mapping.unmapped
            route, issue = routes["issue"], inventory.by_name()[TableName("public", "issue")]
            assert isinstance(route, ForeignKeyPath)
            lines = copied(holder.connection, select_rows(issue, route).sql).splitlines()
            assert b"\n".join(line.split(b"\t", 1)[1] for line in lines) + b"\n" == copied(
                holder.connection, select_rows(issue, Shared()).sql
            )
            ranged = [select_rows(issue, route, part).sql for part in block_ranges(issue.blocks, grid=10)]
            assert len(ranged) > 3
            assert b"".join(copied(holder.connection, sql) for sql in ranged).splitlines() == lines
            expected = holder.connection.execute(
                "SELECT i.id, a.tenant_id::text FROM public.issue i LEFT JOIN public.project p ON p.id = i.project "
                "LEFT JOIN public.account a ON a.id = p.account"
            ).fetchall()
        found = {int(line.split(b"\t")[1]): line.split(b"\t")[0].decode() for line in lines}
        assert found == {number: tenant or "\\N" for number, tenant in expected}
        assert "\\N" in found.values()

    def test_a_key_of_another_operator_is_followed_by_it(
        self, pg15: Server, make_every_type: Callable[..., Database]
    ) -> None:
        """A case-insensitive key finds its target although its operator is not in the search path."""
        every_type = make_every_type(pg15)
        rules = (TableRule(tables=("zoo.to_folded",), path=("to_folded_name_fkey",), column="name"),)
        with hold(Source(every_type.conninfo)) as holder:
            inventory = read_inventory(holder.connection)
            mapping = map_tables(Tenancy(kind=TenancyKind.COLUMN, rules=rules, unclassified="shared"), inventory)
            mapped = next(mapped for mapped in mapping.tables if mapped.table.table == "to_folded")
            table = inventory.by_name()[mapped.table]
            found = copied(holder.connection, select_rows(table, mapped.route).sql).decode()
        assert found == "MiXed\t1\tmixed\nstraße\t2\tSTRAße\n\\N\t3\t\\N\n"


class TestTenancyReport:
    def test_it_shows_what_would_map_the_rest(self, database: Database) -> None:
        """On a real database: tenant columns found, foreign-key paths proposed, estimates shown."""
        database.sql(
            "CREATE TABLE account (id int PRIMARY KEY, tenant_id int)",
            "INSERT INTO account SELECT n, n % 3 FROM generate_series(1, 30) n",
            "CREATE TABLE issue (id int, account int NOT NULL CONSTRAINT of_account REFERENCES account)",
            "ANALYZE",
        )
        report = report_tenancy("label", Source(database.conninfo), BY_COLUMN)
        assert [(line.table, line.route, line.rows, [way.rule for way in line.ways]) for line in report.lines] == [
            ("public.issue", "no rule, tenant column or pattern covers it", 0, ['path = ["account"]']),
            ("public.account", "column tenant_id", 30, []),
        ]
        assert not report.complete


def _parts(table: Table) -> tuple[str, str]:
    return table.name.schema, table.name.table


class TestErrors:
    def test_what_postgresql_says_stays_inside(self, database: Database) -> None:
        """An error that quotes a row comes out as its code alone."""
        database.sql("CREATE TABLE t (s text)", "INSERT INTO t VALUES ('marker row')")
        with pytest.raises(SourceError) as caught, connect(Source(database.conninfo)) as connection:
            connection.execute("SELECT s::int FROM public.t")
        assert "marker" not in str(caught.value) + caught.value.hint
        assert "22P02" in str(caught.value)
        assert caught.value.__cause__ is None
        assert not caught.value.retryable

    def test_refusals_are_told_apart(self, pg17: Server, make_database: Callable[..., Database]) -> None:
        """Wrong password, missing role, missing database and no server say which, and never who or what."""
        name = make_database(pg17).name
        cases = {
            "no password": pg17.tcp(name),
            "role": pg17.conninfo(name, "marker_nobody"),
            "database does not": pg17.conninfo("marker_nothing"),
            "service": "service=marker_none",
        }
        for words, conninfo in cases.items():
            with pytest.raises(SourceError, match=words) as caught, connect(Source(conninfo)):
                pass
            assert "marker" not in str(caught.value) + caught.value.hint
            assert not caught.value.retryable
        elsewhere = Source("host=127.0.0.1 port=1 dbname=marker")
        for opened in (connect(elsewhere), target_session.connect(elsewhere, "marker")):
            with pytest.raises(SourceGoneError, match=r"at 127\.0\.0\.1, port 1") as gone, opened:
                pass
            assert "marker" not in str(gone.value)

    def test_sources_hold_no_password(self) -> None:
        """A password in the connection string is refused, and a source does not show its string."""
        from backupd.errors import ConfigError

        for conninfo in ("host=a password=marker", "postgresql://u:marker@h/d"):
            source = Source(conninfo)
            assert "marker" not in repr(source)
            with pytest.raises(ConfigError) as caught, connect(source):
                pass
            assert "marker" not in str(caught.value)
        with pytest.raises(ConfigError), connect(Source("this is = nothing")):
            pass

    def test_unique_names_are(self) -> None:
        """Names for databases and roles do not collide."""
        assert unique("x") != unique("x")
