"""Records that lie about their time, or hold nothing, drive no true one out of what is kept."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from doubles.stores.faulty_store import FaultyStore
from fix_handmade_keeper import DAY, HandmadeKeeper

from backupd.errors import DamageError, RefusedError, StoreError, UsageError
from backupd.model import ledger
from backupd.model.documents import Record
from backupd.model.ids import SnapshotName
from backupd.model.ledger import ExpiryBegan, Verified
from backupd.model.text import stamp
from backupd.operations.expiry.false_records import remove_false
from backupd.operations.keeper import holds
from backupd.operations.keeper.holds import survey
from backupd.operations.verify import Scope, Tools, note_proven, verify
from backupd.planning.retention import RetentionPolicy
from backupd.planning.verify import Mismatch, parse_share
from backupd.repository import layout
from backupd.repository.repository import Repository, signed_record
from backupd.repository.state.checked import CheckedState

DAILY = RetentionPolicy(keep_within=timedelta(hours=1), daily=30, weekly=0, monthly=0, max_age=90 * DAY, keep_minimum=2)


@pytest.fixture
def daily(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """A keeper that keeps one snapshot of each day, and true ones of ten days."""
    handmade.ruled(retention=DAILY)
    return handmade


def _lie(
    handmade: HandmadeKeeper, true: SnapshotName, *, packs: bool, modified: datetime | None = None, number: int = 1
) -> SnapshotName:
    """A thief of the node's key signs a record of the last second of a true one's day: the last but `number`."""
    record: Record = handmade.made.repository.record(true)
    day = _day(true)
    changes = {"exported": stamp(day + DAY - timedelta(microseconds=number)), "packs": record.packs if packs else []}
    name, document = signed_record(msgspec.structs.replace(record, **changes), handmade.made.signer)
    path = handmade.root / layout.record_name(record.generation, name)
    path.write_bytes(document)
    if modified is not None:
        os.utime(path, (modified.timestamp(), modified.timestamp()))
    return name


def _day(name: SnapshotName) -> datetime:
    return datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=UTC)


def _verified(handmade: HandmadeKeeper) -> tuple[Mismatch, ...]:
    with CheckedState(handmade.folder / "checked.sqlite") as checked:
        tools = Tools(handmade.clock, handmade.folder, threads=1, store="disk", tags=handmade.keeper.tags)
        return verify(handmade.repository, checked, Scope(parse_share("all")), tools).findings


def _trues(handmade: HandmadeKeeper) -> list[SnapshotName]:
    names = []
    for days in range(11, 1, -1):
        names.append(handmade.backup(days, "ada"))
        handmade.made.start_generation()
    return names


@pytest.mark.parametrize("packs", [False, True], ids=["empty", "of true packs"])
def test_records_dated_back_drive_nothing_out(daily: HandmadeKeeper, packs: bool) -> None:
    """They are the newest of their days by what they say, and came when no run of then was left."""
    true = _trues(daily)
    lies = [_lie(daily, name, packs=packs) for name in true]
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert {name for name in true if decisions[name].keep} == set(true)
    for name in lies:
        assert not decisions[name].keep
        assert "came to the store later than any run would bring it" in decisions[name].reasons


def test_records_dated_ahead_drive_nothing_out_when_their_time_has_come(daily: HandmadeKeeper) -> None:
    """A thief leaves one for each day to come; he is shut out by then, and was there before it."""
    true = _trues(daily)
    for name in true:
        lie = _lie(daily, name, packs=True, modified=_day(name) - DAY)
        (reasons,) = [one.reasons for one in daily.plan().decisions if one.snapshot.name == lie]
        assert "was on the store before its own export" in reasons
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert {name for name, one in decisions.items() if one.keep} == set(true)


def test_a_keeper_whose_clock_was_behind_takes_no_record_for_one_of_the_future(daily: HandmadeKeeper) -> None:
    """Its expiry is refused, and what it took the time for is not remembered: the newest of a day stays its day's."""
    now = daily.clock.now()
    noon = datetime(now.year, now.month, now.day, 12, tzinfo=UTC) - 3 * DAY
    older, newer = (daily.backup((now - (noon + by)) / DAY, "ada") for by in (-DAY / 4, DAY / 4))
    daily.clock.by = noon - now
    with pytest.raises(RefusedError, match="the clock of store 'disk' says"):
        daily.expire()
    daily.clock.by = timedelta()
    daily.expire()
    assert daily.repository.snapshots() == [newer], older


