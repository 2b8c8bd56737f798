"""A server that lacks something: all of it is told at once, before a row is loaded; or the rest is restored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from doubles.servers.postgres import Server, quoted
from fix_postgres import Database, unique
from fix_regions import Region
from psycopg.conninfo import make_conninfo

from backupd.errors import RefusedError, SourceError
from backupd.postgres.connect import Source
from backupd.postgres.schema.changes import SchemaChanges
from backupd.postgres.schema.statements import temporary_name
from backupd.trace import PhaseStarted


@dataclass(frozen=True)
class Lacking:
    """A database, two of whose roles and a tablespace are gone since it was backed up."""

    region: Region
    server: Server
    grantee: str
    owner: str
    kept: str
    space: str

    def refused(self, **request: object) -> str:
        """Restore in vain; what is said. Nothing was loaded, and nothing is left."""
        self.region.events.seen.clear()
        name, drawn = unique("refused"), list[bytes]()

        def draw(size: int) -> bytes:
            drawn.append(os.urandom(size))
            return drawn[-1]

        self.region.random = draw
        with pytest.raises(RefusedError) as caught:
            self.region.restore(self.server, name, **request)
        there = {found for (found,) in self.server.sql("postgres", "SELECT datname FROM pg_database")}
        assert there.isdisjoint({name, *(temporary_name(one.hex()) for one in drawn)})
        phases = [event.phase for event in self.region.events.seen if isinstance(event, PhaseStarted)]
        assert "loading" not in phases
        for name in (self.grantee, self.owner):
            assert name not in caught.value.message + caught.value.hint
        return f"{caught.value.message}\n{caught.value.hint}"


@pytest.fixture
def lacking(
    postgres_of: Callable[[int], Server], make_database: Callable[..., Database], region: Region
) -> Iterator[Lacking]:
    server = postgres_of(17)
    database, grantee, owner, kept = make_database(server), unique("grantee"), unique("owner"), unique("kept")
    space = unique("space")
    server.sql("postgres", *(f"CREATE ROLE {name}" for name in (grantee, owner, kept)))
    database.sql(
        "SET allow_in_place_tablespaces = on",
        f"CREATE TABLESPACE {space} LOCATION ''",
        f"CREATE TABLE public.t (id int PRIMARY KEY USING INDEX TABLESPACE {space}, x text)",
        "INSERT INTO public.t SELECT n, 'x' FROM generate_series(1, 50) n",
        f"CREATE TABLE public.theirs (id int) TABLESPACE {space}",
        f"ALTER TABLE public.theirs OWNER TO {owner}",
        f"GRANT SELECT ON public.theirs TO {kept}",
        f"GRANT CONNECT ON DATABASE {database.name} TO {grantee}",
        f"ALTER ROLE {grantee} IN DATABASE {database.name} SET work_mem = '5MB'",
        "SELECT lo_from_bytea(4711, 'x')",
        f"ALTER LARGE OBJECT 4711 OWNER TO {owner}",
        f"GRANT SELECT ON LARGE OBJECT 4711 TO {kept}",
    )
    region.backup(database)
    server.drop_database(database.name)
    server.sql("postgres", f"DROP ROLE {grantee}", f"DROP ROLE {owner}", f"DROP TABLESPACE {space}")
    yield Lacking(region, server, grantee, owner, kept, space)
    server.sql("postgres", *(f"DROP ROLE IF EXISTS {name}" for name in (grantee, owner, kept)))


def test_everything_is_told_at_once(lacking: Lacking) -> None:
    """Roles that only a privilege or a setting of the database names, and tablespaces, each with what to do."""
    said = lacking.refused()
    assert f"2 roles; tablespace {lacking.space}" in said
    for option in ("--globals", "--role-map", "--no-owner", "--no-acl", "--no-tablespaces", "--tablespace-map"):
        assert option in said
    assert "role" not in lacking.refused(roles=True).splitlines()[0]


def test_what_is_asked_for_takes_the_place_of_what_is_missing(
    lacking: Lacking, restored: Callable[..., Database]
) -> None:
    """Tablespaces flat or by another name; roles by another name, also of large objects; or neither owner nor right."""
    roles = {lacking.grantee: lacking.kept, lacking.owner: lacking.kept}
    mapped = restored(lacking.server, changes=SchemaChanges(no_tablespaces=True, roles=roles))
    owners = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'theirs'"
    assert mapped.sql(owners) == [(lacking.kept,)]
    objects = "SELECT pg_get_userbyid(lomowner)::text, lo_get(oid) FROM pg_largeobject_metadata"
    assert mapped.sql(objects) == [(lacking.kept, b"x")]
    assert mapped.sql(f"SELECT has_database_privilege('{lacking.kept}', current_database(), 'CONNECT')") == [(True,)]
    setting = "SELECT setconfig FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase "
    assert mapped.sql(f"{setting} WHERE datname = current_database()") == [(["work_mem=5MB"],)]
    bare = SchemaChanges(no_owner=True, no_privileges=True, tablespaces={lacking.space: "pg_default"}, roles=roles)
    plain = restored(lacking.server, changes=bare)
    assert plain.sql(owners) == [("postgres",)]
    assert plain.sql("SELECT relacl FROM pg_class WHERE relname = 'theirs'") == [(None,)]
    assert plain.sql("SELECT lomacl FROM pg_largeobject_metadata") == [(None,)]
    assert plain.sql("SELECT count(*) FROM public.t") == [(50,)]


def test_a_restore_that_keeps_going_names_what_it_left_out(lacking: Lacking, restored: Callable[..., Database]) -> None:
    """All rows are there; owners, privileges and settings of roles that are missing are not."""
    reports = []
    name = unique("kept_going")
    reports.append(lacking.region.restore(lacking.server, name, keep_going=True))
    try:
        assert lacking.server.sql(name, "SELECT count(*) FROM public.t") == [(50,)]
        kinds = {one.kind for one in reports[0].left_out}
        assert {"TABLE", "property of the database"} <= kinds
        said = [f"{one.name} {one.reason}" for one in reports[0].left_out]
        assert any("setting work_mem" in one for one in said)
        assert any("a role does not exist" in one for one in said)
    finally:
        lacking.server.drop_database(name)


BROKEN = (
    "CREATE TABLE public.kind (name text)",
    "INSERT INTO public.kind VALUES ('a')",
    "CREATE FUNCTION public.known(v text) RETURNS bool LANGUAGE sql AS 'SELECT v IN (SELECT name FROM kind)'",
    "SET search_path = public",
    "CREATE TABLE public.item (id int PRIMARY KEY, k text CHECK (public.known(k)))",
    "INSERT INTO public.item VALUES (1, 'a')",
    "CREATE TABLE public.twice (id int)",
    "INSERT INTO public.twice VALUES (1)",
    "CREATE UNIQUE INDEX twice_id ON public.twice (id)",
    "CREATE TABLE public.child (id int REFERENCES public.item)",
    "INSERT INTO public.child VALUES (1)",
    "CREATE TABLE public.sound (id int PRIMARY KEY)",
    "INSERT INTO public.sound SELECT generate_series(1, 10)",
)


def test_tables_whose_rows_are_refused_are_left_empty(
    server: Server, make_database: Callable[..., Database], region: Region
) -> None:
    """A check that relies on search_path costs its table, and keys to it; not the rest, and never in silence."""
    database = make_database(server)
    database.sql(*BROKEN)
    region.backup(database)
    with pytest.raises(SourceError) as caught:
        region.restore(server, unique("refused"))
    assert "--keep-going" in caught.value.hint
    name = unique("kept_going")
    report = region.restore(server, name, keep_going=True)
    try:
        found = {(one.kind, one.name): one.reason for one in report.left_out}
        assert found == {
            ("rows of table", "item"): "undefined table (sqlstate 42P01)",
            ("FK CONSTRAINT", "child child_id_fkey"): "foreign key violation (sqlstate 23503)",
        }
        counts = "SELECT (SELECT count(*) FROM public.sound), (SELECT count(*) FROM public.item)"
        assert server.sql(name, counts) == [(10, 0)]
        assert server.sql(name, "SELECT count(*) FROM pg_indexes WHERE tablename IN ('item', 'twice')") == [(2,)]
    finally:
        server.drop_database(name)


def test_a_setting_that_the_server_refuses_is_told_before_rows_are_loaded(
    pg15: Server, make_database: Callable[..., Database], region: Region
) -> None:
    """It is named, with PostgreSQL's reason; a restore that keeps going leaves it out alone."""
    database = make_database(pg15)
    database.sql(
        "CREATE TABLE public.t (id int)",
        "INSERT INTO public.t VALUES (1)",
        f"ALTER DATABASE {database.name} SET work_mem = '5MB'",
        f"ALTER DATABASE {database.name} SET statement_timeout = '7s'",
        "UPDATE pg_db_role_setting SET setconfig = array_replace(setconfig, 'work_mem=5MB', 'gone_since=on') "
        f"WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = '{database.name}')",
    )
    region.backup(database)
    with pytest.raises(RefusedError, match=r"setting gone_since \(undefined object \(sqlstate 42704\)\)"):
        region.restore(pg15, unique("refused"))
    name = unique("kept_going")
    report = region.restore(pg15, name, keep_going=True)
    try:
        assert [one.kind for one in report.left_out] == ["property of the database"]
        assert pg15.sql(name, "SHOW statement_timeout") == [("7s",)]
    finally:
        pg15.drop_database(name)


