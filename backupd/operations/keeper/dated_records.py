"""The times of records: which of them came later than any run brings one, and which may have expired unread.

A thief who can sign writes any time of export, and may set the time that a store shows for a file. Not so the time at
which the keeper looked and it was not there yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.errors import StoreError
from backupd.model.documents import REDUCED, Record
from backupd.model.ids import SnapshotName
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.operations.snapshots.records import snapshot_group
from backupd.planning.ledger_facts import copied_to
from backupd.planning.retention import Dated
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN

if TYPE_CHECKING:
    from backupd.operations.keeper.holds import HoldPins, SurveyedStore
    from backupd.planning.expiry import Item


class RecordTimes:
    """The times at which the records of one store came."""

    def __init__(
        self, keeper: Keeper, store: str, seen: SurveyedStore, came_after: Mapping[SnapshotName, datetime]
    ) -> None:
        """Take the records as surveyed; `came_after` is what the keeper remembers of its earlier looks."""
        self._keeper = keeper
        self._name = store
        self._seen = seen
        self._came_after = came_after
        self._copied = copied_to(keeper.book.chain.entries(), store)

    def dated(self, proven: set[SnapshotName]) -> list[Dated]:
        """Return the properties of each record that can be believed."""
        came: dict[SnapshotName, datetime] = {}
        for name, item in self._seen.found.items():
            if (snapshot := layout.place_of(name).snapshot) is not None:
                # A copy of it may stand in another generation.
                came[snapshot] = min(self._came(snapshot, item), came.get(snapshot, self._came(snapshot, item)))
        return [
            Dated(
                name,
                snapshot_group(record.database, record.member),
                parse_stamp(record.exported),
                name in proven,
                late=name in came and self._is_late(name, record, came[name]),
                empty=not record.packs,
            )
            for name, record in self._seen.records.items()
        ]

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
