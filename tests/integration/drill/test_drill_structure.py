"""A sound backup whose schema PostgreSQL itself prints differently after one dump and load is green, and red when it is
damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import pytest
from doubles.servers.postgres import Server
from fix_drills import Drills, check, codes
from fix_postgres import Database
from fix_regions import Region

from backupd.operations.drill.checks import twin
from backupd.operations.restore import database as restored_database
from backupd.operations.restore import run as restore_run
from backupd.postgres.client_programs import Client
from backupd.postgres.target.pg_restore import SchemaArchive, joined_schema, restore_section

WORDS = (
    "CREATE TABLE public.job (code varchar(9) CHECK (code IN ('BE', 'CH')))",
    "CREATE INDEX waiting ON public.job (code) WHERE code IN ('BE', 'CH')",
    "CREATE VIEW public.ready AS SELECT code, NULL::int4 AS number FROM public.job WHERE code IN ('BE', 'CH')",
    "INSERT INTO public.job VALUES ('BE'), ('CH')",
)
NOT_VALID = (
    "CREATE TABLE public.parent (id int)",
    "CREATE TABLE public.child () INHERITS (public.parent)",
    "CREATE TABLE public.proven () INHERITS (public.parent)",
    "CREATE TABLE public.own (CONSTRAINT positive CHECK (id > 0) NOT VALID) INHERITS (public.parent)",
    "ALTER TABLE public.parent ADD CONSTRAINT positive CHECK (id > 0) NOT VALID",
    "ALTER TABLE public.proven VALIDATE CONSTRAINT positive",
    "INSERT INTO public.child VALUES (1)",
    "CREATE TABLE public.whole (id int, at int) PARTITION BY RANGE (at)",
    "CREATE TABLE public.part_1 PARTITION OF public.whole FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE public.part_2 PARTITION OF public.whole FOR VALUES FROM (10) TO (20)",
    "ALTER TABLE public.whole ADD CONSTRAINT positive CHECK (id > 0) NOT VALID",
    "INSERT INTO public.whole VALUES (1, 1), (2, 11)",
)
ORDER = (
    "CREATE TABLE public.parent (id int)",
    "CREATE TABLE public.child (own text) INHERITS (public.parent)",
    "ALTER TABLE public.parent ADD late text",
    "INSERT INTO public.child (id, own, late) VALUES (1, 'o', 'l'), (2, 'p', 'm')",
    "CREATE TABLE public.whole (id int, at int, t text) PARTITION BY RANGE (at)",
    "CREATE TABLE public.part (t text, at int, gone int, id int)",
    "ALTER TABLE public.part DROP gone",
    "ALTER TABLE public.whole ATTACH PARTITION public.part FOR VALUES FROM (0) TO (10)",
    "INSERT INTO public.whole VALUES (1, 1, 'x')",
)
KINDS = {
    "a list of words": (WORDS, ("ALTER TABLE public.job DROP CONSTRAINT job_code_check",), "equality"),
    "fewer words": (
        WORDS,
        ("DROP INDEX public.waiting", "CREATE INDEX waiting ON public.job (code) WHERE code IN ('BE', 'CX')"),
        "indexes",
    ),
    "checks never validated": (
        NOT_VALID,
        ("UPDATE pg_constraint SET convalidated = false WHERE conrelid = 'public.own2'::regclass",),
        "constraints",
    ),
    "columns in another order": (ORDER, ("UPDATE public.child SET own = late, late = own WHERE id = 1",), "equality"),
}
OWN = "CREATE TABLE public.own2 (id int CONSTRAINT sound CHECK (id > 0))"


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_dump_and_load_changes_is_green_and_damage_is_red(
    kind: str, database: Database, region: Region, drills: Drills
) -> None:
    """Text of definitions, validity of inherited checks, order of inherited columns; then one thing is damaged."""
    statements, damage, name = KINDS[kind]
    database.sql(*statements, OWN)
    region.backup(database)
    sound = drills.run()
    assert [(one.name, one.findings) for one in sound.checks if one.verdict in {"fail", "error"}] == []
    assert sound.verdict == "pass"
    damaged = drills.run(None, *damage)
    assert (damaged.verdict, check(damaged, name).verdict) == ("fail", "fail")
    if kind == "fewer words":
        (changed,) = [one for one in drills.outcomes[-1].named if one.code == "index-changed"]
        assert changed.what == "INDEX public waiting"
        assert [(line[:2], "CX" in line) for line in changed.details] == [("- ", False), ("+ ", True)]


def test_an_extension_of_another_role_is_green(
    server: Server,
    make_role: Callable[..., str],
    make_database: Callable[..., Database],
    region: Region,
    drills: Drills,
) -> None:
    """No dump says whose an extension is. This one is on every server, made again as by pg_upgrade."""
    role = make_role(server, "SUPERUSER")
    database = make_database(server)
    database.sql(
        "DROP EXTENSION plpgsql",
        f'SET ROLE "{role}"',
        "CREATE EXTENSION plpgsql",
        "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC",
        "GRANT USAGE ON LANGUAGE plpgsql TO pg_monitor",
    )
    region.backup(database)
    sound = drills.run()
    assert [(one.name, one.findings) for one in sound.checks if one.verdict in {"fail", "error"}] == []
    damaged = drills.run(None, "REVOKE USAGE ON LANGUAGE plpgsql FROM pg_monitor")
    assert set(codes(damaged, "equality")) & {"schema-changed", "schema-missing"}
    gone = drills.run(None, "DROP EXTENSION plpgsql CASCADE")
    assert "extension-missing" in codes(gone, "extensions")


def test_privileges_on_what_an_extension_of_another_role_made(
    pg15: Server,
    make_role: Callable[..., str],
    make_database: Callable[..., Database],
    region: Region,
    drills: Drills,
) -> None:
    """Its functions are the other role's at the source, and the restoring role's here."""
    role = make_role(pg15, "SUPERUSER")
    database = make_database(pg15)
    database.sql(
        f'SET ROLE "{role}"',
        "CREATE EXTENSION hstore",
        "GRANT EXECUTE ON FUNCTION hstore(text, text) TO pg_monitor",
        "REVOKE EXECUTE ON FUNCTION hstore(text, text) FROM PUBLIC",
    )
    region.backup(database)
    sound = drills.run()
    assert [(one.name, one.findings) for one in sound.checks if one.verdict in {"fail", "error"}] == []
    damaged = drills.run(None, "REVOKE EXECUTE ON FUNCTION hstore(text, text) FROM pg_monitor")
    assert set(codes(damaged, "equality")) & {"schema-changed", "schema-missing"}


def test_a_fault_that_both_loads_share_is_red(
    pg17: Server,
    make_role: Callable[..., str],
    make_database: Callable[..., Database],
    region: Region,
    drills: Drills,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sabotaged, restore and comparison leave out indexes and owners alike: the archive's own list says so."""
    role = make_role(pg17)
    database = make_database(pg17)
    database.sql(*WORDS, f'ALTER TABLE public.job OWNER TO "{role}"')
    region.backup(database)

    def fewer(head: bytes, ddl: Iterable[bytes], **_: object) -> AbstractContextManager[SchemaArchive]:
        return joined_schema(head, ddl, without=frozenset({"INDEX"}))

    def ownerless(
        started: Client, schema: SchemaArchive, section: str, *options: str, only: Iterable[int] | None = None
    ) -> None:
        restore_section(started, schema, section, "--no-owner", *options, only=only)

    for module in (restore_run, twin):
        monkeypatch.setattr(module, "joined_schema", fewer)
    for module in (restored_database, twin):
        monkeypatch.setattr(module, "restore_section", ownerless)
    report = drills.run()
    assert codes(report, "indexes") == ["index-missing"]
    assert codes(report, "equality") == ["schema-changed"]
