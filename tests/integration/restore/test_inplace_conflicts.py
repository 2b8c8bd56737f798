"""Everything that can stand in the way of a restore in place is found and counted before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from doubles.servers.postgres import Server
from fix_inplace import HARM, SHOP, Shop, make_shop
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import RefusedError, SourceError
from backupd.model.tenancy import ClassPolicy, TableRule, Tenancy, TenancyKind
from backupd.operations.inplace import run
from backupd.operations.restore.choose import choose
from backupd.planning.inplace import ConflictKind

CASES = {
    "a shared row that is gone": (
        ["UPDATE customer SET code = NULL", "DELETE FROM country WHERE code = 'be'"],
        {("customer", "shared-row-gone"): 40},
    ),
    "a shared row that was changed": (
        ["UPDATE country SET said = 'Marker' WHERE code = 'be'", "DELETE FROM tag WHERE tenant = 2"],
        {("country", "shared-row-changed"): 1},
    ),
    "a row of another tenant that is gone": (
        ["UPDATE note SET above = NULL WHERE above = 5", "DELETE FROM note WHERE id = 5"],
        {("note", "other-row-gone"): 1},
    ),
    "somebody else refers to what would go": (
        [
            "INSERT INTO customer (tenant, mail) VALUES (2, 'new')",
            "INSERT INTO visit SELECT 1, 2, id FROM customer WHERE mail = 'new'",
            "INSERT INTO sale (tenant, customer) SELECT 4, id FROM customer WHERE mail = 'new'",
        ],
        {("visit", "referred-to"): 1, ("sale", "referred-to"): 1},
    ),
    "a unique key that is taken": (
        [
            "DELETE FROM tag WHERE tenant = 2",
            "UPDATE customer SET mail = 'x' WHERE mail = 'Marker1'",
            "UPDATE customer SET mail = 'Marker1' WHERE mail = 'Marker2'",
        ],
        {("customer", "unique-key-taken"): 1},
    ),
    "a unique expression that is taken": (
        [
            "UPDATE customer SET mail = 'x' WHERE mail = 'Marker1'",
            "UPDATE customer SET mail = 'MARKER1' WHERE mail = 'Marker2'",
            "CREATE UNIQUE INDEX ON customer (lower(mail)) WHERE mail <> 'y'",
        ],
        {("customer", "unique-key-taken"): 1},
    ),
    "a unique key that is newer, and that the rows break": (
        ["DELETE FROM tag", "CREATE UNIQUE INDEX ON tag (tenant, word)"],
        {("tag", "unique-key-taken"): 30},
    ),
    "a primary key that another tenant has": (
        ["UPDATE note SET above = NULL", "DELETE FROM note WHERE id = 1", "INSERT INTO note VALUES (1, 3, NULL)"],
        {("note", "primary-key-taken"): 1},
    ),
    "an exclusion": (
        [
            "UPDATE note SET above = NULL",
            "DELETE FROM note",
            "ALTER TABLE note ADD EXCLUDE USING gist (int4range(id, id + 2) WITH &&)",
            "INSERT INTO note VALUES (2, 3, NULL)",
        ],
        {("note", "exclusion"): 1, ("note", "other-row-gone"): 1},
    ),
    "a check that is newer": (
        ["DELETE FROM line WHERE sale = 1", "ALTER TABLE line ADD CHECK (sale <> 1)"],
        {("line", "check"): 3},
    ),
    "a column that may not be empty any more": (
        ["UPDATE note SET above = id WHERE above IS NULL", "ALTER TABLE note ALTER above SET NOT NULL"],
        {("note", "check"): 1},
    ),
    "a column that is gone": (["ALTER TABLE tag DROP COLUMN word"], {("tag", "column-gone"): 1}),
    "a column that is generated now": (
        ["ALTER TABLE tag DROP COLUMN word", "ALTER TABLE tag ADD word text GENERATED ALWAYS AS ('w') STORED"],
        {("tag", "column-gone"): 1},
    ),
    "a new column that has to be filled": (
        ["ALTER TABLE tag ADD fresh int", "UPDATE tag SET fresh = 1", "ALTER TABLE tag ALTER fresh SET NOT NULL"],
        {("tag", "column-required"): 1},
    ),
    "a type that does not take the rows": (
        ["UPDATE tag SET word = '1'", "ALTER TABLE tag ALTER word TYPE int USING 1"],
        {("tag", "type-changed"): 40},
    ),
    "a type that takes them otherwise": (
        ["ALTER TABLE sale ALTER price TYPE numeric(20, 4)"],
        {("sale", "type-changed"): 40},
    ),
    "a table that is gone": (["DROP TABLE tag"], {("tag", "table-gone"): 40}),
    "a table that is new": (
        ["CREATE TABLE fresh (id int PRIMARY KEY, tenant int)", "INSERT INTO fresh VALUES (1, 2), (2, 3), (3, 2)"],
        {("fresh", "table-new"): 2},
    ),
    "triggers that fire always": (
        [
            "DELETE FROM tag WHERE tenant = 2",
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "CREATE TRIGGER t BEFORE INSERT ON tag FOR EACH ROW EXECUTE FUNCTION f()",
            "ALTER TABLE tag ENABLE ALWAYS TRIGGER t",
            "CREATE RULE r AS ON INSERT TO tag DO INSTEAD NOTHING",
            "ALTER TABLE tag ENABLE REPLICA RULE r",
        ],
        {("tag", "triggers-always"): 2},
    ),
    "a deferrable key": (
        ["DELETE FROM line WHERE sale = 1", "ALTER TABLE line ADD UNIQUE (place, sale) DEFERRABLE"],
        {("line", "deferrable-key"): 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_is_found_and_nothing_is_written(shop: Shop, case: str) -> None:
    """Table, kind and number are told; rows stay as they are; no value shows."""
    statements, wanted = CASES[case]
    shop.sql(*statements)
    if any("tag" in one and "DROP" in one for one in statements):
        report = shop.restore()
        assert not report.applied
        found = {(one.table.removeprefix("public."), one.kind.value): one.count for one in report.conflicts}
    else:
        found = shop.found()
    assert found == wanted
    assert "Marker" not in repr(found)


ACCEPTED = {
    "table-new": "a table that is new",
    "shared-row-changed": "a shared row that was changed",
    "deferrable-key": "a deferrable key",
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_some_can_be_accepted(shop: Shop, kind: str) -> None:
    """Then the tenant is restored, new tables and shared rows stay as they are, and it is still told."""
    then = shop.rows()
    shop.sql(*CASES[ACCEPTED[kind]][0])
    new = "SELECT t::text FROM fresh t" if kind == "table-new" else "SELECT t::text FROM country t"
    before = shop.sql(new)
    report = shop.restore(accepted=frozenset({ConflictKind(kind)}))
    assert report.applied
    assert [one.kind.value for one in report.conflicts] == [kind]
    assert shop.rows() == then
    assert shop.sql(new) == before


def test_a_new_column_is_kept_and_filled(shop: Shop) -> None:
    """Rows that exist keep their value, rows that come back get the default; it is told and stops nothing."""
    shop.sql(
        "ALTER TABLE sale ADD fresh text DEFAULT 'default'",
        "UPDATE sale SET fresh = 'kept', price = 0 WHERE id = 1",
        "DELETE FROM line WHERE sale = 6",
        "DELETE FROM sale WHERE id = 6",
    )
    report = shop.restore()
    assert [(one.kind, one.count) for one in report.conflicts] == [(ConflictKind.COLUMN_NEW, 1)]
    assert shop.sql("SELECT id, price, fresh FROM sale WHERE id IN (1, 6) ORDER BY 1") == [
        (1, 1.50, "kept"),
        (6, 9, "default"),
    ]


@pytest.fixture
def limited(shop: Shop, make_role: Callable[..., str]) -> Iterator[str]:
    """A role that may read and write rows, and nothing else."""
    role = make_role(shop.database.server)
    shop.sql(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT USAGE, UPDATE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    yield role
    shop.sql(f"DROP OWNED BY {role}")


def test_a_role_that_may_not_read_or_write_all(shop: Shop, limited: str) -> None:
    """Privileges and row level security are found before a row is read."""
    shop.sql(f"REVOKE DELETE ON tag FROM {limited}", "ALTER TABLE note ENABLE ROW LEVEL SECURITY")
    assert shop.found(user=limited) == {("tag", "privilege"): 1, ("note", "row-security"): 1}


def test_triggers_that_the_role_cannot_switch_off(shop: Shop, limited: str) -> None:
    """They are told; with leave to fire they do, and what they do to others undoes the restore."""
    then = shop.rows()
    shop.sql(
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN INSERT INTO public.visit VALUES (OLD.id, OLD.tenant); RETURN OLD; END$$",
        "CREATE TRIGGER t BEFORE DELETE ON note FOR EACH ROW EXECUTE FUNCTION f()",
        "INSERT INTO note VALUES (200, 2, NULL)",
    )
    assert shop.found(user=limited) == {("note", "triggers"): 1}
    report = shop.restore(user=limited, triggers_fire=True)
    assert (report.applied, report.triggers) == (True, "fire")
    assert shop.rows() == then
    assert shop.sql("SELECT id, tenant FROM visit") == [(200, 2)]
    shop.sql(
        "INSERT INTO note VALUES (200, 2, NULL)",
        "CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN UPDATE public.sale SET price = 0 WHERE tenant = 3; RETURN OLD; END$$",
    )
    before = shop.rows(), shop.rows(others=True)
    with pytest.raises(SourceError, match="rows of others changed in 1 table; nothing was written"):
        shop.restore(user=limited, triggers_fire=True)
    assert (shop.rows(), shop.rows(others=True)) == before


def test_a_trigger_that_changes_rows_undoes_the_restore(shop: Shop) -> None:
    """What would come back must be what was there."""
    shop.sql(
        "DELETE FROM tag WHERE tenant = 2",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.word := 'Marker'; RETURN NEW; END$$",
        "CREATE TRIGGER t BEFORE INSERT ON tag FOR EACH ROW EXECUTE FUNCTION f()",
    )
    with pytest.raises(SourceError, match="would not be those of the snapshot in 1 table"):
        shop.restore(triggers_fire=True)
    assert shop.restore().applied


def test_foreign_keys_are_kept_where_triggers_stay_on(shop: Shop, limited: str) -> None:
    """Rows come in an order that each statement's check allows, also when updated rows refer to new ones."""
    then, harm = shop.rows(), [one for one in HARM if "note" not in one]
    shop.sql(*harm)
    assert shop.restore(user=limited, triggers_fire=True).applied
    assert shop.rows() == then
    shop.sql("UPDATE note SET above = NULL WHERE tenant = 2", "DELETE FROM note WHERE id = 1")
    assert shop.restore(user=limited, triggers_fire=True).applied
    assert shop.rows() == then


