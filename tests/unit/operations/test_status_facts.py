"""Facts of a region are what its stores and its ledger say, and cost little to read."""

from __future__ import annotations

import os
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.small_repository import START, SmallRepository

from backupd.errors import StoreGoneError
from backupd.model.ids import DrillId, ObjectName, RegionName, TenantId
from backupd.model.ledger import Drilled, ErasureRequested, Expired, Held, Observed, Restored, Unsubscribed, Verified
from backupd.model.status import AlarmCode, Promises, RegionFacts, ServerChange
from backupd.model.text import parse_stamp, stamp
from backupd.operations.ledger import Book
from backupd.operations.ledger import LedgerPlace as BookPlace
from backupd.operations.status import StatusRequest, StorePlace, book_of, region_facts, unreached
from backupd.planning.alarms import Watch, judge
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.store.directory import DirectoryStore

DAY = timedelta(days=1)
NOW = START + 30 * DAY
LEDGER_BEHIND = AlarmCode.LEDGER_BEHIND
DRILL = DrillId("20291230T040000Z-0badcafe")


class CountingStore(DirectoryStore):
    """Counts what is asked of it, and the bytes it answers; `away`, it answers nothing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: Counter[str] = Counter()
        self.received = 0
        self.away = False

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        self._count(f"get {name.split('/')[0]}")
        data = super().get(name, offset, length)
        self.received += len(data)
        return data

    def list(self, prefix: ObjectName) -> Any:
        self._count(f"list {prefix}")
        return super().list(prefix)

    def space(self) -> Any:
        self._count("space")
        return super().space()

    def _count(self, what: str) -> None:
        if self.away:
            raise StoreGoneError("the store is away")
        self.calls[what] += 1


class Watched:
    """A region with one store or two, and a machine that looks at it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "zurich").mkdir()
        self.store = CountingStore(folder / "zurich" / "be")
        self.small = SmallRepository(self.store)
        self.stores = {"zurich": self.store}
        self.labels = ["app"]

    def look(self, **changes: Any) -> RegionFacts:
        signers = frozenset({self.small.signer.public})
        places = [
            StorePlace(name, Repository(store, signers), store, self.folder / "state" / name)
            for name, store in self.stores.items()
        ]
        copy = DirectoryStore(self.folder / "copy")
        book = Book(BookPlace(RegionName("be"), self.small.info.repository, dict(self.stores), copy, signers, None))
        book.sync()
        said = {
            "promises": Promises(rpo=3600, repair_slack=7 * 86400),
            "store_snapshots": 8 * DAY,
            "vanishing": 11 * DAY,
            "now": NOW,
            "random": os.urandom,
        }
        return region_facts(book, places, StatusRequest(RegionName("be"), self.labels, **{**said, **changes}))

    def alarms(self) -> dict[AlarmCode, str]:
        """What `status` tells of the region, by code."""
        return {alarm.code: alarm.message for alarm in judge(self.look(), Watch(NOW, DAY))}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_three_ages_are_never_mixed(watched: Watched) -> None:
    """Each names its own snapshot and instant; what was verified on another store is not verified on this one."""
    first, second, third = (watched.small.snapshot({}) for _ in range(3))
    other = watched.small.snapshot({}, label="other")
    watched.small.tell(Verified(store="zurich", snapshots=[first, second]), Verified(store="cellar", snapshots=[third]))
    watched.small.tell(Restored(snapshot=first, purpose="asked"))
    app, rest = watched.look().stores[0].databases
    assert (app.published_snapshot, app.verified_snapshot, app.restored_snapshot) == (third, second, first)
    assert app.published == parse_stamp(watched.small.repository.record(third).exported)
    assert (app.published, app.verified, app.restored) == tuple(START + timedelta(minutes=n) for n in (3, 2, 1))
    assert app.verified_at == app.restored_at == START + timedelta(minutes=4)
    assert app.recent == tuple(START + timedelta(minutes=n) for n in (1, 2, 3))
    assert (rest.label, rest.published_snapshot, rest.verified, rest.restored) == ("other", other, None, None)


def test_a_database_without_snapshots_is_told(watched: Watched) -> None:
    """Who never backed up is not left out."""
    watched.labels = ["app", "new"]
    watched.small.snapshot({})
    told = {one.label: one.published for one in watched.look().stores[0].databases}
    assert told == {"app": START + timedelta(minutes=1), "new": None}


def test_a_record_that_cannot_be_believed_counts_for_nothing(watched: Watched) -> None:
    """Also when it was believed before: what is named is read again each time."""
    first, second = watched.small.snapshot({}), watched.small.snapshot({})
    assert watched.look().stores[0].databases[0].published_snapshot == second
    (path,) = watched.store.root.rglob(f"*{second}*")
    path.write_bytes(path.read_bytes().replace(b'"app"', b'"apq"'))
    assert watched.look().stores[0].databases[0].published_snapshot == first


