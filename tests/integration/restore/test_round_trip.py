"""A restored database equals its source, which has every type, on every version and from older into newer ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest
from doubles.servers.database_diff import contents, schema
from doubles.servers.postgres import Server
from fix_every_type import FILES, applied_files, install_extension
from fix_postgres import MAJORS, Database
from fix_regions import Region
from psycopg.conninfo import make_conninfo

from backupd.operations.restore import indexes
from backupd.trace import PhaseDone, Progress


def assert_same_contents(source: Database, copy: Database, *, ordered: bool = True) -> None:
    one = contents(source.server, source.name, ordered=ordered)
    other = contents(copy.server, copy.name, ordered=ordered)
    assert [key for key in one if one[key] != other.get(key)] == []
    assert sorted(other.keys() - one.keys()) == []


def assert_same_schema(source: Database, copy: Database) -> None:
    one, other = schema(source.server, source.name), schema(copy.server, copy.name)
    assert [statement for statement in one if statement not in other] == []
    assert [statement for statement in other if statement not in one] == []
    assert one == other


def last_progress(region: Region, phase: str, subject: str) -> int:
    """The bytes that a phase had done when it ended: what people see stand in its place then."""
    of_phase = [
        one
        for one in region.events.seen
        if (getattr(one, "phase", ""), getattr(one, "subject", "")) == (phase, subject)
    ]
    before_end = of_phase[: next(place for place, one in enumerate(of_phase) if isinstance(one, PhaseDone))]
    return max(one.bytes_in for one in before_end if isinstance(one, Progress))


@pytest.mark.parametrize("early", [False, True], ids=["at-the-end", "early"])
def test_a_database_of_every_type_comes_back_as_it_was(
    every_type: Database,
    region: Region,
    restored: Callable[..., Database],
    monkeypatch: pytest.MonkeyPatch,
    early: bool,
) -> None:
    """Rows to the byte and in their order, schema, sequences, large objects, privileges, comments and settings.

    Also when every table's indexes are made as soon as it is full.
    """
    if early:
        monkeypatch.setattr(indexes, "LEAST", 0)
    backed_up = region.backup(every_type)
    copy = restored(every_type.server)
    assert_same_contents(every_type, copy)
    assert_same_schema(every_type, copy)
    assert backed_up.tables > 50
    assert last_progress(region, "reading", "app") == backed_up.read
    assert last_progress(region, "loading", "app") > backed_up.read // 2


@pytest.fixture
def every_type_for_both(make_database: Callable[..., Database]) -> Callable[[Server, Server], Database]:
    """A database on the first server of every type that the second can hold, too."""

    def make(source: Server, target: Server) -> Database:
        for server in (source, target):
            install_extension(server)
        both = {path.name for path in applied_files(source)} & {path.name for path in applied_files(target)}
        database = make_database(source)
        for path in applied_files(source):
            if path.name in both:
                database.script(path)
        database.script(FILES / "each-database.sql")
        return database

    return make


@pytest.fixture
def restored_by_postgresql() -> Iterator[Callable[[Database, Server], Database]]:
    """A database of the same name on another server, made by pg_dump and pg_restore, dropped after the test."""
    made: list[Database] = []

    def run(source: Database, target: Server) -> Database:
        dump = [source.server.bin / "pg_dump", "-Fc", "-d", source.conninfo]
        archive = subprocess.run(dump, check=True, capture_output=True).stdout
        made.append(Database(target, source.name))
        load = [target.bin / "pg_restore", "--create", "--exit-on-error", "-d", target.conninfo()]
        subprocess.run(load, input=archive, check=True, capture_output=True)
        return made[-1]

    yield run
    for database in made:
        database.server.drop_database(database.name)


@pytest.mark.parametrize("target", [major for major in MAJORS if major > 15], ids=lambda major: f"into-pg{major}")
def test_a_database_of_every_type_of_an_older_server_comes_back_on_a_newer_one(
    pg15: Server,
    target: int,
    postgres_of: Callable[[int], Server],
    every_type_for_both: Callable[[Server, Server], Database],
    restored_by_postgresql: Callable[[Database, Server], Database],
    region: Region,
    restored: Callable[..., Database],
) -> None:
    """From PostgreSQL 15 into 16, 17 and 18, roles included.

    A newer server words some definitions otherwise, so the schema is compared with what PostgreSQL's own programs make.
    """
    server = postgres_of(target)
    every_type = every_type_for_both(pg15, server)
    region.backup(every_type)
    copy = restored(server, roles=True)
    assert_same_contents(every_type, copy)
    assert_same_schema(restored_by_postgresql(every_type, server), copy)


def test_tables_of_as_many_columns_as_there_can_be_and_of_none(
    pg15: Server, make_database: Callable[..., Database], region: Region, restored: Callable[..., Database]
) -> None:
    """Columns may also have been dropped, or all be generated; a row of nothing is a row."""
    database = make_database(pg15)
    columns = ", ".join(f"c{n} {('int', 'bool', 'text')[n % 3]}" for n in range(1600))
    database.sql(
        f"CREATE TABLE public.wide ({columns})",
        "INSERT INTO public.wide (c0, c1, c2) SELECT g, g % 2 = 0, repeat('x', g) FROM generate_series(1, 50) g",
        "UPDATE public.wide SET c1599 = 5 WHERE c0 < 20",
        "CREATE TABLE public.nothing ()",
        *["INSERT INTO public.nothing DEFAULT VALUES"] * 3,
        "CREATE TABLE public.gone (a int, b int)",
        "INSERT INTO public.gone VALUES (1, 2), (3, 4)",
        "ALTER TABLE public.gone DROP COLUMN a, DROP COLUMN b",
        "CREATE TABLE public.made (a int GENERATED ALWAYS AS (7) STORED)",
        "INSERT INTO public.made DEFAULT VALUES",
        "CREATE TABLE public.child () INHERITS (public.nothing)",
        "INSERT INTO public.child DEFAULT VALUES",
    )
    region.backup(database)
    copy = restored(pg15)
    assert_same_contents(database, copy)
    assert_same_schema(database, copy)
    counts = "SELECT count(*) FROM ONLY public.{}"
    found = {name: copy.sql(counts.format(name))[0][0] for name in ("wide", "nothing", "gone", "made", "child")}
    assert found == {"wide": 50, "nothing": 3, "gone": 2, "made": 1, "child": 1}


def test_tables_whose_checks_look_into_others_are_filled_after_them(
    pg15: Server, make_database: Callable[..., Database], region: Region, restored: Callable[..., Database]
) -> None:
    """By a check, a domain's check, or a generated column: what their functions look into is there by then."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE public.kind (name text PRIMARY KEY)",
        "INSERT INTO public.kind VALUES ('a'), ('b')",
        "CREATE FUNCTION public.known(v text) RETURNS bool LANGUAGE sql STABLE AS "
        "'SELECT EXISTS (SELECT FROM public.kind WHERE name = v)'",
        "CREATE FUNCTION public.found(v text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS "
        "'BEGIN RETURN (SELECT count(*) FROM public.kind WHERE name = v); END'",
        "CREATE TABLE public.a_check (id int PRIMARY KEY, k text CHECK (public.known(k)))",
        "CREATE DOMAIN public.a_kind AS text CHECK (public.known(VALUE))",
        "CREATE TABLE public.a_domain (k public.a_kind)",
        "CREATE TABLE public.a_generated (k text, n bigint GENERATED ALWAYS AS (public.found(k)) STORED)",
        "INSERT INTO public.a_check SELECT n, 'a' FROM generate_series(1, 9) n",
        "INSERT INTO public.a_domain VALUES ('b')",
        "INSERT INTO public.a_generated VALUES ('b')",
    )
    region.backup(database)
    copy = restored(pg15)
    assert_same_contents(database, copy)
    assert copy.sql("SELECT n FROM public.a_generated") == [(1,)]


def test_a_trigger_that_lets_nobody_in_stops_no_restore(
    pg18: Server, make_database: Callable[..., Database], region: Region, restored: Callable[..., Database]
) -> None:
    """It is made last, when nothing of the restore connects any more; then it does what it is there for."""
    source = make_database(pg18)
    source.sql(
        "CREATE TABLE public.t (id int PRIMARY KEY)",
        "INSERT INTO public.t VALUES (1)",
        "CREATE MATERIALIZED VIEW public.m AS SELECT id FROM public.t",
        "CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
        f"$$BEGIN IF current_database() <> '{source.name}' THEN RAISE 'nobody'; END IF; END$$",
        "CREATE EVENT TRIGGER refuse ON login EXECUTE FUNCTION public.refuse()",
    )
    region.backup(source)
    copy = restored(pg18, analyze=True)
    with pytest.raises(psycopg.OperationalError, match="nobody"):
        copy.sql("SELECT")
    quiet = make_conninfo(copy.conninfo, options="-c event_triggers=off")
    with psycopg.connect(quiet) as connection:
        assert connection.execute("SELECT id FROM public.m").fetchall() == [(1,)]
