"""The lease on keeping a store: on every adapter, of several keepers one has it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from doubles.stores.objects import put
from fix_handmade_keeper import SeenEvents

from backupd.clock import SystemClock
from backupd.errors import BusyError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectName, RegionName, RepositoryId
from backupd.repository import moved_objects
from backupd.repository.lease import Claimant, Lease, hold_lease
from backupd.seal.documents import Signer
from backupd.store.base import put_document

SIGNER, STRANGER = Signer(os.urandom(32)), Signer(os.urandom(32))
REGION, REPOSITORY = RegionName("be"), RepositoryId("0" * 32)


def claimant(node="one", seconds=600, signer=SIGNER, **changes):
    trusted = frozenset({SIGNER.public})
    made = Claimant(REGION, REPOSITORY, node, signer, trusted, SystemClock(), os.urandom, timedelta(seconds=seconds))
    return replace(made, **changes)


def names(store):
    return sorted(info.name for info in store.list("leases"))


def test_one_has_it_and_then_the_other(store):
    """Who comes second is told who is at work; when the first ends, it is free at once. Old numbers are removed."""
    with hold_lease(store, claimant("one")) as lease:
        lease.require()
        with pytest.raises(BusyError, match="the keeper on one is at work"), hold_lease(store, claimant("two")):
            pass
    with hold_lease(store, claimant("two")) as lease:
        lease.require()
    assert names(store) == ["leases/0000000004.json"]


def test_one_that_died_is_replaced(store):
    """Its lease runs out by the store's clock; then it is lost for whoever had it."""
    dead = Lease(store, claimant("dead", seconds=2))
    dead.take()
    with pytest.raises(BusyError, match="the keeper on dead"):
        Lease(store, claimant("two")).take()
    threading.Event().wait(4)
    with hold_lease(store, claimant("two")) as lease:
        lease.require()
        with pytest.raises(BusyError, match="another keeper"):
            dead.renew()
    with pytest.raises(BusyError, match="ran out"):
        dead.require()


def test_what_is_no_lease_takes_no_place(store):
    """Somebody who may only add puts noise under the next numbers, or what a stranger signed: it is named, and goes."""
    seen = SeenEvents()
    stranger = STRANGER.sign(b'{"kind":"lease","format":2,"features":[]}', "lease")
    put_document(store, ObjectName("leases/0000000001.json"), b"noise")
    with hold_lease(store, claimant("one", trace=seen)) as lease:
        for data in (b"noise", stranger):
            number = lease._number + 1
            put_document(store, ObjectName(f"leases/{number:010d}.json"), data)
            lease.renew()
            lease.require()
            assert names(store) == [f"leases/{number:010d}.json"]
            with pytest.raises(BusyError, match="the keeper on one"):
                Lease(store, claimant("two")).take()
    told = [one.message for one in seen.seen]
    assert len(told) == 3
    assert "leases/0000000001.json" in told[0]


def test_it_is_renewed(store):
    """For as long as the work takes."""
    with hold_lease(store, claimant("one", seconds=3)) as lease:
        threading.Event().wait(5)
        lease.require()
        with pytest.raises(BusyError, match="the keeper on one"):
            Lease(store, claimant("two")).take()


def test_of_many_at_once_one_gets_it(store):
    """However they meet."""
    gate = threading.Barrier(6)

    def attempt(number):
        lease = Lease(store, claimant(f"node{number}"))
        gate.wait()
        try:
            lease.take()
        except BusyError:
            return 0
        lease.require()
        return 1

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(attempt, range(6))) == 1


@pytest.mark.parametrize("forge", ["a stranger's", "another region's", "another number's", "no document"])
def test_what_is_no_lease_holds_nobody_up(store, forge):
    """A writer may add objects; what it puts there is removed, and keeps no keeper out."""
    other = {
        "a stranger's": claimant("thief", signer=STRANGER),
        "another region's": claimant("thief", region=RegionName("ch")),
    }.get(forge)
    if other is not None:
        Lease(store, other)._put(86_400)
    else:
        Lease(store, claimant("thief"))._put(86_400)
        data = store.get("leases/0000000001.json") if forge == "another number's" else b"{}"
        put(store, "leases/0000000007.json", data)
        store.remove("leases/0000000001.json")
    with hold_lease(store, claimant("one")) as lease:
        lease.require()
        assert names(store) == ["leases/0000000001.json"]


def test_a_store_that_is_away_is_not_leased(store, monkeypatch):
    """The others are; whoever works on it all the same is told."""

    def gone(*_):
        raise StoreGoneError("the line is down")

    monkeypatch.setattr(store, "list", gone)
    with hold_lease(store, claimant()) as lease, pytest.raises(StoreGoneError, match="the line is down"):
        lease.require()
    monkeypatch.undo()
    assert names(store) == []


def test_a_clock_that_jumps_changes_nothing(store):
    """What time it is, is for the store to say; how long ago a renewal was, for the monotonic clock."""

    class Ahead(SystemClock):
        def now(self):
            return datetime.now(UTC) + timedelta(days=1)

    with hold_lease(store, claimant("one")), pytest.raises(BusyError):
        Lease(store, claimant("two", clock=Ahead())).take()


def test_what_cannot_be_copied_on_a_full_store_is_passed_over(store, monkeypatch):
    """A keeper of a full store has work to do: what somebody moved to a lease's number stays, and it takes the next."""

    def full(_store, name):
        raise StoreFullError(f"no room for {name}")

    monkeypatch.setattr(moved_objects, "_copy_aside", full)
    seen = SeenEvents()
    moved = [ObjectName(f"leases/{number:010d}.json") for number in (1, 9_999_999_998)]
    for name in moved:
        put_document(store, name, b"BKPDPACK of ours")
    with hold_lease(store, claimant("one", trace=seen)) as lease:
        lease.require()
        assert names(store) == [moved[0], "leases/0000000002.json", moved[1]]
        lease.renew()
    assert names(store) == [moved[0], "leases/0000000004.json", moved[1]]
    assert any("no room" in one.hint for one in seen.seen)
