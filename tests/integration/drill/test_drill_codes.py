"""Codes of checks that other tests of drills do not show, each by real damage; several in one drill where they can."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from doubles.servers.postgres import Server
from fix_drills import Drills, check, codes, segments_of, tamper, verdicts
from fix_keeper import DAY, KeeperRegion
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.model.ids import GenerationId, Pseudonym
from backupd.model.ledger import PurgeBegan
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.drill import DrillRequest
from backupd.planning import lifecycle, selection
from backupd.planning.lifecycle import ClockDates
from backupd.postgres.connect import Source
from backupd.seal import suite
from backupd.seal.keyring import wraps_check

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Three tenants, with rows enough for packs of their own."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE public.note (id int PRIMARY KEY, tenant text NOT NULL, body text)",
        "INSERT INTO public.note SELECT g, 't' || g % 3, repeat(md5(g::text), 20) FROM generate_series(1, 3000) g",
    )
    return database


def test_a_schema_that_came_back_otherwise(
    pg15: Server, make_database: Callable[..., Database], make_role: Callable[..., str], region: Region, drills: Drills
) -> None:
    """Sequences, constraints, indexes, extensions, collations, roles, views: less, more and other than there were."""
    role = make_role(pg15)
    database = make_database(pg15)
    database.sql(
        "CREATE SCHEMA other",
        "CREATE EXTENSION hstore", "CREATE EXTENSION citext", "CREATE EXTENSION btree_gist",
        "CREATE TABLE public.t (a int, b int, c int)",
        "ALTER TABLE public.t ADD CONSTRAINT t_of UNIQUE (a)",
        "CREATE INDEX t_by ON public.t (b)",
        "CREATE SEQUENCE public.gone",
        "CREATE VIEW public.v AS SELECT a FROM public.t",
        'CREATE COLLATION public.lost FROM "C"', 'CREATE COLLATION public.kept FROM "C"',
        "INSERT INTO public.t SELECT g, g, g FROM generate_series(1, 50) g",
    )  # fmt: skip
    region.backup(database)
    sound = drills.run()
    assert sound.verdict == "pass"
    skipped = {one.name: one.findings[0].code for one in sound.checks if one.verdict == "skip"}
    assert skipped == {
        "freshness": "not-configured", "comparison": "no-earlier-drill", "assertions": "not-configured",
        "canary": "no-tenants", "escrow": "not-configured", "objectives": "not-configured", "damage": "not-asked",
    }  # fmt: skip
    assert sound.versions.client is not None
    report = drills.run(
        None,
        "DROP SEQUENCE public.gone", "CREATE SEQUENCE public.new",
        "ALTER TABLE public.t DROP CONSTRAINT t_of", "ALTER TABLE public.t ADD CONSTRAINT t_of UNIQUE (b)",
        "ALTER TABLE public.t ADD CONSTRAINT t_new UNIQUE (c)",
        "DROP INDEX public.t_by", "CREATE INDEX t_by ON public.t (c)", "CREATE INDEX t_more ON public.t (a, b)",
        "DROP EXTENSION hstore", "CREATE EXTENSION pg_trgm", "ALTER EXTENSION citext SET SCHEMA other",
        "DROP COLLATION public.lost", "UPDATE pg_collation SET collversion = '0' WHERE collname = 'kept'",
        "DROP VIEW public.v",
        f"ALTER ROLE {role} NOLOGIN",
    )  # fmt: skip
    assert report.verdict == "fail"
    for name, wanted in {
        "sequences": {"sequence-missing", "sequence-added"},
        "constraints": {"constraint-changed", "constraint-added"},
        "indexes": {"index-changed", "index-added"},
        "extensions": {
            "extension-missing", "extension-added", "extension-schema", "extension-changed", "collation-missing",
            "collation-version",
        },
        "globals": {"role-differs", "role-added"},
        "equality": {"schema-missing"},
    }.items():  # fmt: skip
        assert wanted <= set(codes(report, name)), name


def test_rows_whose_tenant_cannot_be_told(crowd: Database, region: Region, drills: Drills) -> None:
    """Without the column that says whose rows are, nothing is known: three checks say so, and none passes."""
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    report = drills.run(None, "ALTER TABLE public.note DROP COLUMN tenant")
    assert report.verdict == "fail"
    assert check(report, "equality").verdict == "fail"  # for its schema differs, too
    assert "tables-not-mapped" in codes(report, "equality")
    assert (check(report, "purged").verdict, codes(report, "purged")) == ("fail", ["rows-not-compared"])
    assert (check(report, "canary").verdict, codes(report, "canary")) == ("error", ["rows-not-compared"])


def test_a_canary_is_looked_for_in_both_databases(crowd: Database, region: Region, drills: Drills) -> None:
    """Its rows are gone from the first, and are in the second, where others' rows were taken."""
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    seen: list[list[tuple[object, ...]]] = []

    def again(source: Source) -> None:
        tamper(source, "UPDATE public.note SET tenant = 't' || (id + 1) % 3")
        seen.append([])

    report = drills.run(None, "DELETE FROM public.note", between_again=again)
    assert seen == [[]]
    assert check(report, "canary").verdict == "fail"
    assert codes(report, "canary") == ["canary-not-restored", "canary-came-back", "canary-took-others"]
    assert report.deletion is not None
    assert report.deletion.canary is not None
    assert (report.deletion.canary.resurrected, report.deletion.canary.removed) == (False, False)


