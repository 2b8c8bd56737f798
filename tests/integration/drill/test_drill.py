"""A drill is green when nothing is wrong, and each of its checks is red when what it looks at is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

import pytest
from doubles.servers.postgres import Server
from fix_drills import Drills, check, codes, verdicts
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.model.report import Objectives
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.operations.drill import Assertion, DrillRequest

MARKER = "SECRETMARKER"


@pytest.fixture
def source(pg18: Server, make_database: Callable[..., Database], region: Region) -> Database:
    """Two tenants and shared rows, backed up; every name and every row has a marker in it."""
    database = make_database(pg18)
    database.sql(
        f"CREATE TABLE public.note_{MARKER} (id serial PRIMARY KEY, tenant text NOT NULL, body text NOT NULL)",
        "CREATE TABLE public.mark (id int PRIMARY KEY, note int, t text CHECK (t <> ''))",
        f"ALTER TABLE public.mark ADD CONSTRAINT mark_note FOREIGN KEY (note) REFERENCES public.note_{MARKER}",
        f"CREATE INDEX by_body ON public.note_{MARKER} (body)",
        "CREATE TABLE public.country (code text PRIMARY KEY)",
        f"INSERT INTO public.note_{MARKER} (tenant, body) "
        f"SELECT '{MARKER}' || g % 2, '{MARKER}' || repeat(md5(g::text), g % 9) FROM generate_series(1, 3000) g",
        "INSERT INTO public.mark SELECT g, g, md5(g::text) FROM generate_series(1, 500) g",
        "INSERT INTO public.country VALUES ('BE'), ('CH')",
    )
    region.tenancy = Tenancy(
        kind=TenancyKind.COLUMN,
        column="tenant",
        rules=(TableRule(("public.mark",), path=("mark_note",)), TableRule(("public.country",), shared=True)),
        classes=CLASSES,
    )
    region.backup(database)
    return database


def test_a_drill_of_a_sound_backup_is_green(
    source: Database, drills: Drills, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every check that can be made passes, those that cannot say why, and no name or row shows anywhere."""
    report = drills.run(
        objectives=Objectives(rpo=3600, rto=600, approval="ISMS-1"),
        assertions=(Assertion("countries", "app", "SELECT count(*) FROM country", exact=2),),
        escrow=drills.region.identity.secret,
    )
    assert report.verdict == "pass"
    skipped = {name for name, verdict in verdicts(report).items() if verdict != "pass"}
    assert skipped == {"comparison", "damage"}
    assert report.sizes is not None
    assert report.sizes.rows == 3502
    assert report.deletion is not None
    assert report.deletion.canary is not None
    assert report.deletion.canary.resurrected
    assert report.deletion.canary.removed
    assert [one.what for one in report.disposal.destroyed] == ["scratch-server", "data-folder", "keys"]
    said = f"{report}{drills.outcomes}{drills.region.events.seen}{capfd.readouterr()}"
    assert MARKER not in said.replace(drills.region.folder.name, "")


class Tampering(NamedTuple):
    """One thing done to the restored database, the check and the code that count it, and the name beside the report."""

    statement: str
    check: str
    code: str
    named: str