def test_records_that_lie_about_no_time_drive_nothing_out(daily: HandmadeKeeper) -> None:
    """A thief adds one in the last second of each day, and a keeper proves them like the true ones. The writer's own
    next record follows the true one, so that two lines of records begin there.
    """
    true = _trues(daily)
    lies = [_lie(daily, name, packs=True, modified=_day(name) + DAY) for name in true]
    daily.keeper.book.append(lambda _: [Verified(store="disk", snapshots=[*true, *lies])])
    reasons = {one.snapshot.name: one.reasons for one in daily.plan().decisions}
    assert "a newer one stands in another line of records" in reasons[true[4]]
    for _ in range(2):
        daily.expire()
        assert {name for _, name in daily.repository.records()} >= set(true)


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "with a lost cache"])
def test_true_ones_alone_are_kept_as_if_there_were_no_lines(daily: HandmadeKeeper, remembered: bool) -> None:
    """Where snapshots of a chain expired, it is still one."""
    made = []
    for days in range(9, 2, -1):
        made += [daily.backup(days + part, "ada") for part in (0.2, 0.1, 0)]
    for count in (12, 8, 6):
        daily.ruled(retention=replace(DAILY, daily=count))
        daily.expire()
        if not remembered:
            daily.keeper.cache_path("disk").unlink()
    today = daily.clock.now().date()
    newest = {name[:8]: name for name in sorted(made) if (today - _day(name).date()).days < 6}
    assert {name for _, name in daily.repository.records()} == set(newest.values())


def test_who_sets_a_files_time_drives_nothing_out_that_a_keeper_looked_beside(daily: HandmadeKeeper) -> None:
    """What was not there at the keeper's last look came after it, whatever its store says."""
    true = _trues(daily)
    daily.expire()
    for name in true:
        _lie(daily, name, packs=True, modified=_day(name) + DAY)
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert {name for name in true if decisions[name].keep} == set(true)
    daily.expire()
    assert {name for _, name in daily.repository.records()} == set(true)


def test_an_empty_record_drives_nothing_out(daily: HandmadeKeeper) -> None:
    """It lies about no time; it holds nothing, so that it takes nobody's place."""
    true = daily.backup(1.3, "ada")
    lie = _lie(daily, true, packs=False, modified=_day(true) + DAY)
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert decisions[true].keep
    assert not decisions[lie].keep
    assert "names nothing" in decisions[lie].reasons


def test_a_proven_snapshot_stays_before_one_that_nobody_read(daily: HandmadeKeeper) -> None:
    """The newest of a day counts when nothing of it is proven, and today's newest stays in any case."""
    proven = daily.backup(3.2, "ada")
    false = _lie(daily, proven, packs=True, modified=_day(proven) + DAY)
    daily.keeper.book.append(lambda _: [Verified(store="disk", snapshots=[proven])])
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert decisions[proven].keep
    assert "a newer one stands in another line of records" not in decisions[proven].reasons
    assert "a newer one stands in another line of records" in decisions[false].reasons


def test_on_a_store_whose_times_are_all_new_the_rules_go_on(daily: HandmadeKeeper) -> None:
    """Somebody copied all files: then none is better than another, and of each day the newest stays."""
    first = daily.backup(3.5, "ada")
    for path in daily.root.rglob("*"):
        if path.is_file():
            os.utime(path)
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert decisions[first].keep


def test_a_false_record_is_removed_and_missed_by_nobody(daily: HandmadeKeeper) -> None:
    """Also where people removed it by hand, as they would: nothing holds them to it for ever."""
    true = daily.backup(0.3, "ada")
    lies = [_lie(daily, true, packs=True, modified=datetime.now(UTC), number=number) for number in (1, 2)]
    daily.keeper.book.append(lambda _: [Verified(store="disk", snapshots=[true, *lies])])
    daily.expire()
    _verified(daily)
    (daily.root / layout.record_name(daily.made.generation, lies[0])).unlink()
    with pytest.raises(DamageError, match=f"record '{lies[0]}' is gone"):
        daily.plan()
    with daily.census() as cache:
        assert remove_false(daily.keeper, "disk", lies, cache).objects == 1
    daily.expire()
    assert {name for _, name in daily.repository.records()} == {true}
    assert _verified(daily) == ()


