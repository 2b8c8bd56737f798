"""The three ages of each database on a store: of its newest snapshot, its newest verified one, its newest restored one.

Each call reads again the records that it names, at most three of each database, and believes what it has just read.
Records whose database is unknown are read once, until the databases asked for are found, and a few more for the
history. What the ledger says of stores and drills is collected in one pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backupd.errors import UNSOUND
from backupd.model.ids import DrillId, GenerationId, SnapshotName
from backupd.model.ledger import Drilled, Expired, LedgerEntry, Observed, Restored, Verified
from backupd.model.status import DatabaseFacts, DrillFacts
from backupd.model.text import parse_stamp
from backupd.repository.state.labels import LabelledRecord, Labels

if TYPE_CHECKING:
    from backupd.repository.repository import Repository

_RECENT = 200
_SPARE = 32
"""The most records that one call reads for the history alone."""


class _Found(NamedTuple):
    name: SnapshotName | None
    exported: datetime | None


class SnapshotAges:
    """The ages of snapshots on one store, from its records."""

    def __init__(self, repository: Repository, memory: Path) -> None:
        """List the store's records. Raises StoreError, DamageError."""
        self._repository = repository
        self._labels = Labels(memory, repository.info().repository, repository.signers | repository.keepers)
        # A name may stand in two generations, once wrongly.
        self._places: dict[SnapshotName, list[GenerationId]] = {}
        for generation, name in repository.records():
            self._places.setdefault(name, []).append(generation)
        self._read: dict[SnapshotName, LabelledRecord | None] = {}
        self._spare = _SPARE

    def databases(self, labels: Sequence[str], ledger: LedgerFacts, store: str) -> tuple[DatabaseFacts, ...]:
        """Return the ages of each configured database, and of others that have records on the store.

        Raises StoreError.
        """
        proven = ledger.stores[store].proven
        published = self._newest(labels, self._places)
        verified = self._newest(labels, proven)
        restored = self._newest(labels, ledger.restored)
        self._labels.save(self._places.keys())
        recent, named = self._recent(), dict.fromkeys([*labels, *sorted(published)])
        none = _Found(None, None)

        def of_label(label: str) -> DatabaseFacts:
            newest, right, back = (one.get(label, none) for one in (published, verified, restored))
            return DatabaseFacts(
                label=label,
                published=newest.exported,
                published_snapshot=newest.name,
                verified=right.exported,
                verified_snapshot=right.name,
                verified_at=proven.get(right.name) if right.name else None,
                restored=back.exported,
                restored_snapshot=back.name,
                restored_at=ledger.restored.get(back.name) if back.name else None,
                recent=recent.get(label, ())[-_RECENT:],
            )

        return tuple(map(of_label, named))

    def _newest(self, labels: Sequence[str], among: Container[SnapshotName]) -> dict[str, _Found]:
        found: dict[str, _Found] = {}
        for name in sorted(self._places, reverse=True):
            if name not in among:
                continue
            known = self._labels.get(name)
            needed = known.label not in found if known else not found.keys() >= set(labels)
            if needed or (known is None and self._may_spare()):
                read = self._believed(name)
                if read is not None and read.label not in found:
                    found[read.label] = _Found(name, read.exported)
        return found

    def _may_spare(self) -> bool:
        self._spare -= 1
        return self._spare >= 0

    def _believed(self, name: SnapshotName) -> LabelledRecord | None:
        """Read a record from the store; None for one that cannot be believed, which `verify` and `snapshots` report."""
        if name not in self._read:
            self._read[name] = next(self._sound(name), None)
        return self._read[name]

    def _sound(self, name: SnapshotName) -> Iterator[LabelledRecord]:
        for generation in self._places[name]:
            try:
                record = self._repository.record(name, generation)
            except UNSOUND:
                continue
            found = LabelledRecord(record.database, parse_stamp(record.exported))
            self._labels.remember(name, found)
            yield found

    def _recent(self) -> dict[str, tuple[datetime, ...]]:
        found: dict[str, list[datetime]] = {}
        for name in sorted(self._places):
            known = self._labels.get(name)
            if known is not None:
                found.setdefault(known.label, []).append(known.exported)
        return {label: tuple(instants) for label, instants in found.items()}


_DRILLS = 100
"""The most drills that are reported, the newest."""


@dataclass(slots=True)
class StoreLedgerFacts:
    """Facts about one store that stand in the ledger."""

    proven: dict[SnapshotName, datetime] = field(default_factory=dict)
    """Snapshots whose every byte was read and was right, and when the ledger said so first."""
    verified: list[datetime] = field(default_factory=list)
    observed: list[tuple[datetime, int]] = field(default_factory=list)
    """When the store's own snapshots were listed, and how many there were."""
    expired: datetime | None = None


@dataclass(slots=True)
class LedgerFacts:
    """Facts about stores, restores and drills that stand in the ledger."""

    stores: defaultdict[str, StoreLedgerFacts] = field(default_factory=lambda: defaultdict(StoreLedgerFacts))
    restored: dict[SnapshotName, datetime] = field(default_factory=dict)
    """Snapshots that were restored by people or by a drill that passed, and when last."""
    drills: list[DrillFacts] = field(default_factory=list)
    drilled: datetime | None = None
    proven: datetime | None = None


def read_ledger(entries: Iterable[LedgerEntry]) -> LedgerFacts:
    """Collect the facts of all entries, which come oldest first."""
    ledger = LedgerFacts()
    for entry in entries:
        at = parse_stamp(entry.at)
        for event in entry.events:
            match event:
                case Verified():
                    of_store = ledger.stores[event.store]
                    of_store.verified.append(at)
                    of_store.proven = {**dict.fromkeys(event.snapshots, at), **of_store.proven}
                case Observed():
                    ledger.stores[event.store].observed.append((at, len(event.snapshots)))
                case Expired():
                    ledger.stores[event.store].expired = at
                case Restored():
                    ledger.restored[event.snapshot] = at
                case Drilled():
                    _drill(ledger, event, at)
                case _:
                    pass
    ledger.drills = ledger.drills[-_DRILLS:]
    return ledger


def _drill(ledger: LedgerFacts, event: Drilled, at: datetime) -> None:
    began = began_at(event.drill)
    if began > at:
        return  # under a clock that was wrong, as a later entry says: it proves nothing
    ledger.drills.append(DrillFacts(began, event.verdict))
    ledger.drilled = began
    if event.verdict == "pass":
        ledger.proven = began
        if event.snapshot is not None:
            ledger.restored[event.snapshot] = at


def began_at(drill: DrillId) -> datetime:
    """Return when a drill began, which its name says."""
    return datetime.strptime(drill.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
