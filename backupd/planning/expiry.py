"""The objects that an expiry removes from one generation on one store. Pure: records, listing, headers in, names out.

Nothing is removed that a remaining record needs. Nothing younger than the longest run is removed, because a run under
way refers to objects that no record names yet. Keyrings are removed with the last record, and only when no run is under
way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.planning.verify import ContainerKey


class Item(NamedTuple):
    """An object as the store lists it."""

    name: ObjectName
    size: int
    modified: datetime


class Recorded(NamedTuple):
    """The parts of a record that an expiry needs."""

    name: SnapshotName
    exported: datetime
    parts: frozenset[ContainerKey]


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """The objects of one generation on one store."""

    generation: GenerationId
    staying: tuple[Recorded, ...]
    """The records that stay."""
    leaving: tuple[SnapshotName, ...]
    parts: Mapping[ContainerKey, Item]
    packs: Mapping[ContainerKey, Item]
    keyrings: tuple[Item, ...]
    others: tuple[Item, ...] = ()
    """Marks of runs and keepers."""


@dataclass(frozen=True, slots=True)
class ExpiryLimits:
    """The instants before which objects are removed."""

    grace: datetime
    """Younger objects stay, needed or not."""
    classes: Mapping[ClassTag, datetime]
    """Parts of these classes are removed when only snapshots exported before the instant need them."""


@dataclass(frozen=True, slots=True)
class Removal:
    """The objects to remove, in this order, which is the reverse of the order in which they were written."""

    generation: GenerationId
    records: tuple[SnapshotName, ...]
    parts: tuple[Item, ...]
    keyrings: tuple[Item, ...]
    packs: tuple[Item, ...]
    others: tuple[Item, ...]
    aged: tuple[ClassTag, ...]
    """Classes of which parts are removed that a record still names."""

    @property
    def items(self) -> tuple[Item, ...]:
        """All objects to remove except the records."""
        return self.parts + self.keyrings + self.packs + self.others

    def __bool__(self) -> bool:
        return bool(self.records or self.items)


def live_parts(
    staying: Iterable[Recorded],
    class_of: Mapping[Pseudonym, ClassTag],
    limits: ExpiryLimits,
    pinned: frozenset[Pseudonym],
) -> tuple[set[ContainerKey], set[ContainerKey]]:
    """Return the parts that records need, and those that a record names but that are too old for their class.

    `pinned` segments, which a hold keeps, are never too old.
    """
    newest: dict[ContainerKey, datetime] = {}
    for record in staying:
        for key in record.parts:
            newest[key] = max(record.exported, newest.get(key, record.exported))
    aged = {
        key
        for key, exported in newest.items()
        if (before := limits.classes.get(class_of.get(key.segment, ClassTag("")))) is not None
        and exported < before
        and key.segment not in pinned
    }
    return newest.keys() - aged, aged


def plan(
    shown: StoredGeneration,
    live: set[ContainerKey],
    aged: Mapping[ContainerKey, ClassTag],
    headers: Mapping[ContainerKey, Iterable[ObjectHash]],
    limits: ExpiryLimits,
) -> Removal:
    """Decide what to remove of a generation.

    `live` are the needed parts, `aged` the parts that are too old, with their class. `headers` gives for each live part
    the packs that it names, of those on the store.
    """
    needed = set(live)
    for key in live:
        needed |= {ContainerKey(key.segment, sha256) for sha256 in headers.get(key, ())}

    def unneeded(containers: Mapping[ContainerKey, Item]) -> tuple[Item, ...]:
        return tuple(
            sorted(item for key, item in containers.items() if key not in needed and item.modified < limits.grace)
        )

    parts, packs = unneeded(shown.parts), unneeded(shown.packs)
    everything = len(parts) + len(packs) == len(shown.parts) + len(shown.packs)
    over = everything and not shown.staying and all(item.modified < limits.grace for item in shown.keyrings)
    gone = {item.name for item in parts}
    return Removal(
        generation=shown.generation,
        records=tuple(sorted(shown.leaving)),
        parts=parts,
        keyrings=shown.keyrings if over else (),
        packs=packs,
        others=tuple(item for item in shown.others if item.modified < limits.grace),
        aged=tuple(sorted({tag for key, tag in aged.items() if key in shown.parts and shown.parts[key].name in gone})),
    )


def leftovers(uploads: Iterable[Item], grace: datetime) -> tuple[Item, ...]:
    """Return the temporary objects of uploads that were cut off: those modified before `grace`."""
    return tuple(item for item in uploads if item.modified < grace)


def grace_before(now: datetime, longest_run: timedelta) -> datetime:
    """Return the instant before which no object can belong to a run under way: twice the longest run before `now`."""
    return now - 2 * longest_run