def test_the_second_restore_really_loads_the_others(crowd: Database, region: Region, drills: Drills) -> None:
    """Two tenants' rows are in the second database, and none of the third; nothing of it stays."""
    import psycopg

    from backupd.postgres.connect import parameters

    region.tenancy = BY_COLUMN
    region.backup(crowd)
    counts: list[list[tuple[object, ...]]] = []

    def again(source: Source) -> None:
        with psycopg.connect(**parameters(source)) as connection:
            counts.append(connection.execute("SELECT tenant, count(*) FROM note GROUP BY 1 ORDER BY 1").fetchall())

    report = drills.run(between_again=again)
    assert (report.verdict, check(report, "canary").verdict) == ("pass", "pass")
    ((one, other),) = counts
    assert one[0] != other[0]
    assert one[1] == other[1] == 1000


def test_objects_that_go_bad_while_a_drill_is_under_way(crowd: Database, region: Region, drills: Drills) -> None:
    """One section is damaged and one is gone by the time every byte is looked at; manifests are read before."""
    region.tenancy = BY_COLUMN
    more = "AS SELECT id, tenant, body FROM public.note WHERE tenant = 't1'"
    crowd.sql(f"CREATE TABLE public.second {more}", f"CREATE TABLE public.third {more}")
    region.backup(crowd)
    crowd.sql("UPDATE public.second SET body = body || '!'")
    region.backup(crowd)
    crowd.sql("UPDATE public.third SET body = body || '!'")
    region.backup(crowd)
    record = region.repository.record(region.repository.snapshots()[-1])
    listed = region.repository.sections(record)
    (ours,) = segments_of(region, record, "t1")
    numbered = sorted((number, section) for (segment, number), section in listed.sections.items() if segment == ours)
    (_, old), (_, newer), (newest, _) = numbered
    assert listed.manifests[ours].row.number == newest

    def between(_: object) -> None:
        packs = region.folder / "store" / "be"
        data = bytearray((packs / old.pack.name).read_bytes())
        data[old.offset] ^= 1
        (packs / old.pack.name).chmod(0o600)
        (packs / old.pack.name).write_bytes(data)
        (packs / newer.pack.name).unlink()

    report = drills.run(DrillRequest(snapshot="latest"), between=between)
    assert (report.verdict, check(report, "authentic").verdict) == ("fail", "fail")
    assert set(codes(report, "authentic")) == {"object-damaged", "object-missing"}