def test_an_entry_that_is_dated_ahead_is_named(watched: Watched) -> None:
    """Until somebody has said so: its number, and no alarm for clocks that differ a little."""
    small = watched.small
    small.tell(Observed(store="zurich", snapshots=[]))
    assert watched.look().ledger_ahead is None
    assert watched.look(now=START - 3 * DAY / 1440).ledger_ahead is None
    assert watched.look(now=START - 6 * DAY / 1440).ledger_ahead == 1
    assert watched.look(now=START - DAY).ledger_ahead == 1


def test_drills_and_runs_of_the_keeper(watched: Watched) -> None:
    """Read back from the ledger: the newest drill, the newest that passed, what it restored, and when which store was
    kept, cleaned and verified."""
    one = watched.small.snapshot({})
    head = "ab" * 32
    watched.small.tell(Drilled(drill=DRILL, report=head, verdict="pass", snapshot=one))
    watched.small.tell(Drilled(drill=DrillId("20291231T040000Z-0badcafe"), report=head, verdict="fail", snapshot=one))
    watched.small.tell(Observed(store="zurich", snapshots=["daily_2030-01-01"]))
    watched.small.tell(
        Expired(store="zurich", snapshots=0, objects=0, bytes=0), Verified(store="zurich", snapshots=[one])
    )
    facts = watched.look()
    (zurich,) = facts.stores
    assert (facts.proven, facts.drilled) == (START - 2 * DAY + 4 * DAY / 24, START - DAY + 4 * DAY / 24)
    assert [drill.verdict for drill in facts.drills] == ["pass", "fail"]
    assert zurich.databases[0].restored_snapshot == one
    assert zurich.kept == zurich.expired == zurich.verifications[0] == START + timedelta(minutes=1)
    assert (zurich.ledger_entries, facts.ledger.seq if facts.ledger else None) == (4, 4)


def test_deadlines_without_names(watched: Watched) -> None:
    """The nearest that nothing keeps; held incarnations are counted apart."""
    for number, days in ((1, 40), (2, 90), (3, 20)):
        watched.small.tell(
            Unsubscribed(
                tenant=TenantId(f"{number:032x}"),
                incarnation=1,
                since=stamp(START),
                deadline=stamp(START + days * DAY),
                purge_by=stamp(START + (days - 18) * DAY),
            )
        )
    watched.small.tell(Held(tenant=TenantId(f"{3:032x}"), hold="CASE-7", review=stamp(NOW)))
    facts = watched.look()
    assert (facts.leaving, facts.held, facts.next_deadline) == (3, 1, START + 40 * DAY)
    # The purge 18 days before, and 11 until all is gone: no more than 7 are left for repairs.
    assert facts.endangered == START + 33 * DAY
    assert [(day.deadline, day.incarnations) for day in facts.deadlines] == [
        (START + 40 * DAY, 1),
        (START + 90 * DAY, 1),
    ]
    assert [late["overdue"] for late in facts.late] == ["not purged"]


def test_an_erasure_on_request_is_in_danger_at_its_deadline(watched: Watched) -> None:
    """Its dates leave no time for repairs, so that less than that is left is as planned."""
    watched.small.tell(
        ErasureRequested(
            tenant=TenantId(f"{1:032x}"),
            incarnation=1,
            since=stamp(NOW),
            deadline=stamp(NOW + 14 * DAY),
            purge_by=stamp(NOW + 3 * DAY),
        )
    )
    facts = watched.look()
    assert (facts.next_deadline, facts.endangered) == (NOW + 14 * DAY, NOW + 14 * DAY)


def test_a_purge_is_not_late_before_the_keeper_had_its_time_to_come(watched: Watched) -> None:
    """What became due since the keeper's last run waits for the next one, and is late only when that is."""
    watched.small.tell(
        Unsubscribed(
            tenant=TenantId(f"{1:032x}"),
            incarnation=1,
            since=stamp(START),
            deadline=stamp(NOW + 20 * DAY),
            purge_by=stamp(NOW - DAY),
        )
    )

    assert watched.look(promises=Promises(expiry_gap=2 * 86_400)).late == ()
    late = watched.look(promises=Promises(expiry_gap=86_399)).late
    assert [one["overdue"] for one in late] == ["not purged"]


def test_a_store_that_is_away_stops_nothing(watched: Watched) -> None:
    """It is told with its error, and the others with their facts."""
    watched.small.snapshot({})
    (watched.folder / "cellar").mkdir()
    watched.stores["cellar"] = CountingStore(watched.folder / "cellar" / "be")
    watched.stores["cellar"].away = True
    zurich, cellar = watched.look().stores
    assert zurich.databases[0].published
    assert cellar.error is not None
    assert (cellar.error.kind, cellar.error.retryable, cellar.databases) == ("StoreGone", True, ())


