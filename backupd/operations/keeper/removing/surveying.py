"""What a store shows to an expiry: its records, and everything else by generation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.model.ids import ObjectName
from backupd.planning.deletion.expiry import Item
from backupd.planning.verify import ContainerKey

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.ids import GenerationId, RunId, SnapshotName
    from backupd.model.stored.documents import Record


@dataclass(slots=True)
class StoreSurvey:
    """One store, read."""

    records: dict[SnapshotName, Record] = field(default_factory=dict)
    known: frozenset[SnapshotName] = frozenset()
    damaged: dict[GenerationId, str] = field(default_factory=dict)
    """Generations with a record that cannot be believed: what it needs is not known, so nothing there is unneeded."""
    parts: dict[GenerationId, dict[ContainerKey, Item]] = field(default_factory=lambda: defaultdict(dict))
    packs: dict[GenerationId, dict[ContainerKey, Item]] = field(default_factory=lambda: defaultdict(dict))
    keyrings: dict[GenerationId, list[Item]] = field(default_factory=lambda: defaultdict(list))
    marks: dict[GenerationId, list[Item]] = field(default_factory=lambda: defaultdict(list))
    uploads: list[Item] = field(default_factory=list)

    def generations(self) -> list[GenerationId]:
        recorded = {record.generation for record in self.records.values()}
        return sorted({*self.parts, *self.packs, *self.keyrings, *self.marks, *recorded})

    def ended(self) -> frozenset[RunId]:
        """Runs whose record is there: they are over, whatever mark they left."""
        return frozenset(record.run for record in self.records.values())


def survey(repository: Repository) -> StoreSurvey:
    listed = repository.records()
    seen = StoreSurvey(known=frozenset(name for _, name in listed))
    for generation, name in listed:
        try:
            seen.records[name] = repository.record(name, generation)
        except (DamageError, RefusedError) as error:
            seen.damaged[generation] = error.message
        except ObjectMissingError:
            continue
    for info in repository.store.list(ObjectName("")):
        place, item = layout.place_of(info.name), Item(info.name, info.size, info.modified)
        match place.kind:
            case layout.ObjectKind.PART | layout.ObjectKind.PACK if place.generation and place.segment and place.sha256:
                kind = seen.parts if place.kind is layout.ObjectKind.PART else seen.packs
                kind[place.generation][ContainerKey(place.segment, place.sha256)] = item
            case layout.ObjectKind.KEYRING if place.generation:
                seen.keyrings[place.generation].append(item)
            case layout.ObjectKind.MARK if place.generation:
                seen.marks[place.generation].append(item)
            case layout.ObjectKind.TEMPORARY:
                seen.uploads.append(item)
    return seen
