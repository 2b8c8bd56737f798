"""Code of an owner who is hostile runs with all rights where a superuser restores, and with none by the role for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database, unique
from fix_regions import Region
from psycopg.conninfo import make_conninfo

from backupd.clock import SystemClock
from backupd.errors import RefusedError
from backupd.operations.restore import RestoreEnvironment, RestoreReport, RestoreRequest
from backupd.operations.restore.preview import Preview, preview
from backupd.postgres.connect import Source
from backupd.postgres.schema.changes import SchemaChanges
from backupd.trace import Warned

NOTE = """
CREATE FUNCTION evil.note(place text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  BEGIN PERFORM pg_catalog.set_config('role', 'none', true); EXCEPTION WHEN OTHERS THEN NULL; END;
  INSERT INTO evil.seen SELECT place, rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER;
  RETURN true; END $$
"""
"""Takes back the role that it runs as, and notes whether it is a superuser then."""
QUIET = """
CREATE FUNCTION evil.quiet(place text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE
AS $$ BEGIN RETURN evil.note(place); END $$
"""
HOSTILE = (
    "CREATE SCHEMA evil",
    "CREATE TABLE evil.seen (place text, superuser bool)",
    NOTE,
    QUIET,
    "CREATE DOMAIN app.word AS text CHECK (evil.note('domain'))",
    "CREATE TABLE public.theirs (id int PRIMARY KEY, x app.word, CHECK (evil.note('check')))",
    "INSERT INTO public.theirs VALUES (1, 'x')",
    "CREATE TABLE public.made (id int, y bool GENERATED ALWAYS AS (evil.quiet('generated')) STORED)",
    "INSERT INTO public.made VALUES (1)",
    "CREATE INDEX ON public.theirs (evil.quiet('index'))",
    "CREATE MATERIALIZED VIEW app.view AS SELECT evil.note('view') AS x",
    "TRUNCATE evil.seen",
)
PLACES = ["check", "domain", "generated", "index", "view"]
SEEN = "SELECT place::text, bool_or(superuser) FROM evil.seen GROUP BY 1 ORDER BY 1"


@dataclass(frozen=True)
class Trial:
    """A backed up database of several owners, and the name of a role that is to restore it."""

    region: Region
    server: Server
    database: Database
    owner: str
    hostile: str
    restorer: str

    def preview(self, role: str) -> Preview:
        request = RestoreRequest("app", "latest", self.region.source(self.server), "nowhere", restorer=role)
        world = RestoreEnvironment(self.region.identity.secret, SystemClock(), self.region.events, os.urandom)
        return preview(request, self.region.repository, world, None)

    def make_restorer(self) -> SchemaChanges:
        """Have a superuser run what the preview prints; returns what it says to restore with."""
        role = self.preview(self.restorer).restorer
        assert role is not None
        self.server.sql("postgres", *role.statements)
        return SchemaChanges(roles=dict.fromkeys(role.mapped, self.restorer))

    def restore(self, name: str, **request: object) -> tuple[RestoreReport, list[str]]:
        """Restore; with what was warned of."""
        self.region.events.seen.clear()
        report = self.region.restore(self.server, name, **request)
        return report, [one.message for one in self.region.events.seen if isinstance(one, Warned)]

    def restore_by_role(self, name: str, **request: object) -> tuple[RestoreReport, list[str]]:
        login = make_conninfo(self.server.conninfo("postgres"), user=self.restorer)
        return self.restore(name, target=Source(login, client_folders=(self.server.bin,)), **request)


@pytest.fixture
def trial(
    request: pytest.FixtureRequest,
    postgres_of: Callable[[int], Server],
    make_database: Callable[..., Database],
    make_role: Callable[..., str],
    region: Region,
) -> Iterator[Trial]:
    server = postgres_of(request.param)
    database = make_database(server)
    owner, hostile, restorer = make_role(server), make_role(server), unique("restorer")
    database.sql(
        f"ALTER DATABASE {database.name} OWNER TO {owner}",
        f"CREATE SCHEMA app AUTHORIZATION {owner}",
        f"GRANT CREATE, USAGE ON SCHEMA app, public TO {hostile}",
        f"GRANT CREATE ON DATABASE {database.name} TO {hostile}",
    )
    yield Trial(region, server, database, owner, hostile, restorer)
    server.drop_database(database.name)
    if server.sql("postgres", f"SELECT FROM pg_roles WHERE rolname = '{restorer}'"):
        server.sql("postgres", f"DROP OWNED BY {restorer}", f"DROP ROLE {restorer}")


@pytest.mark.parametrize("trial", [15, 18], indirect=True)
def test_code_of_an_owner_gets_no_superusers_rights_by_the_role_made_for_it(
    trial: Trial, make_role: Callable[..., str]
) -> None:
    """The same snapshot by a superuser, who is warned, and by the printed role, whose memberships make it no more."""
    server, database = trial.server, trial.database
    mighty = make_role(server, "IN ROLE pg_execute_server_program")
    database.sql(
        f"SET ROLE {trial.hostile}",
        *HOSTILE,
        "RESET ROLE",
        "CREATE TABLE app.of_postgres AS SELECT 1 AS x",
        "CREATE TABLE app.of_mighty AS SELECT 1 AS x",
        f"ALTER TABLE app.of_mighty OWNER TO {mighty}",
    )
    trial.region.backup(database)
    name = unique("tried")
    _, warned = trial.restore(name)
    seen = dict(server.sql(name, SEEN))
    server.drop_database(name)
    assert [place for place in PLACES if seen[place]] == ["check", "domain", "generated"]
    assert len(warned) == 1
    assert "3 owners who are none" in warned[0]
    assert trial.restore(name, trial=True)[1] == []
    server.drop_database(name)

    found = trial.preview(trial.restorer).restorer
    assert found is not None
    assert (found.mapped, found.elsewhere) == (tuple(sorted(["postgres", mighty])), (trial.owner,))
    changes = trial.make_restorer()
    report, warned = trial.restore_by_role(name, changes=changes)
    assert (warned, report.left_out, report.unfilled_views) == ([], (), ())
    assert server.sql(name, SEEN) == [(place, False) for place in PLACES]
    owners = "SELECT tablename::text, tableowner::text FROM pg_tables WHERE schemaname IN ('app', 'public') ORDER BY 1"
    assert dict(server.sql(name, owners)) == {
        "made": trial.hostile, "of_mighty": trial.restorer, "of_postgres": trial.restorer, "theirs": trial.hostile,
    }  # fmt: skip
    server.sql(name, f"REASSIGN OWNED BY {trial.restorer} TO postgres", f"DROP OWNED BY {trial.restorer}")
    server.sql(name, f"DROP ROLE {trial.restorer}")
    assert dict(server.sql(name, owners))["of_mighty"] == "postgres"
    server.drop_database(name)
    database.sql("DROP TABLE app.of_mighty")
    for role in ("postgres", mighty):
        with pytest.raises(RefusedError, match="can act as a superuser"):
            trial.preview(role)


SUPERUSERS = (
    "CREATE SCHEMA s",
    "CREATE EXTENSION pageinspect SCHEMA s",
    "CREATE FUNCTION s.inside(int) RETURNS int LANGUAGE internal AS 'int4abs'",
    "CREATE FUNCTION s.proof(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT $1'",
    "CREATE FUNCTION s.on_event() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "CREATE EVENT TRIGGER on_event ON ddl_command_end EXECUTE FUNCTION s.on_event()",
    "CREATE PUBLICATION of_all FOR ALL TABLES",
    "CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA s",
    "CREATE CAST (money AS int8) WITHOUT FUNCTION",
    "CREATE OPERATOR FAMILY s.family USING btree",
    "CREATE FOREIGN DATA WRAPPER wrapper",
    "CREATE TEXT SEARCH TEMPLATE s.template (LEXIZE = dsimple_lexize)",
    "CREATE TABLE s.t (x int)",
    "ALTER DATABASE {database} SET log_statement = 'none'",
    "ALTER ROLE {hostile} IN DATABASE {database} SET work_mem = '5MB'",
)
OTHERS = (
    "CREATE EXTENSION citext",
    "CREATE FUNCTION s.plain(x text DEFAULT 'LANGUAGE c') RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE s.color AS ENUM ('red')",
    "CREATE TYPE s.span AS RANGE (SUBTYPE = int)",
    "CREATE PUBLICATION of_table FOR TABLE s.t",
    "CREATE TYPE s.one AS (x int)",
    "CREATE TYPE s.two AS (x int)",
    "CREATE FUNCTION s.cast(s.two) RETURNS s.one LANGUAGE sql AS 'SELECT ROW($1.x)::s.one'",
    "CREATE CAST (s.two AS s.one) WITH FUNCTION s.cast(s.two)",
    "GRANT SELECT ON s.t TO PUBLIC",
)


@pytest.mark.parametrize("trial", [15], indirect=True)
def test_what_needs_a_superuser_is_named_and_is_what_the_role_is_refused(trial: Trial) -> None:
    """No more and no less: of each kind an object, beside such as every owner may make."""
    names = {"database": trial.database.name, "hostile": trial.hostile}
    trial.database.sql(*(one.format(**names) for one in (*SUPERUSERS, *OTHERS)))
    trial.region.backup(trial.database)
    found = trial.preview(trial.restorer)
    changes, name = trial.make_restorer(), unique("tried")
    report, _ = trial.restore_by_role(name, changes=changes, keep_going=True)
    trial.server.drop_database(name)
    refused = {one for one in report.left_out if one.kind != "COMMENT"}
    assert {one.reason.rpartition(": ")[2] for one in refused} == {"insufficient privilege (sqlstate 42501)"}
    named = {f"{one.kind} {one.name}" if one.name else one.reason.partition(":")[0] for one in refused}
    assert (len(named), set(found.superuser)) == (12, named)