def test_a_store_that_lacks_the_ledgers_end_is_told(watched: Watched) -> None:
    """Also where it is the only one: this machine's own copy knows of the end."""
    for _ in range(3):
        watched.small.tell(Observed(store="zurich", snapshots=[]))
    assert LEDGER_BEHIND not in watched.alarms()
    for number in (3, 2):
        watched.store.remove(layout.entry_name(number))
    assert watched.alarms()[LEDGER_BEHIND] == "the ledger on 'zurich' lacks 2 entries"


def test_deadlines_are_known_without_any_store(watched: Watched) -> None:
    """From this machine's own copy of the ledger; without one that can be believed nothing is said."""
    watched.small.tell(
        Unsubscribed(
            tenant=TenantId("ab" * 16),
            incarnation=1,
            since=stamp(START),
            deadline=stamp(START + 40 * DAY),
            purge_by=stamp(START + 22 * DAY),
        )
    )
    watched.look()
    copy, signers = DirectoryStore(watched.folder / "copy"), {watched.small.signer.public}
    request = StatusRequest(RegionName("be"), ["app"], Promises(), 8 * DAY, 11 * DAY, NOW, os.urandom)
    gone = StoreGoneError("the store is away")
    known = unreached({"zurich": gone}, request, book_of(copy, RegionName("be"), signers, None))
    assert (known.next_deadline, known.leaving, known.ledger.seq if known.ledger else None) == (START + 40 * DAY, 1, 1)
    assert known.stores[0].error is not None
    for folder, believed in ((watched.folder / "none", signers), (watched.folder / "copy", {"ab" * 32})):
        assert book_of(DirectoryStore(folder), RegionName("be"), believed, None) is None
    assert unreached({"zurich": gone}, request, None).ledger is None


def test_what_a_store_can_do_is_compared(watched: Watched) -> None:
    """What was there at the founding and is not now is a change for the worse; trying is done once a day."""
    info = watched.small.info
    for profile, expected in (
        ({"statvfs": True, "snapshots": None, "append_only": False}, []),
        ({"statvfs": True, "snapshots": ".zfs/snapshot", "append_only": True}, [("snapshots", True)]),
    ):
        watched.small.info = info
        founded = info.__class__(
            **{**{name: getattr(info, name) for name in info.__struct_fields__}, "profile": profile}
        )
        watched.store.remove(ObjectName("repository.json"))
        watched.small.repository.put_info(founded, watched.small.signer)
        (zurich,) = watched.look().stores
        assert [(change.what, change.worse) for change in zurich.changes] == expected
    assert (zurich.append_only, zurich.mode, zurich.probed) == (True, "append-only", None)
    (zurich,) = watched.look(probe=True).stores
    assert {change.what for change in zurich.changes} == {"snapshots", "append_only"}
    assert (zurich.append_only, zurich.mode, zurich.probed) == (False, "plain", NOW)
    assert watched.look(probe=True, now=NOW + DAY / 2).stores[0].probed == NOW
    assert watched.look(now=NOW + 2 * DAY).stores[0].probed == NOW
    assert watched.look(probe=True, now=NOW + DAY).stores[0].probed == NOW + DAY


def test_the_stores_own_snapshots(watched: Watched) -> None:
    """Their number is compared with what keepers saw, their age with what is configured."""
    folder = watched.folder / "zurich" / ".zfs" / "snapshot"
    for day in (20, 21):
        (folder / f"daily_2030-01-{day}").mkdir(parents=True)
    for _ in range(3):
        watched.small.tell(Observed(store="zurich", snapshots=[f"daily_{n}" for n in range(7)]))
    (zurich,) = watched.look(now=START + 28 * DAY).stores
    assert zurich.server_oldest == START + 19 * DAY
    assert zurich.server_changes == (ServerChange.FEWER, ServerChange.LONGER)


def test_what_a_look_costs(watched: Watched) -> None:
    """However many snapshots there are: two small objects, two listings and the records it names, once each."""
    names = [watched.small.snapshot({}) for _ in range(60)]
    watched.small.tell(Verified(store="zurich", snapshots=names[:50]), Restored(snapshot=names[3], purpose="asked"))
    sizes = [path.stat().st_size for path in watched.store.root.rglob("snapshots/**/*") if path.is_file()]
    watched.look()
    assert 3 <= watched.store.calls["get snapshots"] <= 3 + 32
    for _ in range(2):
        watched.store.calls.clear()
        watched.store.received = 0
        watched.look()
    assert watched.store.calls["get snapshots"] == 3
    assert sum(watched.store.calls.values()) <= 10
    assert watched.store.received <= 3 * max(sizes) + 6000
    known = watched.look()
    for path in (watched.folder / "state").rglob("*.json"):
        path.unlink()
    again = watched.look().stores[0].databases[0]
    assert again.published_snapshot == known.stores[0].databases[0].published_snapshot
    assert again.restored_snapshot == names[3]
    (watched.folder / "state" / "zurich" / "labels.json").write_text("{damaged")
    assert watched.look().stores[0].databases[0].verified_snapshot == names[49]
