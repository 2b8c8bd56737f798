"""Nothing enters the ledger under a clock that is wrong: what is dated ahead stands in the way of all that follows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from doubles.samples.budgets import HALF_A_YEAR
from doubles.stores.hooked_store import HookedStore
from fix_clock import ShiftedClock
from fix_offline_keeper import DAY, make_offline_keeper
from fix_regions import REGION

from backupd.errors import RefusedError, StoreFullError, StoreGoneError
from backupd.model.ids import RepositoryId
from backupd.model.ledger import Observed
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.tenants.changes import TenantDesk, unsubscribe
from backupd.seal.documents import Signer
from backupd.store.directory import DirectoryStore

SIGNER = Signer(bytes(range(32)))


def careful(offline):
    """The ledger of the offline keeper, asking stores for the time, as the command line opens it."""
    place = replace(offline.keeper.book._place, tolerance=timedelta(minutes=5))
    return Book(place)


def test_a_clock_that_is_ahead_appends_nothing(offline):
    """No tenant is marked in the future, and the ledger takes the right time afterwards."""
    book = careful(offline)
    desk = TenantDesk(book, offline.clock, HALF_A_YEAR, DAY, frozenset())
    offline.clock.by = timedelta(hours=1)
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        unsubscribe(desk, offline.keeper.tags.tenant_id("acme"))
    assert not any(name.startswith("ledger/") for name in offline.files())
    offline.clock.by = timedelta(minutes=4)
    assert unsubscribe(desk, offline.keeper.tags.tenant_id("acme")).events
    assert not any(name.startswith("tmp/") for name in offline.files())


def test_no_entry_is_appended_without_a_comparison(tmp_path):
    """By whatever opened the ledger, and where no store can be asked: not even this machine's own copy gets it."""
    store = HookedStore(DirectoryStore(tmp_path / "disk"))
    trusted = frozenset({SIGNER.public})
    copy, clock = DirectoryStore(tmp_path / "copy"), ShiftedClock(timedelta(hours=1))
    book = Book(LedgerPlace(REGION, RepositoryId("ab" * 16), {"disk": store}, copy, trusted, clock, SIGNER))
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        book.append(lambda _: [Observed(store="disk", snapshots=[])])
    clock.by = timedelta()

    def gone(method, name):
        if method == "put_new":
            raise error("no")

    store.before = gone
    for error in (StoreGoneError, StoreFullError):
        with pytest.raises(error):
            book.append(lambda _: [Observed(store="disk", snapshots=[])])
        book.sync()
    assert [*copy.list("")] == [*store.list("ledger")] == []


def test_a_clock_that_is_set_meanwhile_is_noticed(offline):
    """Stores are asked now and then, and again when this clock ran otherwise than it should."""
    book = careful(offline)
    book.append(lambda _: [Observed(store="disk", snapshots=[])])
    asked = len(offline.store.put)
    book.append(lambda _: [Observed(store="disk", snapshots=["a"])])
    assert len(offline.store.put) == asked + 1
    monotonic = offline.clock.monotonic()
    offline.clock.monotonic = lambda: monotonic
    offline.clock.by = DAY
    with pytest.raises(RefusedError, match="clock of store"):
        book.append(lambda _: [Observed(store="disk", snapshots=["b"])])


def test_one_store_that_agrees_is_enough(tmp_path):
    """A store whose clock is wrong, or that is away, must not keep everybody's ledger from going on."""
    away = HookedStore(DirectoryStore(tmp_path / "away"))
    offline = make_offline_keeper(tmp_path, away=away)
    book = careful(offline)

    def gone(*_):
        raise StoreGoneError("away")

    away.before = gone
    book.append(lambda _: [Observed(store="disk", snapshots=[])])
    assert len(book.chain.links) == 1
    assert "away" in book.unreached
