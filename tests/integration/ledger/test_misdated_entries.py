"""A ledger whose last entry is dated ahead: who sees it, how work goes on, and what its dates mean afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from doubles.stores.hooked_store import HookedStore
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_clock import ShiftedClock
from fix_offline_keeper import DAY
from fix_recover import Recover
from fix_regions import REGION

from backupd.errors import DamageError, RefusedError, StoreFullError, UsageError
from backupd.model.ids import DrillId, ObjectName, RepositoryId, TenantId
from backupd.model.ledger import Drilled, Event, Held, Misdated, Observed, PurgeBegan, Released, Unsubscribed
from backupd.model.tenancy import SegmentName
from backupd.model.text import compact, parse_stamp, stamp
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.ledger.redate import redate
from backupd.operations.status.ages import read_ledger
from backupd.planning.incarnations import IncarnationKey
from backupd.repository.ledger import Chain, next_document, put_entry, read_chain
from backupd.seal.documents import Signer
from backupd.seal.keyfiles import write_identity
from backupd.store.base import ObjectInfo, Store
from backupd.store.directory import DirectoryStore

SIGNER = Signer(bytes(range(32)))
TRUSTED = frozenset({SIGNER.public})
REPOSITORY = RepositoryId("ab" * 16)
EMPTY = Chain(REGION, REPOSITORY)
ACME = TenantId("cd" * 16)
AHEAD = 600 * DAY


def seen(word: str) -> Event:
    return Observed(store="disk", snapshots=[word])


class Ledger:
    """One store, and the keepers that append to its ledger."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, ShiftedClock()
        self.store = DirectoryStore(folder / "disk")

    def book(self, keeper: str = "one", **more: Store) -> Book:
        stores = {"disk": self.store, **more}
        copy = DirectoryStore(self.folder / keeper)
        book = Book(LedgerPlace(REGION, REPOSITORY, stores, copy, TRUSTED, self.clock, SIGNER))
        book.sync()
        return book

    def append_ahead(self, *events: Event, by: timedelta = AHEAD) -> str:
        """As a keeper did whose clock was wrong and that asked no store; the entry's date."""
        chain, number = read_chain(self.store, EMPTY, TRUSTED)
        at = stamp(self.clock.now() + by)
        put_entry(self.store, number + 1, next_document(chain, at, list(events or [seen("ahead")]), SIGNER))
        return at


class LateStore(HookedStore):
    """A store whose clock is a day ahead."""

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        info = super().stat(name)
        return replace(info, modified=info.modified + DAY) if info is not None else None


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """With one entry of today."""
    ledger = Ledger(tmp_path)
    ledger.book().append(lambda _: [seen("first")])
    return ledger


def test_nothing_is_appended_behind_it_and_the_entry_is_named(ledger: Ledger) -> None:
    """Until somebody decides: the message says which entry it is, and what to do."""
    at = ledger.append_ahead()
    with pytest.raises(RefusedError, match=f"entry 2 of the ledger is of {at}") as caught:
        ledger.book().append(lambda _: [seen("second")])
    assert "backupd ledger redate" in caught.value.hint


def test_work_goes_on_once_it_is_said(ledger: Ledger) -> None:
    """For this keeper, for another one, and for whoever reads the ledger for the first time; the order stays."""
    ledger.append_ahead()
    ledger.append_ahead()
    assert redate(ledger.book(), "OPS-7") == [2, 3]
    ledger.book("two").append(lambda _: [seen("second")])
    chain = ledger.book("three").sync(from_start=True)
    assert [entry.seq for entry in chain.entries()] == [1, 2, 3, 4, 5]
    dates = [entry.at for entry in chain.entries()]
    assert dates == sorted(dates)
    assert parse_stamp(dates[-1]) < ledger.clock.now() + DAY
    assert chain.links[1].entry.at > dates[-1]
    assert redate(ledger.book(), "OPS-8") == []


def test_a_ledger_that_is_right_is_left_alone(ledger: Ledger) -> None:
    """There is nothing to say, and the decision needs a reference as ever."""
    ledger.append_ahead(by=timedelta(minutes=1))
    assert redate(ledger.book(), "OPS-7") == []
    with pytest.raises(UsageError, match="reference"):
        redate(ledger.book(), "the clock was wrong")
    assert len(ledger.book().chain.links) == 2