def test_a_ledger_that_was_cut_off_is_red(crowd: Database, keeper_region: KeeperRegion, drills: Drills) -> None:
    """A record bears witness of an entry that the store does not have any more, though the drilled one does not."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    older = region.backup(crowd).snapshot
    keeper_region.book.append(lambda _: [_purge(keeper_region, "x", [])])
    region.backup(crowd)
    for entry in (region.folder / "store" / "be" / "ledger").iterdir():
        entry.unlink()
    drills.repository = region.repository
    report = drills.run(DrillRequest(snapshot=older))
    assert (report.verdict, check(report, "records").verdict) == ("fail", "fail")
    assert codes(report, "records") == ["ledger-not-the-one-seen"]
    assert check(report, "equality").verdict == "pass"


def test_a_restore_that_does_not_obey_is_red(
    crowd: Database, keeper_region: KeeperRegion, drills: Drills, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sabotaged, it restores what the ledger says is purged: seen by the segment, and by the canary."""
    region = keeper_region.region
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    repository = region.repository
    record = repository.record(repository.snapshots()[-1])
    ours = [(record.generation, segment) for segment in segments_of(region, record, "t1")]
    keeper_region.book.append(lambda _: [_purge(keeper_region, "t1", ours)])
    drills.repository = repository
    monkeypatch.setattr(selection, "unpurged", lambda _, segments, __: list(segments))
    report = drills.run()
    assert report.verdict == "fail"
    assert (check(report, "purged").verdict, codes(report, "purged")) == (
        "fail",
        ["purged-restored", "purge-under-way"],
    )
    assert codes(report, "canary") == ["canary-came-back"]


def test_an_escrow_that_opens_less_or_something_else_is_red(crowd: Database, region: Region, drills: Drills) -> None:
    """A recipient that was forgotten for one run, and a keyring whose file key it gets is not everybody's."""
    escrow = suite.generate()
    region.tenancy = BY_COLUMN
    both = replace(region.node, recipients=(region.identity.public, escrow.public))
    alone, region.node = region.node, both
    region.backup(crowd)
    assert codes(drills.run(escrow=escrow.secret), "escrow") == []
    region.node = alone
    crowd.sql("INSERT INTO public.note VALUES (9999, 't9', 'new')")
    region.backup(crowd)
    _forge(region, escrow)
    report = drills.run(DrillRequest(snapshot="latest"), escrow=escrow.secret)
    assert (report.verdict, check(report, "escrow").verdict) == ("fail", "fail")
    assert set(codes(report, "escrow")) == {"escrow-lacks-key", "escrow-key-differs"}
    assert {name for name, verdict in verdicts(report).items() if verdict == "fail"} == {"escrow"}


def test_a_key_to_purged_rows_is_told_and_no_fault(
    pg17: Server, make_database: Callable[..., Database], keeper_region: KeeperRegion, drills: Drills
) -> None:
    """Nobody can bring back what a kept row refers to; a key that is gone for any other reason is red all the same."""
    database, region = make_database(pg17), keeper_region.region
    region.tenancy = BY_COLUMN
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note SELECT g, 't' || g % 3 FROM generate_series(1, 300) g",
        "CREATE TABLE ticket (tenant text NOT NULL, note int CONSTRAINT to_note REFERENCES note)",
        "CREATE TABLE paper (tenant text NOT NULL, note int CONSTRAINT of_note REFERENCES note)",
        "INSERT INTO ticket VALUES ('t0', 1)",
        "INSERT INTO paper VALUES ('t0', 3)",
    )
    region.backup(database)
    drills.repository = region.repository
    now = keeper_region.clock.now()
    keeper_region.book.append(
        lambda states: lifecycle.erase(states, keeper_region.tenant("t1"), ClockDates(now, now + 3 * DAY, now))
    )
    keeper_region.purge(keeper_region.incarnation("t1"))
    report = drills.run()
    assert (report.verdict, codes(report, "constraints")) == ("pass", ["key-to-purged-rows"])
    report = drills.run(DrillRequest(), "ALTER TABLE paper DROP CONSTRAINT of_note")
    assert (report.verdict, set(codes(report, "constraints"))) == ("fail", {"constraint-missing", "key-to-purged-rows"})
    time.sleep(1.05)  # the newest one goes by the second of a snapshot's name
    assert region.backup(database).left_out, "the application has not deleted what was purged"
    report = drills.run()
    assert (report.verdict, codes(report, "constraints")) == ("pass", ["key-to-purged-rows"])


