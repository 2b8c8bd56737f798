"""One tenant restored in place, into a database in which others go on working."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_inplace import HARM, Shop, make_shop
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.model.inventory import TableName
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind


@pytest.mark.parametrize("major", [15, 17])
def test_the_tenant_is_as_it_was_and_nobody_else_is_touched(
    region: Region, major: int, postgres_of: Callable[[int], Server], make_database: Callable[..., Database]
) -> None:
    """Rows of every kind of table come back, to the byte; others keep theirs, changed or not."""
    shop = make_shop(region, make_database(postgres_of(major)))
    then = shop.rows()
    shop.sql(*HARM)
    others = shop.rows(others=True)
    preview = shop.restore(apply=False)
    assert not preview.applied
    assert shop.rows() != then
    report = shop.restore()
    assert report.tables == preview.tables
    assert shop.rows() == then
    assert shop.rows(others=True) == others
    assert (report.applied, report.settled, report.triggers, report.before) == (True, True, "off", "TICKET-1")
    counts = {one.table: (one.deletes, one.updates, one.inserts) for one in report.tables}
    assert counts["public.customer"] == (1, 10, 10)
    assert counts["public.line"] == (1, 0, 60)
    assert counts["public.tag"] == (2, 0, 1)
    assert counts["public.note"] == (0, 10, 1)
    again = shop.restore()
    assert again.tables == ()
    assert [(one.purpose, one.snapshot) for one in shop.noted] == [("tenant-in-place", report.snapshot)] * 2


def test_rows_that_the_tenants_rows_refer_to_one_to_one_come_back_with_them(
    region: Region, pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Whichever of the two was changed or removed; and those of others, and nobody's, stay."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE settings (id int PRIMARY KEY, said text)",
        "CREATE TABLE org (id int PRIMARY KEY, settings int NOT NULL UNIQUE REFERENCES settings)",
        "INSERT INTO settings SELECT g, 's' || g FROM generate_series(1, 9) g",
        "INSERT INTO org SELECT g, 9 - g FROM generate_series(1, 4) g",
    )
    path = TableRule(("public.settings",), path=("<public.org.settings",))
    region.tenancy = Tenancy(
        TenancyKind.COLUMN, table=TableName("public", "org"), rules=(path,), null_tenant="shared", classes=CLASSES
    )
    region.backup(database)
    rows = "SELECT o.id, s::text FROM settings s LEFT JOIN org o ON s.id = o.settings ORDER BY s.id"
    then = database.sql(rows)
    shop = Shop(region, database)
    for harm in (
        ["UPDATE settings SET said = 'wrong' WHERE id IN (6, 7, 8)", "UPDATE settings SET said = 's6' WHERE id = 6",
         "UPDATE settings SET said = 's8' WHERE id = 8"],
        ["DELETE FROM org WHERE id = 2", "DELETE FROM settings WHERE id = 7"],
        ["INSERT INTO settings VALUES (20, 'new')", "UPDATE org SET settings = 20 WHERE id = 2",
         "DELETE FROM settings WHERE id = 7"],
    ):  # fmt: skip
        database.sql(*harm)
        assert database.sql(rows) != then
        assert shop.restore().settled
        assert database.sql(rows) == then
    database.sql("UPDATE org SET settings = 1 WHERE id = 2")
    report = shop.restore()
    assert [(one.table, one.kind.value, one.count) for one in report.conflicts] == [
        ("public.settings", "primary-key-taken", 1)
    ]
