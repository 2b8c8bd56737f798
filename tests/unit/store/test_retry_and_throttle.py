"""Retrying and throttling, with a clock that stands still."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubles.stores.faulty_store import FaultyStore
from doubles.stores.objects import put, replace

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreAuthError, StoreError, StoreGoneError
from backupd.store.base import Kept
from backupd.store.retry import RetryingStore
from backupd.store.throttle import ThrottledStore, TokenBucket


class Failing(FaultyStore):
    """Fails the first `times` calls."""

    def __init__(self, inner, times, error=StoreGoneError):
        super().__init__(inner, error=lambda: error("the connection broke"))
        self.times = times

    def call(self, method, name, effect):
        self.fail_at = len(self.calls) + 1 if len(self.calls) < self.times else 0
        return super().call(method, name, effect)


@pytest.fixture
def retrying(directory_store, ticking_clock):
    def make(inner, patience=100.0):
        return RetryingStore(inner(directory_store), ticking_clock, patience, uniform=lambda _low, high: high)

    return make


def test_waits_grow_and_end(retrying, ticking_clock):
    """Back-off doubles from half a second to a minute, and the deadline is kept without one wait too many."""
    store = retrying(lambda inner: Failing(inner, 10**9), patience=200.0)
    with pytest.raises(StoreGoneError):
        store.stat("object")
    assert ticking_clock.sleeps == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert ticking_clock.elapsed <= 200


def test_jitter_is_at_most_half(directory_store, ticking_clock):
    """Waits lie between half and all of the back-off."""
    asked = []
    store = RetryingStore(
        Failing(directory_store, 3), ticking_clock, 100.0, uniform=lambda low, high: asked.append((low, high)) or low
    )
    store.stat("object")
    assert asked == [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0)]


@pytest.mark.parametrize("error", [StoreError, StoreAuthError, ObjectExistsError])
def test_other_errors_are_not_retried(retrying, ticking_clock, error):
    """Only a broken connection is tried again; a refused login never."""
    store = retrying(lambda inner: Failing(inner, 1, error))
    with pytest.raises(error):
        store.stat("object")
    assert ticking_clock.sleeps == []


def test_without_patience_nothing_is_retried(retrying, ticking_clock):
    """Patience 0 fails at once."""
    store = retrying(lambda inner: Failing(inner, 1), patience=0.0)
    with pytest.raises(StoreGoneError):
        store.stat("object")
    assert ticking_clock.sleeps == []


def test_a_store_that_stays_away_is_told_of_once(directory_store, ticking_clock):
    """Somebody hears of it before five seconds have passed, with the seconds that are left; the next time again."""
    told = []
    store = RetryingStore(
        Failing(directory_store, 8),
        ticking_clock,
        200.0,
        uniform=lambda _low, high: high,
        told=lambda error, left: told.append((error.message, left)),
    )
    store.stat("object")
    assert told == [("the connection broke", 200 - 0.5 - 1 - 2)]
    store.inner.times = len(store.inner.calls) + 3
    store.stat("object")
    assert len(told) == 1, "back within five seconds"
    store.inner.times = len(store.inner.calls) + 5
    store.stat("object")
    assert len(told) == 2


@pytest.mark.parametrize("after", [False, True])
def test_every_call_survives_one_fault(retrying, directory_store, after):
    """Whether its effect happened before the connection broke or not, each call of the port ends well."""

    def calls(store):
        put(store, "a/object", b"content")
        assert store.get("a/object", 1, 2) == b"on"
        assert store.stat("a/object").size == 7
        assert [info.name for info in store.list("")] == ["a/object"]
        assert store.space().free
        store.replace("a/object", io.BytesIO(b"other"), 5, hashlib.sha256(b"other").hexdigest())
        assert store.get("a/object") == b"other"
        store.recompose("a/object", [b"new ", Kept(1, 3)], 5)
        assert store.get("a/object") == b"new the"
        (shown,) = store.snapshots()
        view = store.view(shown)
        assert view.get("a/then") == b"then"
        assert view.stat("a/then").size == 4
        assert [info.name for info in view.list("")] == ["a/then"]
        store.remove("a/object")
        assert store.stat("a/object") is None

    then = directory_store.root.parent / ".zfs/snapshot/daily_2030-01-01/be/a/then"
    then.parent.mkdir(parents=True)
    then.write_bytes(b"then")
    for fail_at in range(1, 15):
        calls(retrying(lambda inner, k=fail_at: FaultyStore(inner, k, after=after)))
    assert [*directory_store.list("")] == []


def test_broken_listing_goes_on_without_repeating(retrying, directory_store):
    """A listing that breaks in the middle gives every name once."""
    for number in range(6):
        put(directory_store, f"a/{number}", b"x")

    class Breaking(FaultyStore):
        broke = 0

        def list(self, prefix):
            for place, info in enumerate(self.inner.list(prefix)):
                if place == 2 + self.broke and self.broke < 3:
                    self.broke += 1
                    raise StoreGoneError("the connection broke")
                yield info

    found = [info.name for info in retrying(Breaking).list("a")]
    assert sorted(found) == [f"a/{number}" for number in range(6)]


def test_object_replaced_between_two_pieces(directory_store, ticking_clock):
    """What is got through a limit in several pieces is of one content, the newer."""
    old, new = b"o" * 700_000, b"n" * 600_000
    put(directory_store, "object", old)

    class Replacing(FaultyStore):
        def get(self, *arguments):
            piece = super().get(*arguments)
            if self.calls.count("get") == 2:
                replace(self.inner, "object", new)
            return piece

    assert ThrottledStore(Replacing(directory_store), 1 << 30, ticking_clock).get("object") == new


@pytest.mark.parametrize(
    ("old", "new"), [(280_000, 260_000), (100_000, 200_000), (200_000, 100_000), (262_144, 300_000)]
)
def test_a_small_object_replaced_meanwhile_is_whole(directory_store, ticking_clock, old, new):
    """Also where it shrinks to the length of a piece, or grows after its size was looked at."""
    contents = [b"o" * old, b"n" * new]
    for first in ("stat", "get"):

        class Replacing(FaultyStore):
            def call(self, method, name, effect):
                done = super().call(method, name, effect)
                if method == self.first and self.times == 0:
                    self.times = 1
                    self.inner.replace(name, io.BytesIO(contents[1]), new, hashlib.sha256(contents[1]).hexdigest())
                return done

        store = Replacing(directory_store)
        store.first, store.times = first, 0
        put(directory_store, first, contents[0])
        assert ThrottledStore(store, 1 << 30, ticking_clock).get(first) in contents


def test_object_that_never_stands_still(directory_store, ticking_clock):
    """A store that tells another size at every look is given up."""

    class Growing(FaultyStore):
        def stat(self, name):
            info = super().stat(name)
            return dataclasses.replace(info, size=info.size + len(self.calls))

    put(directory_store, "object", b"o" * 700_000)
    with pytest.raises(StoreError, match="changed each time"):
        ThrottledStore(Growing(directory_store), 1 << 30, ticking_clock).get("object")


def test_rate_is_kept_over_threads(ticking_clock):
    """What all threads take together is the rate, after the burst."""
    bucket = TokenBucket(1000, ticking_clock, burst=500)
    for _ in range(30):
        bucket.take(100)
    assert ticking_clock.elapsed == pytest.approx(2.5)


def test_pause_earns_no_more_than_the_burst(ticking_clock):
    """An idle hour is not made up for."""
    bucket = TokenBucket(1000, ticking_clock, burst=500)
    ticking_clock.elapsed += 3600
    bucket.take(500)
    assert ticking_clock.sleeps == []
    bucket.take(100)
    assert ticking_clock.sleeps == [pytest.approx(0.1)]


def test_throttled_store_takes_its_time(directory_store, ticking_clock):
    """Uploads and downloads share one rate and change no byte."""
    store = ThrottledStore(directory_store, 1_000_000, ticking_clock)
    data = bytes(range(256)) * 8192
    put(store, "a/object", data)
    assert ticking_clock.elapsed == pytest.approx((len(data) - 256 * 1024) / 1e6, abs=0.3)
    before = ticking_clock.elapsed
    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(lambda _: store.get("a/object"), range(2))] == [data, data]
    assert ticking_clock.elapsed - before >= 2 * len(data) / 1e6 - 0.3
    assert store.get("a/object", 5, 10) == data[5:15]


def test_throttled_absence(directory_store, ticking_clock):
    """What is not there is missed as without the limit."""
    with pytest.raises(ObjectMissingError):
        ThrottledStore(directory_store, 1000, ticking_clock).get("none")
