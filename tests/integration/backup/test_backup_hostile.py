"""What the owner of a table, the application and the server's clock could do to a backup: it is refused instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from doubles.samples.saga_table import BY_KEY, saga_table
from doubles.servers.postgres import Server
from fix_clock import ShiftedClock
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import RefusedError, SourceError, UnmappedError
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.repository.layout import RECORDS

BY_CODE = Tenancy(kind=TenancyKind.COLUMN, column="tenant", rules=(TableRule(("public.note",), path=("note_code",)),))

SAID = """
CREATE FUNCTION public.said(public.code) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  IF current_setting('transaction_read_only') = 'on' THEN RAISE EXCEPTION 'run by a backup'; END IF;
  RETURN enum_out($1)::text;
END $$
"""


def published(region: Region) -> list[str]:
    return [found.name for found in region.store.list(RECORDS)]


@pytest.mark.parametrize(("by", "way"), [(timedelta(minutes=7), "behind"), (timedelta(minutes=-7), "ahead of")])
def test_a_server_with_another_time_is_refused(
    region: Region, pg17: Server, make_database: Callable[..., Database], by: timedelta, way: str
) -> None:
    """Behind, its snapshots would expire too soon, and ahead, too late; minutes later it would be known to nobody."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY)")
    region.node = replace(region.node, clock=ShiftedClock(by))
    with pytest.raises(RefusedError, match=rf"server is 4[12]\d s {way} this machine's"):
        region.backup(database)
    assert published(region) == []
    region.node = replace(region.node, clock=ShiftedClock(by / 7 * 4))
    region.backup(database)
    assert len(published(region)) == 1


@pytest.fixture
def owner(pg17: Server, make_role: Callable[..., str]) -> str:
    return make_role(pg17, "NOSUPERUSER NOCREATEROLE NOCREATEDB")


@pytest.mark.parametrize("domain", [False, True])
def test_the_cast_of_a_tables_owner_is_not_run(
    region: Region, pg17: Server, make_database: Callable[..., Database], owner: str, domain: bool
) -> None:
    """A foreign key compares by an implicit cast, of whoever owns one of the types; such a key is no path."""
    database = make_database(pg17)
    database.sql(f"GRANT ALL ON SCHEMA public TO {owner}")
    column = "code_domain" if domain else "code"
    with psycopg.connect(f"{database.conninfo} options='-c role={owner}'", autocommit=True) as connection:
        for statement in (
            "CREATE TYPE public.code AS ENUM ('a', 'b')",
            "CREATE DOMAIN public.code_domain AS public.code",
            SAID,
            "CREATE CAST (public.code AS text) WITH FUNCTION public.said(public.code) AS IMPLICIT",
            "CREATE TABLE public.realm (name text PRIMARY KEY, tenant int)",
            f"CREATE TABLE public.note (code public.{column} CONSTRAINT note_code REFERENCES public.realm (name))",
            "INSERT INTO public.realm VALUES ('a', 1), ('b', 2)",
            "INSERT INTO public.note VALUES ('a')",
        ):
            connection.execute(statement.encode())
    region.tenancy = BY_CODE
    with pytest.raises(UnmappedError, match="1 table is not covered"):
        region.backup(database)
    assert published(region) == []
    database.sql(f"REASSIGN OWNED BY {owner} TO CURRENT_USER", f"DROP OWNED BY {owner}")


def test_settings_that_change_while_rows_are_read_end_the_run(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """An operator of the application, which a superuser made, would have other tables' numbers rounded."""
    database = make_database(pg17)
    database.sql(*saga_table("PERFORM pg_catalog.set_config('extra_float_digits', '-12', false)"))
    database.sql("CREATE TABLE zebra (tenant int, v float8)", "INSERT INTO zebra VALUES (1, 0.1234567890123456)")
    region.tenancy = BY_KEY
    region.node = replace(region.node, workers=1)
    with pytest.raises(SourceError, match="changed the settings of the session"):
        region.backup(database)
    assert published(region) == []