def test_foreign_keys_in_a_circle(shop: Shop, limited: str) -> None:
    """With triggers off they are no matter; with triggers on one of them must be deferrable."""
    shop.sql(
        "CREATE TABLE hen (id int PRIMARY KEY, tenant int, egg int NOT NULL)",
        "CREATE TABLE egg (id int PRIMARY KEY, tenant int, hen int NOT NULL CONSTRAINT laid REFERENCES hen)",
        "INSERT INTO hen VALUES (1, 2, 1), (2, 3, 2)",
        "INSERT INTO egg VALUES (1, 2, 1), (2, 3, 2)",
        "ALTER TABLE hen ADD CONSTRAINT hatched FOREIGN KEY (egg) REFERENCES egg",
        f"GRANT ALL ON hen, egg TO {limited}",
    )
    shop.region.backup(shop.database)
    kill = "SET session_replication_role = replica; DELETE FROM hen WHERE tenant = 2; DELETE FROM egg WHERE tenant = 2"
    shop.sql(kill)
    found = shop.found(user=limited, triggers_fire=True)
    assert {kind: count for (_, kind), count in found.items()} == {"cycle": 2}
    assert shop.restore().applied
    shop.sql(kill, "ALTER TABLE hen ALTER CONSTRAINT hatched DEFERRABLE")
    assert shop.restore(user=limited, triggers_fire=True).applied
    assert shop.sql("SELECT (SELECT count(*) FROM hen), (SELECT count(*) FROM egg)") == [(2, 2)]


