"""Which absences the ledger explains, FORMAT.md §10. Pure: entries in, questions answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backupd.model.ids import ClassTag, GenerationId, Pseudonym, SnapshotName
from backupd.model.instants import parse_stamp
from backupd.model.stored.ledger import ClassExpired, Event, ExpiryBegan, LedgerEntry, PurgeBegan, Reduced


@dataclass(frozen=True, slots=True)
class Explained:
    """What may be missing on one store. Says nothing of what is there."""

    purged: frozenset[tuple[GenerationId, Pseudonym]] = frozenset()
    """Segments whose keys and objects may be missing anywhere, and that no restore brings back."""
    expired: frozenset[SnapshotName] = frozenset()
    """Records that may be missing, with what only they need."""
    aged: Mapping[tuple[GenerationId, ClassTag], datetime] = field(default_factory=dict)
    """Of these classes, parts may be missing that only snapshots exported before the instant need."""
    reduced: Mapping[SnapshotName, SnapshotName] = field(default_factory=dict)
    """Expired snapshots that go on in part under another record."""

    def is_purged(self, generation: GenerationId, segment: Pseudonym) -> bool:
        return (generation, segment) in self.purged

    def purged_in(self, generation: GenerationId) -> frozenset[Pseudonym]:
        return frozenset(segment for place, segment in self.purged if place == generation)

    def is_aged(self, generation: GenerationId, data_class: ClassTag | None, exported: datetime) -> bool:
        """Whether a snapshot exported then may have lost its part of a class; None is a class nobody knows."""
        before = self.aged.get((generation, data_class)) if data_class is not None else None
        return before is not None and exported < before


def explained(entries: Iterable[LedgerEntry], store: str | None) -> Explained:
    """What these entries explain on the store of this configured name; None: on any store they speak of."""
    explaining = _Explaining(store)
    for entry in entries:
        for event in entry.events:
            explaining.take(event)
    return Explained(
        purged=frozenset(explaining.purged),
        expired=frozenset(explaining.expired),
        aged=explaining.aged,
        reduced=explaining.reduced,
    )


@dataclass(slots=True)
class _Explaining:
    store: str | None
    purged: set[tuple[GenerationId, Pseudonym]] = field(default_factory=set)
    expired: set[SnapshotName] = field(default_factory=set)
    aged: dict[tuple[GenerationId, ClassTag], datetime] = field(default_factory=dict)
    reduced: dict[SnapshotName, SnapshotName] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        match event:
            case PurgeBegan():
                self.purged.update(event.segments)
            case ExpiryBegan() if self._here(event.store):
                self.expired.update(event.snapshots)
            case ClassExpired() if self._here(event.store):
                key, before = (event.generation, ClassTag(event.class_tag)), parse_stamp(event.before)
                self.aged[key] = max(before, self.aged.get(key, before))
            case Reduced() if self._here(event.store):
                self.reduced[event.snapshot] = event.into

    def _here(self, store: str) -> bool:
        return self.store in (None, store)