def test_a_role_that_owns_nothing_of_it_is_told_so(
    pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str], region: Region
) -> None:
    """Without rights on the owners nothing is begun; with --no-owner, everything is the restoring role's."""
    owner, plain = make_role(pg17), make_role(pg17, "LOGIN CREATEDB")
    database = make_database(pg17)
    database.sql(
        f"ALTER DATABASE {database.name} OWNER TO {owner}",
        f"SET ROLE {owner}",
        "CREATE TABLE public.t (id int PRIMARY KEY)",
        "INSERT INTO public.t VALUES (1)",
    )
    region.backup(database)
    target = Source(make_conninfo(pg17.conninfo("postgres"), user=plain), client_folders=(pg17.bin,))
    with pytest.raises(RefusedError, match="owner") as caught:
        region.restore(pg17, unique("refused"), target=target)
    assert owner not in caught.value.message + caught.value.hint
    name = unique("owned")
    for changes, expected in ((SchemaChanges(no_owner=True), plain), (SchemaChanges(), owner)):
        if expected == owner:
            pg17.sql("postgres", f"GRANT {quoted(owner)} TO {quoted(plain)}")
        region.restore(pg17, name, target=target, changes=changes)
        assert pg17.sql(name, "SELECT tableowner::text FROM pg_tables WHERE tablename = 't'") == [(expected,)]
        pg17.drop_database(name)
    pg17.drop_database(database.name)