def test_a_period_is_covered_whole_or_refers_to_nothing(
    region: Region, pg18: Server, make_database: Callable[..., Database]
) -> None:
    """A key's operator finds what overlaps a period, and that may be a part of it only."""
    shop = make_shop(region, make_database(pg18))
    shop.sql(
        "CREATE TABLE lease (id int4range, during daterange, tenant int, PRIMARY KEY (id, during WITHOUT OVERLAPS))",
        "CREATE TABLE stay (tenant int, lease int4range, during daterange, CONSTRAINT leased "
        "FOREIGN KEY (lease, PERIOD during) REFERENCES lease (id, PERIOD during))",
        "INSERT INTO lease VALUES ('[1,2)', '[2030-01-01,2030-06-01)', 2), ('[1,2)', '[2030-06-01,2031-01-01)', 3)",
        "INSERT INTO stay VALUES (2, '[1,2)', '[2030-05-01,2030-07-01)')",
    )
    shop.region.backup(shop.database)
    shop.sql("DELETE FROM stay", "DELETE FROM lease WHERE tenant = 2")
    assert shop.restore().applied, "one row stays and one comes back: together they cover it"
    shop.sql(
        "DELETE FROM stay",
        "DELETE FROM lease WHERE tenant = 3",
        "INSERT INTO lease VALUES ('[2,3)', '[2030-01-01,2030-06-01)', 3), ('[2,3)', '[2030-06-01,2031-01-01)', 2)",
        "INSERT INTO stay VALUES (4, '[2,3)', '[2030-05-01,2030-07-01)')",
    )
    assert shop.found() == {("stay", "other-row-gone"): 1, ("stay", "referred-to"): 1}


