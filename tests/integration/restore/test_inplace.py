"""One tenant restored in place, into a database in which others go on working."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from fix_inplace import HARM, make_shop
from fix_postgres import Database
from fix_regions import Region


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