def test_a_clock_that_is_behind_says_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """A machine whose own clock is wrong would call all entries misdated; one store that differs is too much."""
    ledger.append_ahead()
    ledger.clock.by = -DAY
    with pytest.raises(RefusedError, match="clock of store 'disk'"):
        redate(ledger.book(), "OPS-7")
    ledger.clock.by = timedelta()

    late = LateStore(DirectoryStore(tmp_path / "late"))
    with pytest.raises(RefusedError, match="clock of store 'late'"):
        redate(ledger.book(late=late), "OPS-7")
    assert len(ledger.book().chain.links) == 2


@pytest.mark.parametrize(
    "event",
    [Misdated(entries=[1], decision="x"), Misdated(entries=[9], decision="x"), Misdated(entries=[2], decision="x")],
    ids=["was right", "is not there", "is itself"],
)
def test_an_entry_that_was_not_ahead_cannot_be_called_so(ledger: Ledger, event: Misdated) -> None:
    """Or whoever holds a keeper's key could put the ledger's clock back at will."""
    with pytest.raises(DamageError, match="dated ahead"):
        ledger.book().append(lambda _: [event])
    assert len(ledger.book().chain.links) == 1


def test_an_entry_that_is_settled_later_leaves_the_corrections_in_force(ledger: Ledger) -> None:
    """No store took it at first; the process that puts it on the store goes on with the corrected dates."""
    ledger.append_ahead()
    redate(ledger.book(), "OPS-7")

    def before(method: str, name: str) -> None:
        if method == "put_new" and name.startswith("ledger/"):
            raise StoreFullError("no room")

    with pytest.raises(StoreFullError):
        ledger.book(disk=HookedStore(ledger.store, before=before)).append(lambda _: [seen("late")])
    book = ledger.book()
    assert len(book.chain.links) == 4
    assert (book.ahead, sorted(book.chain.misdated)) == ([], [2])
    dates = [entry.at for entry in book.chain.entries()]
    assert dates == sorted(dates)


def test_older_entries_are_refused_as_ever(ledger: Ledger) -> None:
    """Only what is said to be misdated may be followed by something older."""
    ledger.append_ahead()
    redate(ledger.book(), "OPS-7")
    ledger.append_ahead(by=-DAY)
    with pytest.raises(DamageError, match="older than the entry before it"):
        read_chain(ledger.store, EMPTY, TRUSTED)


def test_deadlines_are_read_on_the_safe_side(ledger: Ledger) -> None:
    """A tenant marked under the wrong clock: the deadline by the earliest, the purge by the latest possible day."""
    first = parse_stamp(ledger.book().chain.links[0].entry.at)
    since = ledger.clock.now() + AHEAD
    marked = Unsubscribed(
        tenant=ACME,
        incarnation=1,
        since=stamp(since),
        deadline=stamp(since + 180 * DAY),
        purge_by=stamp(since + 150 * DAY),
    )
    book = ledger.book("reader")
    ledger.append_ahead(marked)
    book.sync()
    assert book.states.current(ACME).clock.deadline > first + 700 * DAY
    redate(ledger.book(), "OPS-7")
    book.sync()
    said = parse_stamp(book.chain.links[-1].entry.at)
    clock = book.states.incarnations[IncarnationKey(ACME, 1)].clock
    assert (clock.since, clock.deadline, clock.purge_by) == (first, first + 180 * DAY, said + 150 * DAY)


def test_a_correction_that_is_itself_dated_ahead_is_corrected_with_what_it_corrected(ledger: Ledger) -> None:
    """Or what was done under the first wrong clock would count from a day that the second one made up."""
    due = ledger.clock.now() + AHEAD + 30 * DAY
    ledger.append_ahead(PurgeBegan(tenant=ACME, incarnation=1, segments=[], stores=["disk"]))
    ledger.append_ahead(Held(tenant=ACME, hold="H-1", review=stamp(due)), by=AHEAD)
    ledger.append_ahead(Misdated(entries=[2, 3], decision="OPS-7"), by=400 * DAY)
    assert redate(ledger.book(), "OPS-8") == [4]
    book = ledger.book()
    said = parse_stamp(book.chain.links[-1].entry.at)
    assert book.states.current(ACME).purge.began == said
    assert book.states.holds[ACME, "H-1"].since == said
    assert [entry.at for entry in book.chain.entries(1)] == [stamp(said)] * 4


