"""What the ledger tells of stores and drills, in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupd.model.instants import parse_stamp
from backupd.model.status import DrillFacts
from backupd.model.stored.ledger import Drilled, Expired, LedgerEntry, Observed, Restored, Verified

if TYPE_CHECKING:
    from backupd.model.ids import DrillId, SnapshotName

_DRILLS = 100
"""Of the newest drills that are told."""


@dataclass(slots=True)
class OfStore:
    """What it says of one store."""

    proven: dict[SnapshotName, datetime] = field(default_factory=dict)
    """Snapshots whose every byte was read and was right, and when that was told first."""
    verified: list[datetime] = field(default_factory=list)
    observed: list[tuple[datetime, int]] = field(default_factory=list)
    """When the store's own snapshots were listed, and how many there were."""
    expired: datetime | None = None


@dataclass(slots=True)
class LedgerFacts:
    """What it says."""

    stores: defaultdict[str, OfStore] = field(default_factory=lambda: defaultdict(OfStore))
    restored: dict[SnapshotName, datetime] = field(default_factory=dict)
    """Snapshots that were restored, by people or by a drill that passed; and when last."""
    drills: list[DrillFacts] = field(default_factory=list)
    drilled: datetime | None = None
    proven: datetime | None = None


def read(entries: Iterable[LedgerEntry]) -> LedgerFacts:
    """All of it; entries are oldest first."""
    told = LedgerFacts()
    for entry in entries:
        at = parse_stamp(entry.at)
        for event in entry.events:
            match event:
                case Verified():
                    of_store = told.stores[event.store]
                    of_store.verified.append(at)
                    of_store.proven = {**dict.fromkeys(event.snapshots, at), **of_store.proven}
                case Observed():
                    told.stores[event.store].observed.append((at, len(event.snapshots)))
                case Expired():
                    told.stores[event.store].expired = at
                case Restored():
                    told.restored[event.snapshot] = at
                case Drilled():
                    _drill(told, event, at)
                case _:
                    pass
    told.drills = told.drills[-_DRILLS:]
    return told


def _drill(told: LedgerFacts, event: Drilled, at: datetime) -> None:
    began = began_at(event.drill)
    if began > at:
        return  # under a clock that was wrong, as a later entry says: it proves nothing
    told.drills.append(DrillFacts(began, event.verdict))
    told.drilled = began
    if event.verdict == "pass":
        told.proven = began
        if event.snapshot is not None:
            told.restored[event.snapshot] = at


def began_at(drill: DrillId) -> datetime:
    """When it began: its name says so."""
    return datetime.strptime(drill.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