def test_a_view_that_cannot_be_filled_is_told_and_no_fault(
    pg17: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Its query fails under the search path of a refresh; its rows are none of the backup's."""
    database = make_database(pg17)
    region.tenancy = BY_COLUMN
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note VALUES (1, 't1')",
        "CREATE FUNCTION notes() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
        "CREATE MATERIALIZED VIEW counted AS SELECT notes() AS number",
        "CREATE OR REPLACE FUNCTION notes() RETURNS bigint LANGUAGE plpgsql AS "
        "'BEGIN RETURN (SELECT count(*) FROM note); END'",
    )
    region.backup(database)
    report = drills.run()
    assert (report.verdict, codes(report, "equality")) == ("pass", ["view-unfilled"])


def _purge(keeper_region: KeeperRegion, tenant: str, segments: list[tuple[GenerationId, Pseudonym]]) -> PurgeBegan:
    return PurgeBegan(tenant=keeper_region.tenant(tenant), incarnation=1, scope="", segments=segments, stores=["disk"])


def _forge(region: Region, escrow: suite.KeyPair) -> None:
    """Seal another file key to the escrow than to everybody else, in the keyring that both open."""
    repository = region.repository
    generation = repository.record(repository.snapshots()[-1]).generation
    first = min(repository.keyrings(generation), key=lambda one: one.ids.run)
    path = region.folder / "store" / "be" / first.where
    lines = path.read_bytes().split(b"\n")
    wraps = {**first.wraps, suite.fingerprint(escrow.public): suite.seal(escrow.public, first.ids.info(), bytes(32))}
    listed = [
        {"recipient": recipient, "sealed": base64.b64encode(sealed).decode()} for recipient, sealed in wraps.items()
    ]
    lines[2] = json.dumps({"wraps": listed, "check": wraps_check(wraps.items())}).encode()
    path.chmod(0o600)
    path.write_bytes(b"\n".join(lines))


def test_a_view_that_cannot_be_filled_here_is_told_and_no_fault(
    crowd: Database, region: Region, drills: Drills
) -> None:
    """Its query fails where the database has another name; its rows are no rows of the backup."""
    crowd.sql(
        "CREATE FUNCTION public.one() RETURNS int LANGUAGE sql STABLE AS "
        f"$$ SELECT 1 / CASE WHEN pg_catalog.current_database() = '{crowd.name}' THEN 1 ELSE 0 END $$",
        "CREATE MATERIALIZED VIEW public.only_here AS SELECT public.one() AS one",
    )
    region.backup(crowd)

    report = drills.run()

    assert report.verdict == "pass"
    assert codes(report, "equality") == ["view-unfilled"]


def test_a_check_that_asks_another_table_is_no_fault_of_the_backup(
    pg17: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """The second restore is of one table at first; where PostgreSQL refuses its rows alone, it is of all of them."""
    region.tenancy = replace(BY_COLUMN, unclassified="shared")
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE public.kind (name text)",
        "INSERT INTO public.kind VALUES ('a')",
        "CREATE FUNCTION public.known(v text) RETURNS bool LANGUAGE sql AS"
        " $$ SELECT EXISTS (SELECT FROM public.kind WHERE name = v) $$",
        "CREATE TABLE public.item (id int PRIMARY KEY, tenant text NOT NULL, k text CHECK (public.known(k)))",
        "INSERT INTO public.item SELECT g, 't' || g % 2, 'a' FROM generate_series(1, 40) g",
    )
    region.backup(database)
    report = drills.run()
    assert (report.verdict, check(report, "canary").verdict) == ("pass", "pass")
    assert report.deletion is not None
    assert report.deletion.canary is not None
    assert report.deletion.canary.removed


def test_a_second_restore_that_was_refused_proves_nothing(crowd: Database, region: Region, drills: Drills) -> None:
    """The name of its database is taken: nobody saw that the tenant does not come back."""
    region.tenancy = BY_COLUMN
    region.backup(crowd)
    report = drills.run(None, f'CREATE DATABASE "{crowd.name[:40]}_drill_canary"')
    assert check(report, "canary").verdict != "pass"
    assert report.verdict == "error"
