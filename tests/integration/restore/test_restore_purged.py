"""Files and whole regions obey the ledger as every restore does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from doubles.servers.postgres import Server
from fix_keeper import DAY, KeeperRegion
from fix_postgres import Database
from fix_regions import Events

from backupd.clock import SystemClock
from backupd.errors import UsageError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.restore import RestoreEnvironment
from backupd.operations.restore.region import RegionContents, find_databases
from backupd.planning import lifecycle
from backupd.planning.lifecycle import ClockDates
from backupd.repository.repository import Repository

LABELS = {"app": False, "hosted": True, "never": False}


@pytest.fixture
def crowd(keeper_region: KeeperRegion, pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Five tenants, backed up as one database of all, and as one that is a tenant's own."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL)",
        "INSERT INTO note SELECT g, g % 5 FROM generate_series(1, 100) g",
    )
    keeper_region.region.tenancy = Tenancy(
        kind=TenancyKind.COLUMN, column="tenant", classes=keeper_region.region.tenancy.classes
    )
    keeper_region.region.backup(database)
    own = Tenancy(
        kind=TenancyKind.DATABASE, database_pattern="(?P<tenant>.+)", classes=keeper_region.region.tenancy.classes
    )
    keeper_region.region.backup(database, label="hosted", tenancy=own)
    return database


def purge(keeper_region: KeeperRegion, tenant: str) -> None:
    now = keeper_region.clock.now()
    keeper_region.book.append(
        lambda states: lifecycle.erase(states, keeper_region.tenant(tenant), ClockDates(now, now + 3 * DAY, now))
    )
    keeper_region.purge(keeper_region.incarnation(tenant))


def find(keeper_region: KeeperRegion, wanted: str = "latest", labels: dict[str, bool] = LABELS) -> RegionContents:
    region = keeper_region.region
    repository = Repository(region.store, region.repository.signers, region.repository.keepers)
    return find_databases(
        wanted,
        labels,
        repository,
        RestoreEnvironment(region.identity.secret, SystemClock(), Events(), os.urandom, "disk"),
    )


def test_a_purged_tenant_is_in_no_file(keeper_region: KeeperRegion, crowd: Database, tmp_path: Path) -> None:
    """Its folder is not made, what is left out is said, and the manifest says that something is."""
    purge(keeper_region, "2")
    folder = tmp_path / "files"
    report = keeper_region.region.restore(crowd.server, "", folder=folder)
    assert (report.purged, report.rows) == (1, 80)
    names = json.loads((folder / "tenants.json").read_text())
    assert sorted(names.values()) == ["0", "1", "3", "4"]
    assert {path.name for path in folder.iterdir() if path.is_dir()} - {"shared"} == set(names)
    assert not json.loads((folder / "MANIFEST.json").read_text())["exact"]
    assert "Rows are left out" in (folder / "README.txt").read_text()


def test_a_region_is_what_it_was_at_a_time(keeper_region: KeeperRegion, crowd: Database) -> None:
    """The newest snapshot of each database then; one of which none is there is missing; one purged is neither."""
    both = find(keeper_region)
    assert [(found.label, found.member is not None, found.name) for found in both.databases] == [
        ("app", False, "app"),
        ("hosted", True, crowd.name),
    ]
    assert (both.missing, both.purged, both.faults) == (("never",), 0, ())
    then = datetime.now(UTC) + timedelta(seconds=1)
    keeper_region.region.backup(crowd)
    newer = find(keeper_region)
    assert newer.databases[0].snapshot >= both.databases[0].snapshot
    assert newer.databases[0].exported > both.databases[0].exported
    assert find(keeper_region, labels={"app": False}).databases == newer.databases[:1]
    purge(keeper_region, crowd.name)
    left = find(keeper_region)
    assert [found.label for found in left.databases] == ["app"]
    assert (left.missing, left.purged) == (("never",), 1)
    assert find(keeper_region, f"{then + timedelta(days=1):%Y-%m-%dT%H:%M}").databases == left.databases
    with pytest.raises(UsageError, match="fits"):
        find(keeper_region, "2020-01-01")
    with pytest.raises(UsageError, match="a snapshot is of one database"):
        find(keeper_region, left.databases[0].snapshot[:20])