def test_a_false_record_goes_under_a_right_clock_and_is_seen_to_be_gone(daily: HandmadeKeeper) -> None:
    """The ledger dates the removal, and a store that only says that it removed it is an error."""
    lie = _lie(daily, daily.backup(0.3, "ada"), packs=True)
    daily.clock.by = timedelta(minutes=6)
    with daily.census() as cache:
        with pytest.raises(RefusedError, match="clock of store 'disk'"):
            remove_false(daily.keeper, "disk", [lie], cache)
        assert daily.events(ExpiryBegan) == []
        daily.clock.by = timedelta()
        deaf = FaultyStore(daily.store)
        deaf.remove = lambda _name: None
        keeper = replace(
            daily.keeper, stores={"disk": Repository(deaf, daily.repository.signers, daily.repository.keepers)}
        )
        with pytest.raises(StoreError, match="was removed and is still listed"):
            remove_false(keeper, "disk", [lie], cache)


def test_a_name_that_nobody_ever_saw_is_no_false_record(daily: HandmadeKeeper) -> None:
    """A slip of the hand writes nothing into the ledger."""
    true = daily.backup(0.3, "ada")
    before = daily.keeper.book.chain.head
    with daily.census() as cache, pytest.raises(UsageError, match="has no snapshot"):
        remove_false(daily.keeper, "disk", [true, SnapshotName(f"{true[:-1]}x")], cache)
    assert daily.keeper.book.chain.head == before


def test_what_nobody_knows_of_a_record_takes_no_memory(daily: HandmadeKeeper) -> None:
    """A thief signs any number of records with a megabyte of his own each; a keeper holds all records at once."""
    true = daily.repository.record(daily.backup(0.3, "ada"))
    names = [f"20260101T{at // 60 % 24:02d}{at % 60:02d}00Z-{at:064x}" for at in range(900)]
    name, document = signed_record(
        msgspec.structs.replace(true, extra={"his": "x" * 900_000, "handed": ["junk", 7, *names]}), daily.made.signer
    )
    (daily.root / layout.record_name(true.generation, name)).write_bytes(document)
    seen = survey(daily.repository, 1).records[name]
    assert seen.extra.keys() == {"handed"}
    assert seen.follows == tuple(reversed(names[-200:]))


def test_ranges_without_end_are_named_before_memory_is_full(
    daily: HandmadeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief's records name hundreds of thousands of ranges; the largest is named, and goes by its name."""
    monkeypatch.setattr(holds, "_MOST_NUMBERS", 60_000)
    true = daily.backup(0.3, "ada")
    record = daily.repository.record(true)
    ranges = [number for first in range(0, 60_000, 2) for number in (first, 1)]
    name, document = signed_record(
        msgspec.structs.replace(record, packs=[(record.packs[0][0], ranges, [])]), daily.made.signer
    )
    (daily.root / layout.record_name(record.generation, name)).write_bytes(document)
    with pytest.raises(StoreError, match=f"than a keeper holds in memory; most has '{name}'"):
        daily.plan()
    with daily.census() as cache:
        assert remove_false(daily.keeper, "disk", [name], cache).objects == 1
    assert [one.snapshot.name for one in daily.plan().decisions] == [true]
    packed = survey(daily.repository, 1).records[true].packs
    assert all(one.itemsize == 8 for _, *both in packed for one in both)


def test_more_snapshots_than_an_entry_holds_are_named_in_several(
    daily: HandmadeKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many a thief makes, no entry becomes too large to be read, and an expiry comes to its end."""
    monkeypatch.setattr(ledger, "MOST_SNAPSHOTS", 2)
    names = [daily.backup(days, "ada") for days in (99, 98, 97, 96, 95)]
    assert note_proven(daily.keeper.book, "disk", names) == sorted(names)
    assert [len(event.snapshots) for event in daily.events(Verified)] == [2, 2, 1]
    assert note_proven(daily.keeper.book, "disk", names) == []
    daily.expire()
    assert [event.snapshots for event in daily.events(ExpiryBegan)] == [names[:2], names[2:4], names[4:]]
    assert [*daily.repository.records()] == []
