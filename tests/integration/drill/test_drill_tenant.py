"""Drills of one tenant: it alone is fetched and restored, with what is shared, and its report names nobody."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from fix_drills import Drills, check, codes, segments_of, verdicts
from fix_postgres import Database
from fix_regions import CLASSES, REGION, TENANT_KEY, Region

from backupd.model.report import Report
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.drill import DrillRequest
from backupd.pages import render_report
from backupd.postgres.connect import Source, parameters
from backupd.repository.repository import Repository
from backupd.seal.tags import TenantTags

NAME = "SECRETMARKER"
COLUMN = Tenancy(
    kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES, rules=(TableRule(("public.country",), shared=True),)
)


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database], region: Region) -> Database:
    """Five tenants and shared rows, backed up; then a sixth, and a second snapshot."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE public.country (code text PRIMARY KEY)",
        "INSERT INTO public.country VALUES ('BE'), ('CH')",
        "CREATE TABLE public.note (id int PRIMARY KEY, tenant text NOT NULL, code text REFERENCES country, body text)",
        f"INSERT INTO public.note SELECT g, '{NAME}' || g % 5, 'BE', repeat(md5(g::text), 9) "
        "FROM generate_series(1, 2000) g",
    )
    region.tenancy = COLUMN
    region.backup(database)
    database.sql(f"INSERT INTO public.note VALUES (9999, '{NAME}late', 'CH', 'x')")
    region.backup(database)
    return database


def test_one_tenant_is_restored_and_nobody_else(crowd: Database, region: Region, drills: Drills) -> None:
    """Its rows and the shared ones, equal; the report has its opaque id, and no name; others' objects stay unread."""
    seen: list[list[tuple[object, ...]]] = []
    read: list[tuple[str, int, int]] = []

    class Watching(HookedStore):
        def get(self, name, offset=0, length=None):
            data = super().get(name, offset, length)
            read.append((name, offset, len(data)))
            return data

    store = Watching(region.store)

    def between(source: Source) -> None:
        with psycopg.connect(**parameters(source)) as connection:
            tenants = "SELECT tenant, count(*) FROM note GROUP BY 1"
            seen.append(connection.execute(tenants).fetchall())
            seen.append(connection.execute("SELECT count(*) FROM country").fetchall())

    drills.repository = Repository(store, [region.node.signer.public])
    tags = TenantTags(TENANT_KEY, REGION)
    report = drills.run(DrillRequest(tenant=f"{NAME}3"), between=between, tags=tags)
    assert (report.verdict, report.whole) == ("pass", False)
    assert seen == [[(f"{NAME}3", 400)], [(2,)]]
    assert {name for name, verdict in verdicts(report).items() if verdict == "pass"} == {
        "records", "authentic", "equality", "sequences", "constraints", "indexes", "extensions", "globals", "canary",
        "purged", "disposal",
    }  # fmt: skip
    assert report.selection is not None
    assert (report.selection.tenants, report.selection.tenant) == (1, tags.tenant_id(f"{NAME}3"))
    assert report.sizes is not None
    assert report.sizes.rows == 402
    record = region.repository.record(region.repository.snapshots()[-1])
    ours = {*segments_of(region, record, f"{NAME}3"), *segments_of(region, record, None)}
    others = [one for (owner, _), one in region.repository.sections(record).sections.items() if owner not in ours]
    assert others
    # Headers are read with what lies behind them; those bytes are not used.
    assert not [
        section
        for section in others
        for name, offset, length in read
        if offset and name == section.pack.name and offset < section.offset + section.row.length <= offset + length
    ]
    page = render_report(report, "ab" * 32)
    assert tags.tenant_id(f"{NAME}3") in page
    assert NAME not in f"{report}{drills.outcomes}{page}".replace(region.folder.name, "")


DAMAGE = {
    "another tenant's row": (f"INSERT INTO note VALUES (5, '{NAME}1', 'BE', 'x')", "tenants-of-no-segment", "purged"),
    "a lost row": ("DELETE FROM note WHERE id = (SELECT min(id) FROM note)", "rows-lost", "equality"),
    "a shared row that is missing": ("DELETE FROM country WHERE code = 'CH'", "rows-lost", "equality"),
}  # fmt: skip


def test_what_is_wrong_with_one_tenant_is_red(crowd: Database, drills: Drills) -> None:
    """A row of somebody else, one too few of its own, a shared one that is missing."""
    for statement, code, name in DAMAGE.values():
        report = drills.run(DrillRequest(tenant=f"{NAME}3"), statement)
        assert (report.verdict, code in codes(report, name)) == ("fail", True)
        assert NAME not in str(report)


def test_only_snapshots_that_hold_the_tenant_are_chosen_from(crowd: Database, drills: Drills) -> None:
    """Of two snapshots one holds the newest tenant; of nobody there is none, and that is no verdict."""
    past: list[Report] = []
    for _ in range(2):
        report = drills.run(DrillRequest(tenant=f"{NAME}late"), past=tuple(past))
        past.append(report)
        assert report.selection is not None
        assert (report.selection.rule, report.selection.population.number) == ("latest", 1)
    assert report.verdict == "pass"
    nobody = drills.run(DrillRequest(tenant="nobody"))
    assert (nobody.verdict, codes(nobody, "equality")) == ("error", ["usage"])
    assert check(nobody, "canary").verdict == "skip"


def test_checks_of_the_whole_database_are_not_made(crowd: Database, drills: Drills) -> None:
    """An assertion about all rows, and a comparison with all rows, say nothing of one tenant."""
    from backupd.operations.drill import Assertion

    whole = drills.run()
    assertion = Assertion("notes", "app", "SELECT count(*) FROM note", exact=2000)
    report = drills.run(DrillRequest(tenant=f"{NAME}3"), past=(whole,), assertions=(assertion,))
    assert report.verdict == "pass"
    assert (codes(report, "assertions"), codes(report, "comparison")) == (["one-tenant"], ["one-tenant"])


def test_a_tenants_own_schema_is_drilled_alone(
    pg16: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Tenancy by schema: others' schemas are not there at all, nor what cannot be made without one of them."""
    database = make_database(pg16)
    for name in ("c_1", "c_2"):
        database.sql(f"CREATE SCHEMA {name}", f"CREATE TABLE {name}.doc (id serial PRIMARY KEY, t text)")
        database.sql(f"INSERT INTO {name}.doc (t) SELECT 'x' FROM generate_series(1, 9)")
    database.sql(
        "CREATE VIEW public.all_docs AS SELECT t FROM c_1.doc UNION ALL SELECT t FROM c_2.doc",
        "GRANT SELECT ON public.all_docs TO PUBLIC",
        "CREATE MATERIALIZED VIEW public.counted AS SELECT count(*) AS number FROM public.all_docs",
        "CREATE INDEX counted_number ON public.counted (number)",
    )
    region.tenancy = Tenancy(kind=TenancyKind.SCHEMA, schema_pattern="c_(?P<tenant>.+)", classes=CLASSES)
    region.backup(database)
    assert drills.run(DrillRequest(tenant="1")).verdict == "pass"
    report = drills.run(DrillRequest(tenant="1"), "CREATE SCHEMA c_2", "CREATE TABLE c_2.doc AS SELECT 1 AS id")
    assert (report.verdict, check(report, "purged").verdict) == ("fail", "fail")
