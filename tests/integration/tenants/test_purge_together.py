"""Tenants that are purged in one run: what they share is replaced once, and what stops one does not stop the others."""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from doubles.stores.faulty_store import FaultyStore
from fix_handmade_keeper import HandmadeKeeper, make_handmade_keeper, named, notes

from backupd.errors import BackupdError, DamageError
from backupd.model.ledger import Absent, Cleared, PurgeBegan, Shredded
from backupd.operations.keeper.purge import Purging, purge_due
from backupd.planning.incarnations import State


@pytest.fixture
def shared(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """Two backups of four tenants, whose sections share packs."""
    for day in (2, 1):
        handmade.backup(day, "ada", "bob", "cid", "dan")
    return handmade


def test_each_object_is_replaced_once(shared: HandmadeKeeper) -> None:
    """As many packs and keyrings as there are, each once; the figures of each tenant are its own."""
    before = shared.sections()
    for tenant in ("ada", "bob", "cid"):
        shared.erase(tenant)
    replaced: Counter[str] = Counter()
    shared.store.before = lambda method, name: replaced.update([name] * (method in ("replace", "recompose")))
    run = purge_due(shared.keeper)
    gone = {shared.pseudonym(tenant): tenant for tenant in ("ada", "bob", "cid")}
    assert shared.sections() == {key: data for key, data in before.items() if key[1] not in gone}
    packs = {pack for pack, segment, _ in before if segment in gone}
    assert replaced == dict.fromkeys([*packs, *shared.names("keyrings")], 1)
    assert not run.errors
    for done in run.done:
        tenant = next(name for name in gone.values() if shared.incarnation(name) == done.incarnation)
        own = {key: data for key, data in before.items() if key[1] == shared.pseudonym(tenant)}
        assert done.bytes == sum(map(len, own.values()))
        assert done.objects == len({pack for pack, _, _ in own})
        assert done.keyrings == len(shared.names("keyrings"))
        assert done.absent
    for kind in (PurgeBegan, Shredded, Cleared, Absent):
        assert {event.tenant for event in shared.events(kind)} == {shared.tenant(tenant) for tenant in gone.values()}


def test_a_pack_that_cannot_be_believed_stops_only_who_is_in_it(shared: HandmadeKeeper) -> None:
    """The others are cleared in the same run, and the error is told."""
    with shared.dated(0.5):
        shared.made.snapshot({named("eve"): notes("all of a pack")})
    own = {pack for pack, segment, _ in shared.sections() if segment == shared.pseudonym("eve")}
    path = shared.root / min(own)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes() + b"x")
    for tenant in ("bob", "eve"):
        shared.erase(tenant)
    run = purge_due(shared.keeper)
    assert isinstance(run.errors["disk"], DamageError)
    states = shared.keeper.book.states.incarnations
    assert states[shared.incarnation("bob")].state is State.CLEARED
    assert [done.incarnation for done in run.done] == [shared.incarnation("bob")]
    assert states[shared.incarnation("eve")].purge is not None
    assert not states[shared.incarnation("eve")].purge.cleared
    assert states[shared.incarnation("eve")].purge.shredded


def test_a_keyring_that_rots_stops_only_who_is_in_it(shared: HandmadeKeeper) -> None:
    """Behind the listing, which had believed it; the lines of the others go from their own keyrings."""
    with shared.dated(0.5):
        shared.made.snapshot({named("eve"): notes("a keyring of her own")})
    for tenant in ("bob", "eve"):
        shared.erase(tenant)
    newest = max(shared.names("keyrings"))
    with Purging(shared.keeper) as purging:
        path = shared.root / newest
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"be"', b'"ch"'))
        keys = [shared.incarnation("bob"), shared.incarnation("eve")]
        assert not purging.begin(keys).refused
        done = purging.advance(keys)
        assert isinstance(purging.errors["disk"], DamageError)
    assert [one.incarnation for one in done] == [shared.incarnation("bob")]
    (event,) = shared.events(Shredded)
    assert event.tenant == shared.tenant("bob")


def test_it_may_be_killed_at_every_step(tmp_path: Path) -> None:
    """Before or after the call: at each instant nobody else's section has changed, and the next run finishes both."""
    for at in count(1):
        (tmp_path / str(at)).mkdir()
        handmade = make_handmade_keeper(tmp_path / str(at))
        for day in (2, 1):
            handmade.backup(day, "ada", "bob", "cid")
        gone = {handmade.pseudonym(tenant) for tenant in ("bob", "cid")}
        for tenant in ("bob", "cid"):
            handmade.erase(tenant)
        before = handmade.sections()
        others = {key: data for key, data in before.items() if key[1] not in gone}
        faulty = FaultyStore(handmade.store.inner, at, after=at % 2 == 0)
        handmade.through(faulty)
        with suppress(BackupdError):
            handmade.keeper.book.sync()
            purge_due(handmade.keeper)
        left = handmade.sections()
        assert left == {key: data for key, data in before.items() if key in left}
        assert {key: left.get(key) for key in others} == others
        assert handmade.events(PurgeBegan) or left == before
        handmade.through(handmade.store)
        handmade.keeper.book.sync()
        for mark in handmade.names("runs"):
            handmade.age(mark, 1)
        assert not purge_due(handmade.keeper).errors
        assert handmade.sections() == others
        assert all(handmade.repository.keyring(ring).shredded == gone for ring in handmade.names("keyrings"))
        states = handmade.keeper.book.states.incarnations
        assert {states[handmade.incarnation(tenant)].state for tenant in ("bob", "cid")} == {State.CLEARED}
        shutil.rmtree(handmade.folder)
        if len(faulty.calls) < at:
            break
    assert at > 40


def test_the_store_is_asked_for_its_snapshots_once(shared: HandmadeKeeper) -> None:
    """However many are purged."""
    for tenant in ("ada", "bob", "cid", "dan"):
        shared.erase(tenant)
    asked: Counter[str] = Counter()
    shared.store.before = lambda method, _: asked.update([method])
    purge_due(shared.keeper)
    assert asked["snapshots"] == 2  # to look into them, and to note in the ledger which there are
