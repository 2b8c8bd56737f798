"""Preflight on real servers: each shortcoming is found, and its hint mends it."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from doubles.servers.postgres import Server, quoted
from fix_postgres import Database, unique

from backupd.errors import SourceError
from backupd.model.findings import Finding, Severity, errors_among
from backupd.model.inventory import TableName
from backupd.model.tenancy import Shared, Tenancy, TenancyKind
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.client_programs import client, find_programs, run
from backupd.postgres.connect import Source, connect, resolved
from backupd.postgres.schema.dump import dump_globals, dump_schema, large_objects_command
from backupd.postgres.source.exported import hold
from backupd.postgres.source.facts import read_facts, read_sequences
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight
from backupd.postgres.source.select import select_rows
from backupd.postgres.target.session import connect as target

TOLD = {"extension-tables", "user-mappings"}
"""Warnings about what no role can have backed up."""


def findings(conninfo: str, folders: tuple[Path, ...] = (), never: Collection[TableName] = ()) -> dict[str, Finding]:
    source = Source(conninfo, client_folders=folders)
    with connect(source) as connection:
        found = preflight(connection, source, read_inventory(connection), never)
    assert [finding.severity for finding in found] == sorted(finding.severity for finding in found)
    return {finding.code: finding for finding in found}


def test_a_superuser_is_more_than_needed(every_type: Database) -> None:
    """With a superuser nothing is missing, and it is said that less would do."""
    found = findings(every_type.conninfo)
    assert set(found) - TOLD == {"superuser"}
    assert found["superuser"].severity is Severity.WARNING
    assert "CREATE ROLE backupd LOGIN BYPASSRLS; GRANT pg_read_all_data TO backupd;" in found["superuser"].hint


def test_the_hints_lead_to_a_role_that_can_back_up_everything(
    every_type: Database, make_role: Callable[..., str]
) -> None:
    """Starting from a role that may nothing, running each hint's statement leaves no finding, and all can be read."""
    role = make_role(every_type.server, "LOGIN")
    conninfo = every_type.server.conninfo(every_type.name, role)
    found = findings(conninfo)
    assert {"unreadable", "large-objects"} <= set(found)
    assert all(finding.severity is Severity.ERROR for code, finding in found.items() if code not in TOLD)
    for _ in range(3):
        for finding in (one for code, one in findings(conninfo).items() if code not in TOLD):
            (statement,) = re.findall(r"^(?:GRANT|ALTER)[^;]*;", finding.hint)
            every_type.sql(statement)
    assert set(findings(conninfo)) <= TOLD
    _read_everything(every_type, Source(conninfo, client_folders=(every_type.server.bin,)))
    every_type.sql(f"ALTER ROLE {quoted(role)} RESET ALL")


def _read_everything(every_type: Database, source: Source) -> None:
    with hold(source) as holder, connect(source) as free:
        exported, connection = holder.exported, holder.connection
        names = NamePatterns(Tenancy(TenancyKind.NONE), exported.database)
        for table in read_inventory(connection).tables:
            if table.dumped:
                with connection.cursor().copy(select_rows(table, Shared()).sql.encode()) as copy:
                    rows = b"".join(copy).count(b"\n")
                qualified = f"{quoted(table.name.schema)}.{quoted(table.name.table)}"
                condition = table.condition or ""
                assert every_type.sql(f"SELECT count(*) FROM ONLY {qualified} {condition}") == [(rows,)]
        assert read_sequences(connection, free)
        assert read_facts(connection)["refresh"]
        with client(find_programs(source.client_folders, exported.version), resolved(connection)) as started:
            assert dump_schema(started, exported, names).entries[None]
            assert "PASSWORD 'SCRAM" in dump_globals(started, connection, names)[None]
            command = large_objects_command(started, connection, exported)
            assert command is not None
            assert b"small" in run(command, started.environment)


