"""After days of small changes a restore asks a store about as often as after the first: by packs, not by tenants."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from doubles.servers.postgres import Server
from doubles.stores.faulty_store import FaultyStore
from fix_postgres import Database
from fix_regions import Region

from backupd.model.ids import ObjectName
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.restore import contents

TENANTS, DAYS = 120, 5


@pytest.fixture
def days(pg17: Server, make_database: Callable[..., Database], region: Region) -> Database:
    """Many small tenants; each day changes some rows of every third of them."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, body text)",
        f"INSERT INTO note SELECT g, 't' || (g % {TENANTS}), md5(g::text) FROM generate_series(1, {TENANTS * 20}) g",
    )
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=region.tenancy.classes)
    region.backup(database)
    for day in range(1, DAYS):
        database.sql(f"UPDATE note SET body = 'day {day}' || id WHERE id % {TENANTS} % 3 = {day % 3} AND id < 1000")
        region.backup(database)
    return database


def test_restore_reads_each_pack_once(
    days: Database, region: Region, restored: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a database that is much larger than what is read ahead, here as little as some tenants take."""
    monkeypatch.setattr(contents, "_AHEAD", 32 << 10)
    packs = sum(1 for info in region.store.list(ObjectName("packs")) if info.name.endswith(".pack"))
    assert packs >= DAYS
    counting = region.store = FaultyStore(region.store)
    found = restored(days.server)
    assert found.sql("SELECT count(*) FROM note") == [(TENANTS * 20,)]
    assert counting.calls.count("get") <= 3 * packs + 10
