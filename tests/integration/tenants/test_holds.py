"""A hold keeps one tenant restorable out of snapshots that expire, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest
from doubles.stores.holdings import stored_segments
from doubles.stores.hooked_store import HookedStore
from doubles.stores.small_repository import Content, facts
from fix_handmade_keeper import HandmadeKeeper, named, notes
from fix_offline_keeper import DAY, OfflineKeeper

from backupd.errors import DamageError, RefusedError, StoreGoneError
from backupd.model.documents import REDUCED
from backupd.model.ids import SnapshotName
from backupd.operations.expiry.false_records import remove_false
from backupd.planning import lifecycle
from backupd.repository.repository import signed_record
from backupd.repository.state.keyring_cache import KeyringCache


def hold(offline: OfflineKeeper, tenant: str) -> None:
    one = offline.keeper.tags.tenant_id(tenant)
    review = offline.clock.now() + 30 * DAY
    offline.keeper.book.append(lambda states: lifecycle.hold(states, one, "CASE-1", review))


def release(offline: OfflineKeeper, tenant: str) -> None:
    one = offline.keeper.tags.tenant_id(tenant)
    due = offline.clock.now() + DAY
    offline.keeper.book.append(lambda states: lifecycle.release(states, one, "CASE-1", due))


def reduced(offline: OfflineKeeper) -> list[SnapshotName]:
    return [name for name in offline.repository.snapshots() if REDUCED in offline.repository.record(name).extra]


def owners(offline: OfflineKeeper) -> set[str | None]:
    """Whose sections there are."""
    return {offline.owners[segment].tenant for segment in stored_segments(offline.repository)}


def restorable(offline: OfflineKeeper, name: SnapshotName) -> set[str | None]:
    """Whose sections a record names, each of which is there and has its key."""
    record = offline.repository.record(name)
    keys = offline.repository.open_keys(offline.identity.secret, [record.generation])
    found = offline.repository.sections(record)
    assert all(section.is_there for section in found.sections.values())
    assert {segment for segment, _ in found.sections} == found.manifests.keys()
    assert record.totals.stored == found.size
    return {keys.of(section.row).name.tenant for section in found.sections.values()}


@pytest.fixture
def old(offline: OfflineKeeper) -> OfflineKeeper:
    """Two snapshots of generations that are over, and a new one."""
    offline.writer.generation_length = 5 * DAY
    offline.backup(30, "ada", "bob", "eve")
    offline.backup(20, "ada", "bob", "eve")
    offline.backup(1, "bob")
    return offline


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


def test_what_is_held_is_not_called_false(old: OfflineKeeper) -> None:
    """A slip of the hand would destroy what the hold is for; what was made behind it, and others', may go."""
    first, second, third = old.repository.snapshots()
    hold(old, "ada")
    keeper = old.keeper
    with KeyringCache.opened(keeper.cache_path("disk"), keeper.repository, keeper.tags) as cache:
        before = old.files()
        for name in (first, second):
            with pytest.raises(RefusedError, match=f"snapshot '{name}' has something that a hold keeps"):
                remove_false(keeper, "disk", [third, name], cache)
        assert old.files() == before
        assert remove_false(keeper, "disk", [third], cache).objects == 1
        release(old, "ada")
        assert remove_false(keeper, "disk", [first], cache).objects == 1
    assert old.repository.snapshots() == [second]


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


def test_snapshots_made_behind_the_hold_are_not_kept_by_it(offline: OfflineKeeper) -> None:
    """It keeps what there was when it was ordered."""
    offline.backup(30, "ada")
    hold(offline, "ada")
    states = offline.keeper.book.states
    (since,) = {one.since for one in states.holds.values()}
    assert offline.plan().reductions
    record = offline.repository.record(offline.repository.snapshots()[0])
    assert record.exported < since.isoformat()


def test_a_node_cannot_say_what_a_hold_keeps(handmade: HandmadeKeeper) -> None:
    """Its false record of that names other sections of the same segments; the true ones would be needed by nobody."""
    held = handmade.backup(30, "ada", "bob")
    handmade.backup(1, "bob")
    ada = handmade.pseudonym("ada")
    true = {key for key in handmade.sections() if key[1] == ada}
    one, review = handmade.tenant("ada"), handmade.clock.now() + 30 * DAY
    handmade.keeper.book.append(lambda states: lifecycle.hold(states, one, "CASE-1", review))
    there = set(handmade.names("packs"))
    with handmade.dated(29):
        handmade.made.write({named(None, "structure"): Content(facts=facts()), named("ada"): notes("false")})
        packs = [handmade.open(name).header for name in handmade.names("packs") if name not in there]
        false = msgspec.structs.replace(
            handmade.repository.record(held),
            packs=sorted((pack.sha256, [0, len(pack.rows)], []) for pack in packs),
            extra={REDUCED: held},
        )
        name, document = signed_record(false, handmade.made.signer)
        handmade.repository.put_record(false, document)
    with pytest.raises(DamageError, match="not signed by a trusted signer"):
        handmade.repository.record(name)
    for _ in range(2):
        handmade.expire()
    assert true <= handmade.sections().keys()