def test_a_table_that_was_shared(shop: Shop) -> None:
    """Which of its rows were the tenant's cannot be told, so they are not taken for deleted."""
    everybody = replace(SHOP, rules=(*SHOP.rules, TableRule(("public.tag",), shared=True)))
    shop.region.tenancy = everybody
    shop.region.backup(shop.database)
    shop.region.tenancy = SHOP
    assert shop.found() == {("tag", "route-changed"): 40}


def test_a_class_that_may_have_been_purged(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the snapshot has nothing of it does not mean that there was nothing, once something was purged."""
    shop.sql("TRUNCATE tag")
    support = TableRule(("public.tag",), data_class="support")
    classes = {**SHOP.classes, "support": ClassPolicy.STANDARD}
    shop.region.tenancy = replace(SHOP, classes=classes, rules=(*SHOP.rules, support))
    shop.region.backup(shop.database)
    shop.sql("INSERT INTO tag VALUES (2, 'new')")
    assert [(one.table, one.deletes) for one in shop.restore(apply=False).tables] == [("public.tag", 1)]
    monkeypatch.setattr(run, "choose", lambda *given: replace(choose(*given), purged=1))
    assert shop.found() == {("tag", "class-missing"): 1}


@pytest.mark.parametrize("kind", [TenancyKind.DATABASE, TenancyKind.NONE])
def test_a_database_of_one_owner_is_restored_as_a_whole(shop: Shop, kind: TenancyKind) -> None:
    """There is nothing in place to restore."""
    with pytest.raises(RefusedError, match="leaves nothing to restore in place"):
        shop.restore(tenancy=Tenancy(kind=kind, unclassified="shared", classes=SHOP.classes))


def test_nothing_is_written_without_a_backup_before(shop: Shop) -> None:
    """Neither one made here, nor one somebody names."""
    with pytest.raises(RefusedError, match="not backed up before"):
        shop.restore(before=None)
