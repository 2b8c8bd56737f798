"""The times of records: which of them came later than any run brings one, and which may have expired unread.

A thief who can sign writes any time of export, and may set the time that a store shows for a file. Not so the time at
which the keeper looked and it was not there yet.

`backupd manual trust`, row *records of snapshots*, says who can write this, and what is checked.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import StoreError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import SnapshotName
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.operations.snapshots.lines import record_lines
from backupd.operations.snapshots.records import snapshot_group
from backupd.planning.ledger_facts import copied_to
from backupd.planning.retention import Dated, Lines
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN

if TYPE_CHECKING:
    from backupd.operations.keeper.holds import HoldPins, SurveyedStore
    from backupd.planning.expiry import Item
    from backupd.repository.state.keyring_cache import KeyringCache


_CLOCKS = timedelta(hours=1)
"""More than a database's clock and a store's differ: each was within minutes of a third one."""


class RecordTimes:
    """The times at which the records of one store came, and the order in which they did."""

    def __init__(self, keeper: Keeper, store: str, seen: SurveyedStore, cache: KeyringCache) -> None:
        """Take the records as surveyed; `cache` is what the keeper remembers of its earlier looks."""
        self._keeper = keeper
        self._name = store
        self._seen = seen
        self._cache = cache
        self._came_after = cache.came_after()
        self._copied = copied_to(keeper.book.chain.entries(), store)

    def dated(self, proven: set[SnapshotName]) -> list[Dated]:
        """Return the properties of each record that can be believed."""
        exported = {name: parse_stamp(record.exported) for name, record in self._seen.records.items()}
        # Who dates a file ahead, too, does not change that this keeper saw it.
        early = self._cache.early() | self.ahead()
        came: dict[SnapshotName, datetime] = {}
        shown: dict[SnapshotName, datetime] = {}
        for name, item in self._seen.found.items():
            if (snapshot := layout.place_of(name).snapshot) is not None:
                # A copy of it may stand in another generation.
                shown[snapshot] = max(item.modified, shown.get(snapshot, item.modified))
                came[snapshot] = min(self._came(snapshot, item), came.get(snapshot, self._came(snapshot, item)))
        return [
            Dated(
                name,
                snapshot_group(record.database, record.member),
                exported[name],
                name in proven,
                late=name in came and self._is_late(name, record, came[name]),
                empty=not record.packs,
                early=name in early or (name in shown and exported[name] - shown[name] > _CLOCKS),
            )
            for name, record in self._seen.records.items()
        ]

    def ahead(self) -> set[SnapshotName]:
        """Return the records that are exported later than now, by this machine's clock, which may be wrong."""
        latest = self._keeper.clock.now() + _CLOCKS
        return {name for name, record in self._seen.records.items() if parse_stamp(record.exported) > latest}

    def lines(self) -> Lines:
        """Return the lines of records, those that are gone considered.

        What a hold keeps of an expired one, which a keeper signed, belongs to every line.
        """
        reduced = {name for name, record in self._seen.records.items() if REDUCED in record.extra}
        there = {name: one.follows for name, one in self._seen.records.items() if name not in reduced}
        return tuple(line | reduced for line in record_lines(there, self._cache.followed()))

    def outlived(self, held: HoldPins) -> tuple[Item, ...]:
        """Return the records that cannot be believed and came so long ago that each true one of then has expired."""
        if held.segments:
            return ()  # one of them may be what a hold keeps
        before = self._keeper.clock.now() - self._keeper.rules.retention.max_age
        unread = sorted(self._seen.unread.keys() & self._seen.found)
        found = [(layout.place_of(name).snapshot, self._seen.found[name]) for name in unread]
        return tuple(item for snapshot, item in found if snapshot and self._came(snapshot, item) < before)

    def _came(self, snapshot: SnapshotName, item: Item) -> datetime:
        return max(item.modified, self._came_after.get(snapshot, item.modified))

    def _is_late(self, name: SnapshotName, record: Record, came: datetime) -> bool:
        latest = parse_stamp(record.exported) + LONGEST_RUN + self._keeper.rules.clock_tolerance
        if REDUCED in record.extra or came <= latest:
            return False
        if name not in self._copied:
            return True
        # A copy comes late by nature: whether the snapshot did is seen where it was copied from.
        origin = self._keeper.stores.get(self._copied[name])
        try:
            first = origin.store.stat(layout.record_name(record.generation, name)) if origin is not None else None
        except StoreError:
            return False
        return first is not None and first.modified > latest
