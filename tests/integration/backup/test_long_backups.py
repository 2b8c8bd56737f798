"""Backups that take longer than keepers wait for: they end by themselves, and no record names what may be gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from doubles.stores.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.clock import SystemClock
from backupd.errors import BusyError, DamageError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.repository.repository import Repository

ROWS = 500


@dataclass
class JumpingClock(SystemClock):
    """A clock that goes on by itself, and is set forward by a test: both of its hands, or one."""

    wall: timedelta = timedelta(0)
    ticks: timedelta = timedelta(0)
    machine: SystemClock = field(default_factory=SystemClock)

    def now(self) -> datetime:
        return self.machine.now() + self.wall

    def monotonic(self) -> float:
        return self.machine.monotonic() + self.ticks.total_seconds()


@pytest.fixture
def clock(region: Region) -> JumpingClock:
    made = JumpingClock()
    region.node = replace(region.node, clock=made)
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
    return made


@pytest.fixture
def database(pg17: Server, make_database: Callable[..., Database]) -> Database:
    made = make_database(pg17)
    made.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        f"INSERT INTO note SELECT g, g % 4, md5(g::text) FROM generate_series(1, {ROWS}) g",
    )
    return made


def at_first_pack(region: Region, act: Callable[[str], None]) -> None:
    """Have something done once a pack of the run is on the store."""
    seen: list[str] = []

    def after(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("packs/") and not seen:
            seen.append(name)
            act(name)

    region.repository = Repository(HookedStore(region.store, after=after), [region.node.signer.public])


@pytest.mark.parametrize("hand", ["wall", "ticks"])
def test_a_run_that_keepers_take_for_killed_gets_no_record(
    region: Region, clock: JumpingClock, database: Database, hand: str
) -> None:
    """After a day less half an hour by either clock; the next run goes on from what it published."""
    at_first_pack(region, lambda _: setattr(clock, hand, timedelta(hours=23, minutes=31)))
    with pytest.raises(BusyError, match="longer than 24 hours"):
        region.backup(database)
    assert region.repository.snapshots() == []
    setattr(clock, hand, timedelta(0))
    region.repository = Repository(region.store, [region.node.signer.public])
    report = region.backup(database)
    assert report.new == 0
    found = look(region.repository, report.snapshot, region.identity.secret)
    assert sum(map(len, found.rows("public.note").values())) == ROWS


def test_a_long_run_looks_at_all_that_it_relies_on_again(
    region: Region, clock: JumpingClock, database: Database
) -> None:
    """Also at what it published itself: that may be gone before its record is out."""

    def lose(name: str) -> None:
        clock.ticks = timedelta(hours=2)
        (region.folder / "store" / "be" / name).unlink()

    at_first_pack(region, lose)
    with pytest.raises(DamageError, match="the store lacks"):
        region.backup(database)
    assert region.repository.snapshots() == []
    clock.ticks = timedelta(0)
    region.repository = Repository(region.store, [region.node.signer.public])
    found = look(region.repository, region.backup(database).snapshot, region.identity.secret)
    assert sum(map(len, found.rows("public.note").values())) == ROWS