def test_no_deadline_counts_from_a_date_that_proved_wrong_later(ledger: Ledger) -> None:
    """The entry before was believed when the later one was corrected, and is corrected after it."""
    first = parse_stamp(ledger.book().chain.links[0].entry.at)
    since = ledger.clock.now() + AHEAD
    ledger.append_ahead(by=300 * DAY)
    ledger.append_ahead(
        Unsubscribed(
            tenant=ACME,
            incarnation=1,
            since=stamp(since),
            deadline=stamp(since + 180 * DAY),
            purge_by=stamp(since + 150 * DAY),
        )
    )
    ledger.append_ahead(Misdated(entries=[3], decision="OPS-7"), by=400 * DAY)
    assert redate(ledger.book(), "OPS-8") == [2, 4]
    book = ledger.book()
    said = parse_stamp(book.chain.links[-1].entry.at)
    clock = book.states.incarnations[IncarnationKey(ACME, 1)].clock
    assert (clock.since, clock.deadline, clock.purge_by) == (first, first + 180 * DAY, said + 150 * DAY)


def test_dates_that_were_given_stay(ledger: Ledger) -> None:
    """Who left on a day of the past, by the application's word, left on that day."""
    day = ledger.clock.now() - 3 * DAY
    marked = Unsubscribed(
        tenant=ACME, incarnation=1, since=stamp(day), deadline=stamp(day + 180 * DAY), purge_by=stamp(day + 150 * DAY)
    )
    ledger.append_ahead(marked)
    redate(ledger.book(), "OPS-7")
    clock = ledger.book().states.current(ACME).clock
    assert (clock.since, clock.deadline, clock.purge_by) == (day, day + 180 * DAY, day + 150 * DAY)


def test_what_was_done_counts_from_the_correction(ledger: Ledger) -> None:
    """A purge, a hold and its release happened at the latest when they were corrected; what remains ends earlier."""
    first = parse_stamp(ledger.book().chain.links[0].entry.at)
    due = ledger.clock.now() + AHEAD + 30 * DAY
    held = Held(tenant=ACME, hold="H-1", review=stamp(due))
    released = Released(tenant=ACME, hold="H-1", due=stamp(due))
    at = ledger.append_ahead(held, released, PurgeBegan(tenant=ACME, incarnation=1, segments=[], stores=["disk"]))
    redate(ledger.book(), "OPS-7")
    states, said = ledger.book().states, parse_stamp(ledger.book().chain.links[-1].entry.at)
    assert states.current(ACME).purge.began == said
    hold = states.holds[ACME, "H-1"]
    assert (hold.since, hold.released, hold.due) == (said, said, due - (parse_stamp(at) - first))


def test_a_drill_that_is_dated_ahead_proves_nothing(ledger: Ledger) -> None:
    """Otherwise no alarm would ask for a drill for two years."""
    began = ledger.clock.now() + AHEAD
    drill = DrillId(f"{compact(began)}-00000001")
    ledger.append_ahead(Drilled(drill=drill, report="ab" * 32, verdict="pass"))
    redate(ledger.book(), "OPS-7")
    seen_by_status = read_ledger(ledger.book().chain.entries())
    assert (seen_by_status.drilled, seen_by_status.proven, seen_by_status.drills) == (None, None, [])


def test_the_stand_alone_script_follows_it(directory_store: DirectoryStore, tmp_path: Path, recover: Recover) -> None:
    """And refuses an older entry that nothing excuses."""
    small = SmallRepository(directory_store)
    rows = Rows("public", "note", ("id", "text"), (b"1\tword\n",))
    small.snapshot({SegmentName("app", "uploaded", None): Content((rows,), facts=facts())})
    write_identity(tmp_path / "id", "ops", small.identity, "pass")
    (tmp_path / "pass").write_text("pass\n")
    key = "--identity", tmp_path / "id", "--passphrase-file", tmp_path / "pass"
    now = parse_stamp(stamp(ShiftedClock().now()))

    def tell(at: str, *events: Event) -> None:
        small.chain = small.chain.extended(
            next_document(small.chain, at, list(events), small.signer), {small.signer.public}
        )
        put_entry(small.store, len(small.chain.links), small.chain.links[-1].data)

    tell(stamp(now), seen("a"))
    tell(stamp(now + AHEAD), seen("b"))
    tell(stamp(now + DAY), Misdated(entries=[2], decision="OPS-7"))
    tell(stamp(now + 2 * DAY), seen("c"))
    done = recover(directory_store.root, *key, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    body = next_document(small.chain, stamp(now + DAY), [seen("d")], small.signer)
    put_entry(small.store, 5, body)
    done = recover(directory_store.root, *key, "--out", tmp_path / "again")
    assert (done.returncode, "older than the entry before it" in done.stderr) == (7, True)