def test_row_security_that_hides_rows_is_an_error(
    pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
) -> None:
    """A role that reads all data but is subject to row-level security would miss rows, and is told so."""
    database, role = make_database(pg17), make_role(pg17, "LOGIN IN ROLE pg_read_all_data")
    database.sql("CREATE TABLE t (n int)", "ALTER TABLE t ENABLE ROW LEVEL SECURITY", "INSERT INTO t VALUES (1)")
    conninfo = pg17.conninfo(database.name, role)
    found = findings(conninfo)
    assert set(found) == {"row-security"}
    assert "1 table " in found["row-security"].message
    with pytest.raises(SourceError, match="42501"), connect(Source(conninfo)) as connection:
        connection.execute("COPY public.t TO STDOUT")


def test_lock_slots_are_counted(pg17: Server, make_database: Callable[..., Database]) -> None:
    """More relations than half the lock slots is a warning, more than all of them an error."""
    database = make_database(pg17)
    slots = int(
        database.sql(
            "SELECT current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int"
        )[0][0]
    )
    source = Source(database.conninfo)
    with connect(source) as connection:
        from backupd.model.inventory import Inventory, Table, TableKind, TableName

        def found(count: int) -> list[Finding]:
            table = Table(TableName("public", "t"), 1, TableKind.PARTITIONED, ())
            inventory = Inventory("app", (table,) * count)
            return [finding for finding in preflight(connection, source, inventory) if finding.code == "lock-slots"]

        assert found(slots // 2) == []
        assert [finding.severity for finding in found(slots // 2 + 1)] == [Severity.WARNING]
        assert errors_among(found(slots + 1))


@pytest.mark.parametrize("of", ["ROLE", "DATABASE"])
def test_too_few_connections_are_an_error_at_once(
    pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str], of: str
) -> None:
    """One fewer than a backup opens would have each of its tries wait in vain; as many are enough, and a superuser has
    no limit."""
    database, role = make_database(pg17), make_role(pg17)
    database.sql("CREATE TABLE t (a int); CREATE TABLE u (a int)")
    source = Source(pg17.conninfo(database.name, role))

    def found(limit: int, source: Source, workers: int) -> list[Finding]:
        database.sql(f"ALTER {of} {quoted(role if of == 'ROLE' else database.name)} CONNECTION LIMIT {limit}")
        with connect(source) as connection:
            listed = preflight(connection, source, read_inventory(connection), workers=workers)
        return [finding for finding in listed if finding.code == "connection-limit"]

    assert [found(5, source, 2), found(5, source, 9), found(-1, source, 9)] == [[], [], []]
    assert found(1, Source(database.conninfo), 2) == []
    for limit in (1, 4):
        (only,) = found(limit, source, 2)
        assert only.severity is Severity.ERROR
        assert f"the {of.lower()} may have {limit} session" in only.message
        assert only.message.endswith("and a backup needs 5 at once")
        assert f"ALTER {of}" in only.hint
        assert "CONNECTION LIMIT -1;" in only.hint


def test_old_client_programs_are_an_error(
    pg18: Server, make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without programs as new as the server there is no backup."""
    from backupd.errors import ConfigError

    def none_found(*_: object) -> None:
        raise ConfigError("no client programs of PostgreSQL 18 or newer were found", hint="Install them.")

    monkeypatch.setattr("backupd.postgres.source.preflight.find_programs", none_found)
    assert "client-version" in findings(make_database(pg18).conninfo)


@contextmanager
def pooler(server: Server) -> Iterator[int]:
    """A relay that, like a pooler, tells clients a process id of its own making; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def relay(inbound: socket.socket) -> None:
            with inbound, socket.socket(socket.AF_UNIX) as outbound:
                outbound.connect(f"{server.sockets}/.s.PGSQL.{server.port}")
                threading.Thread(target=_pump, args=(inbound, outbound, False), daemon=True).start()
                _pump(outbound, inbound, True)

        def accept() -> None:
            while True:
                try:
                    inbound, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=relay, args=(inbound,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket, disguise: bool) -> None:
    key = struct.pack("!cI", b"K", 12)
    try:
        while data := source.recv(65536):
            if disguise and key in data:
                at = data.index(key) + len(key)
                data = data[:at] + b"\x00\x00\x00\x07" + data[at + 4 :]
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_a_pooler_is_noticed(pg17: Server, make_database: Callable[..., Database]) -> None:
    """A connection that somebody else's process stands behind is refused, by preflight, backup and restore."""
    database = make_database(pg17)
    with pooler(pg17) as port:
        conninfo = f"host=127.0.0.1 port={port} dbname={database.name} user=postgres sslmode=disable gssencmode=disable"
        assert "pooler" in findings(conninfo)
        with pytest.raises(SourceError, match="pooler"), hold(Source(conninfo)):
            pass
        with pytest.raises(SourceError, match="pooler"), target(Source(conninfo), database.name):
            pass


def test_subscriptions_are_beyond_an_ordinary_role(
    pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
) -> None:
    """What only a superuser can read is said to be missing, as a warning."""
    database = make_database(pg17)
    role = make_role(pg17, "LOGIN BYPASSRLS IN ROLE pg_read_all_data")
    name = unique("sub")
    database.sql(f"CREATE SUBSCRIPTION {name} CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)")
    try:
        found = findings(pg17.conninfo(database.name, role))
    finally:
        database.sql(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)", f"DROP SUBSCRIPTION {name}")
    assert {code: finding.severity for code, finding in found.items()} == {"subscriptions": Severity.WARNING}


def test_passwords_of_user_mappings_are_told(
    server: Server, make_database: Callable[..., Database], make_role: Callable[..., str]
) -> None:
    """pg_dump writes none of the options that its role may not see; with none, or for a superuser, nothing is lost."""
    database = make_database(server)
    role = make_role(server, "LOGIN BYPASSRLS" + (" IN ROLE pg_read_all_data" if server.major >= 14 else ""))
    database.sql(
        "CREATE FOREIGN DATA WRAPPER w",
        "CREATE SERVER far FOREIGN DATA WRAPPER w",
        "CREATE USER MAPPING FOR PUBLIC SERVER far",
    )
    conninfo = server.conninfo(database.name, role)
    assert findings(conninfo) == {}
    database.sql("CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'u', password 'hidden')")
    found = findings(conninfo)
    assert {code: finding.severity for code, finding in found.items()} == {"user-mappings": Severity.WARNING}
    assert found["user-mappings"].message.startswith("1 user mapping ")
    assert set(findings(database.conninfo)) == {"superuser"}


def test_an_extension_that_no_database_of_another_name_takes_is_told(
    pg17: Server, make_database: Callable[..., Database]
) -> None:
    """While there is time to think about it, and not when a restore fails at it; any extension will do for the test."""
    database = make_database(pg17)
    assert set(findings(database.conninfo)) == {"superuser"}
    database.sql("UPDATE pg_extension SET extname = 'pg_cron' WHERE extname = 'plpgsql'")
    found = findings(database.conninfo)
    assert (set(found), found["bound-extension"].severity) == ({"superuser", "bound-extension"}, Severity.WARNING)


def test_rows_that_an_extension_keeps_from_being_dumped_are_told(database: Database) -> None:
    """A table is its member without being registered for dumps. Its rows go missing, and its sequence is not read."""
    database.sql(
        "CREATE TABLE public.queue (id int GENERATED ALWAYS AS IDENTITY, t text)",
        "ALTER EXTENSION plpgsql ADD TABLE public.queue",
        "CREATE SEQUENCE public.own",
    )
    assert set(findings(database.conninfo)) == {"superuser"}
    database.sql("INSERT INTO public.queue (t) VALUES ('x')")
    found = findings(database.conninfo)
    assert set(found) == {"superuser", "extension-tables"}
    assert found["extension-tables"].message.endswith(": queue (plpgsql)")
    with connect(Source(database.conninfo)) as connection:
        assert [name for _, name, *_ in read_sequences(connection, connection)] == ["own"]


def test_a_standby_is_usable_but_for_its_unlogged_tables(tmp_path: Path) -> None:
    """On a standby a snapshot can be exported and read; unlogged tables there are an error, its nature a warning."""
    import shutil
    import tempfile

    from doubles.servers.postgres import FAST, as_server_user, running

    settings = {**FAST, "wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}
    with running(17, settings) as primary:
        primary.sql(
            "postgres",
            "CREATE UNLOGGED TABLE u (n int)",
            "CREATE TABLE t (n int)",
            "INSERT INTO t VALUES (1)",
            "CREATE UNLOGGED SEQUENCE quick",
            "CREATE SEQUENCE slow",
            "CREATE ROLE strict SUPERUSER LOGIN",
            "ALTER ROLE strict SET default_transaction_isolation = serializable",
        )
        folder = Path(tempfile.mkdtemp(prefix="backupd-pg-"))
        folder.chmod(0o777)
        try:
            base = [primary.bin / "pg_basebackup", "-D", folder / "data", "-R", "-X", "stream", "-c", "fast"]
            base += ["-h", primary.sockets, "-p", str(primary.port), "-U", "postgres"]
            subprocess.run(base, check=True, capture_output=True, **as_server_user())
            with _standby(primary, folder) as standby:
                found = findings(standby.conninfo())
                assert {code: finding.severity for code, finding in found.items()} == {
                    "standby-unlogged": Severity.ERROR, "standby": Severity.WARNING, "superuser": Severity.WARNING,
                    "standby-unlogged-sequences": Severity.WARNING,
                }  # fmt: skip
                never = findings(standby.conninfo(), never=[TableName("public", "u")])
                assert "standby-unlogged" not in never
                strict = Source(standby.conninfo("postgres", "strict"))
                programs = find_programs((primary.bin,), 170000)
                with hold(strict) as holder, connect(strict) as free, client(programs, resolved(free)) as started:
                    assert [name for _, name, *_ in read_sequences(holder.connection, free)] == ["slow"]
                    assert dump_schema(started, holder.exported, NamePatterns(Tenancy(kind=TenancyKind.NONE), "x")).head
                with hold(Source(standby.conninfo())) as holder:
                    assert holder.exported.standby
                    assert holder.connection.execute("SELECT n FROM public.t").fetchall() == [(1,)]
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _standby(primary: Server, folder: Path) -> Iterator[Server]:
    from doubles.servers.ports import free_port
    from doubles.servers.postgres import FAST, _configure, _pg_ctl, stop

    standby = Server(17, primary.bin, folder, free_port(), primary.password)
    conninfo = f"host={primary.sockets} port={primary.port} user=postgres"
    _configure(standby, {**FAST, "wal_level": "replica", "max_wal_senders": "4", "primary_conninfo": conninfo})
    assert _pg_ctl(standby, "start", "-w", "-t", "60", "-l", str(folder / "log")) == 0, (folder / "log").read_text()
    try:
        yield standby
    finally:
        stop(standby)


def test_nulls_that_no_restore_takes_are_told(database: Database) -> None:
    """Up to 17 a NOT NULL that only the parent has comes back for tables that inherit, too."""
    database.sql("CREATE TABLE item (price int)", "CREATE TABLE special () INHERITS (item)")
    assert "nullable-heirs" not in findings(database.conninfo)
    database.sql("ALTER TABLE ONLY item ALTER price SET NOT NULL")
    assert ("nullable-heirs" in findings(database.conninfo)) is (database.server.major < 18)


def test_tables_made_from_catalogs_are_told(database: Database) -> None:
    """What PostgreSQL writes of some types it never reads back, which is seen when a restore fails at it."""
    database.sql("CREATE TABLE kept AS SELECT * FROM pg_catalog.pg_constraint")
    found = findings(database.conninfo)
    assert found["written-only"].severity is Severity.WARNING
    assert found["written-only"].message.startswith("1 table ")
    database.sql("ALTER TABLE kept ALTER conbin TYPE text")
    assert "written-only" not in findings(database.conninfo)
