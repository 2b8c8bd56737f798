"""Records that lie about their time, or hold nothing, drive no true one out of what is kept."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from fix_handmade_keeper import DAY, HandmadeKeeper

from backupd.model.documents import Record
from backupd.model.ids import SnapshotName
from backupd.model.ledger import Verified
from backupd.model.text import stamp
from backupd.planning.retention import RetentionPolicy
from backupd.repository import layout
from backupd.repository.repository import signed_record

DAILY = RetentionPolicy(keep_within=timedelta(hours=1), daily=30, weekly=0, monthly=0, max_age=90 * DAY, keep_minimum=2)


@pytest.fixture
def daily(handmade: HandmadeKeeper) -> HandmadeKeeper:
    """A keeper that keeps one snapshot of each day, and true ones of ten days."""
    handmade.ruled(retention=DAILY)
    return handmade


def _lie(
    handmade: HandmadeKeeper, true: SnapshotName, *, packs: bool, modified: datetime | None = None
) -> SnapshotName:
    """A thief of the node's key signs a record of the last second of a true one's day."""
    record: Record = handmade.made.repository.record(true)
    day = datetime.strptime(true[:8], "%Y%m%d").replace(tzinfo=UTC)
    changes = {"exported": stamp(day + DAY - timedelta(microseconds=1)), "packs": record.packs if packs else []}
    name, document = signed_record(msgspec.structs.replace(record, **changes), handmade.made.signer)
    path = handmade.root / layout.record_name(record.generation, name)
    path.write_bytes(document)
    if modified is not None:
        os.utime(path, (modified.timestamp(), modified.timestamp()))
    return name


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


def test_who_sets_a_files_time_drives_nothing_out_that_a_keeper_looked_beside(daily: HandmadeKeeper) -> None:
    """What was not there at the keeper's last look came after it, whatever its store says."""
    true = _trues(daily)
    daily.expire()
    for name in true:
        day = datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=UTC)
        _lie(daily, name, packs=True, modified=day + DAY)
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert {name for name in true if decisions[name].keep} == set(true)
    daily.expire()
    assert {name for _, name in daily.repository.records()} == set(true)


def test_an_empty_record_of_today_drives_nothing_out(daily: HandmadeKeeper) -> None:
    """It lies about no time; it holds nothing, so that it takes nobody's place."""
    true = daily.backup(0.3, "ada")
    lie = _lie(daily, true, packs=False, modified=datetime.now(UTC))
    daily.clock.by = DAY
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert decisions[true].keep
    assert not decisions[lie].keep
    assert "names nothing" in decisions[lie].reasons


def test_a_proven_snapshot_stays_before_one_that_nobody_read(daily: HandmadeKeeper) -> None:
    """The newest of a day counts when nothing of it is proven, and today's newest stays in any case."""
    proven = daily.backup(3.2, "ada")
    day = datetime.strptime(proven[:8], "%Y%m%d").replace(tzinfo=UTC)
    false = _lie(daily, proven, packs=True, modified=day + DAY)
    daily.keeper.book.append(lambda _: [Verified(store="disk", snapshots=[proven])])
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert (decisions[proven].keep, decisions[false].keep) == (True, False)


def test_on_a_store_whose_times_are_all_new_the_rules_go_on(daily: HandmadeKeeper) -> None:
    """Somebody copied all files: then none is better than another, and of each day the newest stays."""
    first = daily.backup(3.5, "ada")
    for path in daily.root.rglob("*"):
        if path.is_file():
            os.utime(path)
    decisions = {one.snapshot.name: one for one in daily.plan().decisions}
    assert decisions[first].keep