CHANGED = {
    "a changed row": Tampering(
        "UPDATE public.country SET code = 'NL' WHERE code = 'BE'",
        "equality",
        "rows-changed",
        "public.country, shared rows - 2 rows + 2 rows",
    ),
    "a row of another tenant": Tampering(
        f"UPDATE public.note_{MARKER} SET tenant = '{MARKER}0' WHERE id = 1001",
        "equality",
        "rows-added",
        f'public.note_{MARKER.lower()}, tenant "{MARKER}0" - 1500 rows + 1501 rows',
    ),
    "a lower sequence": Tampering(
        f"SELECT setval('public.note_{MARKER.lower()}_id_seq', 7)",
        "sequences",
        "sequence-lower",
        "_id_seq - 3000, used + 7, used",
    ),
    "a constraint less": Tampering(
        "ALTER TABLE public.country DROP CONSTRAINT country_pkey",
        "constraints",
        "constraint-missing",
        "CONSTRAINT public country country_pkey",
    ),
    "an index less": Tampering("DROP INDEX public.by_body", "indexes", "index-missing", "INDEX public by_body"),
    "another version of an extension": Tampering(
        "UPDATE pg_extension SET extversion = '0.9' WHERE extname = 'plpgsql'",
        "extensions",
        "extension-version",
        "plpgsql",
    ),
    "a role more": Tampering("CREATE ROLE stray", "globals", "role-added", "CREATE ROLE stray"),
}
LESS = {
    "a lost row": Tampering(
        "DELETE FROM public.country WHERE code = 'BE'",
        "equality",
        "rows-lost",
        "public.country, shared rows - 2 rows + 1 row",
    ),
    "a tenant nobody knows": Tampering(
        f"UPDATE public.note_{MARKER} SET tenant = '{MARKER}7' WHERE id = 1000",
        "purged",
        "tenants-of-no-segment",
        f'tenant "{MARKER}7"',
    ),
    "a privilege more": Tampering(
        "GRANT SELECT ON public.country TO PUBLIC", "equality", "schema-added", "ACL public TABLE country"
    ),
    "a constraint that is not valid": Tampering(
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'mark_note'",
        "constraints",
        "constraint-not-valid",
        "public.mark mark_note",
    ),
    "an invalid index": Tampering(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.by_body'::regclass",
        "indexes",
        "index-invalid",
        "public.by_body",
    ),
    "a large object too many": Tampering("SELECT lo_from_bytea(4711, 'x')", "equality", "large-objects-added", "4711"),
}
MORE = {
    "a row too many": Tampering(
        "INSERT INTO public.mark VALUES (501, 1, 'x')",
        "equality",
        "rows-added",
        f'public.mark, tenant "{MARKER}1" - 250 rows + 251 rows',
    ),
    "a table that is gone": Tampering("DROP TABLE public.country", "equality", "table-missing", "public.country"),
    "a table made otherwise": Tampering(
        "ALTER TABLE public.mark DROP CONSTRAINT mark_t_check", "equality", "schema-changed", "TABLE public mark"
    ),
}


@pytest.mark.parametrize("done", [CHANGED, LESS, MORE], ids=["changed", "less", "more"])
def test_what_differs_in_the_restored_database_is_red(
    done: dict[str, Tampering], source: Database, drills: Drills
) -> None:
    """Things are changed between the restore and the checks; the check that each concerns counts it by a code that
    nothing else has there, and beside the report stands its name."""
    report = drills.run(None, *(one.statement for one in done.values()))
    assert report.verdict == "fail"
    for what, one in done.items():
        assert check(report, one.check).verdict == "fail", what
        assert one.code in codes(report, one.check), what
        named = [f"{each.what} {' '.join(each.details)}" for each in drills.outcomes[0].named if each.code == one.code]
        assert any(one.named in text for text in named), (what, named)
    assert check(report, "disposal").verdict == "pass"
    assert MARKER not in str(report)


def test_an_assertion_that_does_not_hold_is_red(source: Database, drills: Drills) -> None:
    """A number that is another or too small, and a query that PostgreSQL refuses: each by its name."""
    report = drills.run(
        assertions=(
            Assertion("exact", "app", "SELECT count(*) FROM country", exact=3),
            Assertion("least", "app", "SELECT count(*) FROM country", least=3),
            Assertion("fits", "app", "SELECT count(*) FROM country", least=2),
            Assertion("broken", "app", f"SELECT '{MARKER}'::int"),
            Assertion("writes", "app", "WITH x AS (DELETE FROM country RETURNING 1) SELECT count(*) FROM x", exact=2),
            Assertion("elsewhere", "other", "SELECT 1", exact=2),
        )
    )
    assert codes(report, "assertions") == [
        "exact-differs", "least-differs", "broken-returns-no-number", "writes-returns-no-number",
    ]  # fmt: skip
    assert check(report, "equality").verdict == "pass"


def test_an_objective_that_is_missed_is_red(source: Database, drills: Drills) -> None:
    """Too old a snapshot, and too slow a restore."""
    report = drills.run(objectives=Objectives(rpo=0, rto=1))
    assert report.verdict == "fail"
    assert codes(report, "freshness") == ["older-than-objective"]
    assert codes(report, "objectives") == ["rpo-missed", "rto-missed"]


