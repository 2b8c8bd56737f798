"""A hold keeps one tenant restorable out of snapshots that expire, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from doubles.stores.hooked_store import HookedStore
from fix_offline_keeper import DAY, OfflineKeeper

from backupd.errors import StoreGoneError
from backupd.model.documents import REDUCED
from backupd.model.ids import SnapshotName
from backupd.planning import lifecycle


def hold(yard: OfflineKeeper, tenant: str) -> None:
    one = yard.keeper.tags.tenant_id(tenant)
    review = yard.clock.now() + 30 * DAY
    yard.keeper.book.append(lambda lives: lifecycle.hold(lives, one, "CASE-1", review))


def release(yard: OfflineKeeper, tenant: str) -> None:
    one = yard.keeper.tags.tenant_id(tenant)
    due = yard.clock.now() + DAY
    yard.keeper.book.append(lambda lives: lifecycle.release(lives, one, "CASE-1", due))


def reduced(yard: OfflineKeeper) -> list[SnapshotName]:
    return [name for name in yard.repository.snapshots() if REDUCED in yard.repository.record(name).extra]


def owners(yard: OfflineKeeper) -> set[str | None]:
    """Whose objects there are."""
    segments = {name.split("/")[2] for name in yard.files() if name.startswith("segments/")}
    return {yard.owners[segment].tenant for segment in segments}  # type: ignore[index]


def restorable(yard: OfflineKeeper, name: SnapshotName) -> set[str | None]:
    """Whose parts a record names, each of which is there and has its key."""
    record = yard.repository.record(name)
    keys = yard.repository.open_keys(yard.identity.secret, [record.generation])
    found = set()
    for segment, sha256, _ in record.parts:
        assert f"segments/{record.generation}/{segment}/{sha256}.part" in yard.files()
        found.add(keys[segment].name.tenant)
    return found


@pytest.fixture
def old(yard: OfflineKeeper) -> OfflineKeeper:
    """Two snapshots of generations that are over, and a new one."""
    yard.writer.generation_length = 5 * DAY
    yard.backup(30, "ada", "bob", "eve")
    yard.backup(20, "ada", "bob", "eve")
    yard.backup(1, "bob")
    return yard


def test_a_held_tenant_stays_and_everybody_else_goes(old: OfflineKeeper) -> None:
    """A smaller record takes the place of the one that expires: the tenant, and the structure it needs."""
    hold(old, "ada")
    assert old.expire().snapshots == 2
    assert owners(old) == {None, "ada", "bob"}
    assert [restorable(old, name) for name in reduced(old)] == [{None, "ada"}, {None, "ada"}]
    before = old.files()
    assert old.expire().objects == 0
    assert old.files() == before


def test_a_release_lets_it_go(old: OfflineKeeper) -> None:
    """As if it had never been held."""
    hold(old, "ada")
    old.expire()
    release(old, "ada")
    for name in old.files():
        old.age(name, days_ago=3)
    old.expire()
    assert reduced(old) == []
    assert owners(old) == {None, "bob"}
    assert len(old.repository.records()) == 1


def test_of_two_held_tenants_the_released_one_goes(old: OfflineKeeper) -> None:
    """What is kept for one is not kept longer because of the other."""
    hold(old, "ada")
    hold(old, "eve")
    old.expire()
    assert [restorable(old, name) for name in reduced(old)] == [{None, "ada", "eve"}] * 2
    release(old, "eve")
    old.expire()
    assert [restorable(old, name) for name in reduced(old)] == [{None, "ada"}] * 2
    assert owners(old) == {None, "ada", "bob"}


def test_a_run_that_died_behind_a_reduced_record_makes_no_second_one(old: OfflineKeeper) -> None:
    """It is found and counted on."""
    hold(old, "ada")
    plan = old.plan()
    store: HookedStore = old.store

    def die(method: str, name: str) -> None:
        if method == "remove" and name.startswith("snapshots/"):
            raise StoreGoneError("the line broke on purpose")

    store.before = die
    with pytest.raises(StoreGoneError):
        old.execute(plan)
    store.before = lambda *_: None
    made = reduced(old)
    assert len(made) == 2
    old.clock.by += timedelta(seconds=1)
    old.expire()
    assert reduced(old) == made
    assert owners(old) == {None, "ada", "bob"}


def test_snapshots_made_behind_the_hold_are_not_kept_by_it(yard: OfflineKeeper) -> None:
    """It keeps what there was when it was ordered."""
    yard.backup(30, "ada")
    hold(yard, "ada")
    lives = yard.keeper.book.states
    (since,) = {one.since for one in lives.holds.values()}
    assert yard.plan().reductions
    record = yard.repository.record(yard.repository.snapshots()[0])
    assert record.exported < since.isoformat()
