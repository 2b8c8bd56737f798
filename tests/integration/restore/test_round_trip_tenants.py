"""Databases of many tenants come back whole, however their rows, schemas and roles are divided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.database_diff import contents, schema
from doubles.servers.postgres import Server, quoted
from doubles.stores.snapshots import look
from fix_postgres import Database, unique
from fix_regions import CLASSES, Region

from backupd.errors import UsageError
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.backup import BackupReport

TENANTS = 40


@pytest.fixture
def pg(pg18: Server) -> Server:
    return pg18


def test_rows_by_column_come_back_in_their_order_by_tenant(
    pg: Server, make_database: Callable[..., Database], region: Region, restored: Callable[..., Database]
) -> None:
    """Big and small tenants, tables a foreign key away, shared ones; of a class never backed up the structure."""
    source = make_database(pg)
    source.sql(
        "CREATE TABLE public.note (id int PRIMARY KEY, tenant text, body text)",
        "CREATE TABLE public.mark (id serial PRIMARY KEY, t text, note int)",
        "ALTER TABLE public.mark ADD CONSTRAINT mark_note FOREIGN KEY (note) REFERENCES public.note",
        "CREATE TABLE public.country (code text PRIMARY KEY)",
        "CREATE TABLE public.login (tenant text, secret text)",
        f"INSERT INTO public.note SELECT g, 't' || floor({TENANTS} * power(random(), 3)), repeat(md5(g::text), g % 90) "
        "FROM generate_series(1, 12000) g ORDER BY random()",
        "INSERT INTO public.mark (note, t) SELECT 1 + g % 12000, g::text FROM generate_series(1, 30000) g",
        "INSERT INTO public.country VALUES ('BE'), ('CH')",
        "INSERT INTO public.login VALUES ('t1', 'cookie')",
        "UPDATE public.note SET body = body || '!' WHERE id % 7 = 0",
    )
    region.tenancy = Tenancy(
        kind=TenancyKind.COLUMN,
        column="tenant",
        rules=(
            TableRule(("public.mark",), path=("mark_note",)),
            TableRule(("public.country",), shared=True),
            TableRule(("public.login",), data_class="session"),
        ),
        classes=CLASSES,
    )
    report = region.backup(source)
    copy = restored(pg)
    one, other = (contents(pg, database.name, ordered=False) for database in (source, copy))
    assert one.pop("rows of public.login") != other.pop("rows of public.login")
    assert one == other
    assert schema(pg, source.name) == schema(pg, copy.name)
    assert copy.sql("SELECT count(*) FROM public.login") == [(0,)]
    by_tenant = "SELECT tenant, array_agg(id ORDER BY ctid) FROM public.note GROUP BY 1 ORDER BY 1"
    assert source.sql(by_tenant) == copy.sql(by_tenant)
    assert report.segments >= TENANTS


def structures(region: Region, report: BackupReport) -> dict[str | None, frozenset[tuple[str, int]]]:
    """The sections that each structure segment of a snapshot needs, by tenant."""
    found = look(region.repository, report.snapshot, region.identity.secret)
    return {name.tenant: one.sections for name, one in found.segments.items() if name.data_class == "structure"}


def test_schemas_and_roles_of_tenants_come_back_together(
    pg: Server,
    make_database: Callable[..., Database],
    make_role: Callable[..., str],
    region: Region,
    restored: Callable[..., Database],
) -> None:
    """Objects, privileges, sequences and views of many schemas, from as many segments, make one database again.

    What one of them gets later changes the structure of no other: nothing of theirs is sent.
    """
    tag = unique("x")
    source = make_database(pg)
    for number in range(5):
        role, own = make_role(pg, name=f"{tag}_{number}"), quoted(f"c_{number}")
        source.sql(
            f"CREATE SCHEMA {own} AUTHORIZATION {role}",
            f"CREATE TABLE {own}.doc (id serial PRIMARY KEY, t text)",
            f"ALTER TABLE {own}.doc OWNER TO {role}",
            f"INSERT INTO {own}.doc (t) SELECT md5(g::text) FROM generate_series(1, {10**number}) g",
            f"GRANT SELECT ON {own}.doc TO {tag}_0",
            f"CREATE MATERIALIZED VIEW {own}.a AS SELECT count(*) AS n FROM {own}.doc",
            f"ALTER ROLE {role} IN DATABASE {quoted(source.name)} SET work_mem TO '{number + 2}MB'",
        )
    source.sql(
        "CREATE MATERIALIZED VIEW public.sums AS SELECT (SELECT n FROM c_0.a) + (SELECT n FROM c_4.a) AS n",
        "CREATE MATERIALIZED VIEW c_1.z AS SELECT n FROM public.sums",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {tag}_1 IN SCHEMA c_1 GRANT SELECT ON TABLES TO {tag}_2",
    )
    region.tenancy = Tenancy(
        kind=TenancyKind.SCHEMA,
        schema_pattern="c_(?P<tenant>.+)",
        role_pattern=f"{tag}_(?P<tenant>.+)",
        unclassified="shared",
        classes=CLASSES,
    )
    report = region.backup(source)
    before = structures(region, report)
    source.sql(
        "CREATE TYPE c_2.mood AS ENUM ('fine')",
        "CREATE TABLE c_2.also (id int PRIMARY KEY REFERENCES c_2.doc, t c_2.mood NOT NULL)",
        f"GRANT SELECT ON c_2.also TO {tag}_2",
        "CREATE MATERIALIZED VIEW c_2._first AS SELECT count(*) AS n FROM c_2.doc",
    )
    after = structures(region, region.backup(source))
    assert {tenant for tenant, found in before.items() if after[tenant] != found} == {"2"}
    copy = restored(pg)
    assert contents(pg, source.name) == contents(pg, copy.name)
    assert schema(pg, source.name) == schema(pg, copy.name)
    assert copy.sql("SELECT n FROM c_1.z") == [(10001,)]
    assert report.segments > 5
    for database in (source, copy):
        pg.drop_database(database.name)


def test_one_of_several_databases_is_restored_by_its_name(
    pg: Server, make_database: Callable[..., Database], region: Region, restored: Callable[..., Database]
) -> None:
    """Where a label stands for a database per tenant, the wanted one comes back."""
    tag = unique("d")
    databases = [make_database(pg, name=f"{tag}_{number}") for number in range(3)]
    for number, database in enumerate(databases):
        database.sql("CREATE TABLE public.t (id int)", f"INSERT INTO public.t VALUES ({number})")
    region.tenancy = Tenancy(kind=TenancyKind.DATABASE, database_pattern=f"{tag}_(?P<tenant>.+)", classes=CLASSES)
    for database in databases:
        region.backup(database)
    copy = restored(pg, member=databases[1].name)
    assert copy.sql("SELECT id FROM public.t") == [(1,)]
    with pytest.raises(UsageError, match="stands for several databases"):
        restored(pg)
    with pytest.raises(UsageError, match="no snapshot"):
        restored(pg, member=f"{tag}_9")