def test_rows_that_vanish_between_two_drills_are_red(source: Database, region: Region, drills: Drills) -> None:
    """Half of what the drill before restored is told; a little less is only to be seen."""
    first = drills.run()
    source.sql("DELETE FROM public.mark WHERE id > 400")
    region.backup(source)
    second = drills.run(DrillRequest(snapshot="latest"), past=(first,))
    assert (second.verdict, codes(second, "comparison")) == ("pass", ["rows-fell"])
    source.sql("TRUNCATE public.mark", f"DELETE FROM public.note_{MARKER} WHERE id > 100")
    region.backup(source)
    third = drills.run(DrillRequest(snapshot="latest"), past=(first, second))
    assert (third.verdict, codes(third, "comparison")) == ("fail", ["rows-fell-by-half"])


def test_a_drill_that_takes_too_long_or_too_much_comes_to_no_verdict(source: Database, drills: Drills) -> None:
    """It is stopped, says why, and leaves nothing."""
    from dataclasses import replace

    place = drills.world.place
    slow = drills.run(place=replace(place, restore_limit=timedelta(milliseconds=1)))
    assert (slow.verdict, codes(slow, "equality")) == ("error", ["sourcebusy"])
    assert (codes(slow, "sequences"), codes(slow, "damage")) == (["not-reached"], ["not-asked"])
    big = drills.run(place=replace(place, size=1 << 20))
    assert (big.verdict, codes(big, "equality")) == ("error", ["spoolfull"])
    assert check(slow, "disposal").verdict == check(big, "disposal").verdict == "pass"


def test_a_large_object_that_changed_or_went_is_red(
    pg18: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Large objects are compared by number, content and owner, whatever their dump's own numbers are."""
    database = make_database(pg18)
    database.sql("SELECT lo_from_bytea(n, 'x') FROM generate_series(4711, 4713) n", "CREATE TABLE public.t (id int)")
    region.backup(database)
    assert drills.run().verdict == "pass"
    given = ("CREATE ROLE other", "ALTER LARGE OBJECT 4713 OWNER TO other")
    report = drills.run(None, "SELECT lo_put(4711, 0, 'z')", "SELECT lo_unlink(4712)", *given)
    assert codes(report, "equality") == ["large-objects-missing", "large-objects-added"]
    assert [finding.count for finding in check(report, "equality").findings] == [4, 2]


def test_a_database_of_every_type_is_green(every_type: Database, region: Region, drills: Drills) -> None:
    """Every awkward thing a server can hold is restored and found equal, on every version."""
    region.backup(every_type)
    report = drills.run()
    assert (report.verdict, report.versions.server is not None) == ("pass", True)
    assert {name for name, verdict in verdicts(report).items() if verdict == "pass"} == {
        "records", "authentic", "equality", "sequences", "constraints", "indexes", "extensions", "globals", "purged",
        "disposal",
    }  # fmt: skip


def test_rows_that_postgresql_refuses_fail_the_drill_and_are_not_quoted(
    pg17: Server,
    make_database: Callable[..., Database],
    region: Region,
    drills: Drills,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A rule of the schema that holds in the source only: its own error quotes the row, ours does not. Somebody who may
    read names sees which table it is."""
    database = make_database(pg17)
    database.sql(
        f"CREATE TABLE public.t (body text CHECK (current_database() = '{database.name}'))",
        f"INSERT INTO public.t VALUES ('{MARKER}')",
    )
    region.backup(database)
    report = drills.run()
    assert (report.verdict, codes(report, "equality")) == ("fail", ["source"])
    assert check(report, "disposal").verdict == "pass"
    error = drills.outcomes[-1].error
    assert error is not None
    assert "check violation" in error.message
    explained = drills.run(DrillRequest(explain=True))
    assert explained.verdict == "fail"
    (refused,) = [one for one in drills.outcomes[-1].named if one.code == "refused"]
    assert refused.what == "rows of table t"
    assert "check violation" in refused.details[0]
    said = f"{report}{error.message}{error.hint}{drills.region.events.seen}{capfd.readouterr()}"
    assert MARKER not in f"{said}{explained}{drills.outcomes[-1].named}"
