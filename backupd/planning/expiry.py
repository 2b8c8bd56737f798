"""The removals of an expiry from one generation on one store. Pure: records, packs as listed and by their headers in,
names out.

Nothing is removed that a remaining record needs. Nothing younger than the longest run is removed, because a run under
way refers to objects that no record names yet. A pack goes when no record names it; from one that stays, sections are
taken out when most of it is waste, or when their class's age is over. A keyring goes when no pack names it.
What runs left that were cut off stays longer while such runs go on: over a slow line the first backup may take many
attempts, and none sends again what an earlier one brought there.

Sets of a pack's sections are whole numbers here: bit i is the section in place i of its header.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, RunId, SnapshotName
from backupd.model.ranges import bits_of


class Item(NamedTuple):
    """An object as the store lists it."""

    name: ObjectName
    size: int
    modified: datetime


class Recorded(NamedTuple):
    """The facts of a record that an expiry needs."""

    name: SnapshotName
    exported: datetime
    sections: Mapping[ObjectHash, int]
    """By pack, the sections that the record names."""


@dataclass(frozen=True, slots=True)
class ListedPack:
    """A pack on the store, and what its header and map say."""

    item: Item
    """The object, with the time from which its age counts."""
    sha256: ObjectHash
    there: int
    """The sections that are there."""
    lengths: Sequence[int]
    """Bytes of each section."""
    keyrings: frozenset[RunId]
    classes: Mapping[ClassTag, int]
    """The sections of each class that has an age of its own."""
    pinned: int = 0
    """The sections of segments that a hold keeps."""
    purged: int = 0
    """The sections of segments whose purge has begun: if somebody put them back, they go again."""

    def bytes_of(self, sections: int) -> int:
        """Return the bytes of these sections."""
        return sum(self.lengths[place] for place in bits_of(sections))


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """The objects of one generation on one store."""

    generation: GenerationId
    staying: tuple[Recorded, ...]
    """The records that stay."""
    leaving: tuple[SnapshotName, ...]
    packs: tuple[ListedPack, ...]
    keyrings: Mapping[RunId, Item]
    """All keyrings, those that cannot be believed, too."""
    others: tuple[Item, ...] = ()
    """Marks of runs and keepers."""
    expired: frozenset[ObjectHash] = frozenset()
    """Packs that a leaving record names."""
    junk: Mapping[ObjectHash, Item] = field(default_factory=dict)
    """Packs that cannot be believed: anybody who may add objects can put them there, under any name."""


@dataclass(frozen=True, slots=True)
class ExpiryLimits:
    """The instants before which objects are removed."""

    grace: datetime
    """Younger objects stay as they are, needed or not."""
    classes: Mapping[ClassTag, datetime]
    """Sections of these classes are removed when only snapshots exported before the instant need them."""
    attempts: datetime
    """Packs that no record ever named, and that came since, stay while more of them come."""
    ahead: datetime
    """Marks dated after this instant count no more than old ones do: somebody set their time."""


class Rewrite(NamedTuple):
    """A pack to rewrite without some of its sections."""

    item: Item
    sha256: ObjectHash
    sections: frozenset[int]
    """The places of the sections to take out."""
    size: int
    """Bytes of these sections."""


@dataclass(frozen=True, slots=True)
class Removal:
    """The objects and sections to remove, in this order, which is the reverse of the order of writing."""

    generation: GenerationId
    records: tuple[SnapshotName, ...]
    packs: tuple[Item, ...]
    rewrites: tuple[Rewrite, ...]
    keyrings: tuple[Item, ...]
    others: tuple[Item, ...]
    aged: tuple[ClassTag, ...]
    """Classes of which sections are removed that a record still names."""

    @property
    def items(self) -> tuple[Item, ...]:
        """All objects to remove except the records."""
        return self.packs + self.keyrings + self.others

    @property
    def steps(self) -> tuple[Item | Rewrite, ...]:
        """Everything to do but with the records, in order."""
        return self.packs + self.rewrites + self.keyrings + self.others

    @property
    def bytes(self) -> int:
        """Bytes of everything to remove except the records."""
        return sum(item.size for item in self.items) + sum(rewrite.size for rewrite in self.rewrites)

    def __bool__(self) -> bool:
        return bool(self.records or self.steps)


class Needs(NamedTuple):
    """The needs of records for one pack's sections."""

    live: int
    """Sections that a record names and whose class is not too old."""
    aged: Mapping[ClassTag, int]
    """By class, sections that a record names, and that only snapshots before the class's instant need."""
    named: bool
    """Whether any record names the pack."""


def find_needs(shown: StoredGeneration, classes: Mapping[ClassTag, datetime]) -> dict[ObjectHash, Needs]:
    """Return what the records that stay need of each pack. Pinned sections are never too old."""
    by_pack: dict[ObjectHash, list[tuple[datetime, int]]] = defaultdict(list)
    for record in shown.staying:
        for sha256, sections in record.sections.items():
            by_pack[sha256].append((record.exported, sections))
    return {pack.sha256: _needs(pack, by_pack.get(pack.sha256, []), classes) for pack in shown.packs}


def _needs(pack: ListedPack, naming: Sequence[tuple[datetime, int]], classes: Mapping[ClassTag, datetime]) -> Needs:
    live = _joined(sections for _, sections in naming)
    aged: dict[ClassTag, int] = {}
    for tag, before in classes.items():
        recent = _joined(sections for exported, sections in naming if exported >= before)
        old = live & pack.classes.get(tag, 0) & ~pack.pinned & ~recent
        if old:
            aged[tag] = old
    return Needs(live & ~_joined(aged.values()) & ~pack.purged, aged, bool(naming))


def _joined(masks: Iterable[int]) -> int:
    joined = 0
    for mask in masks:
        joined |= mask
    return joined


def plan(shown: StoredGeneration, needs: Mapping[ObjectHash, Needs], limits: ExpiryLimits) -> Removal:
    """Decide what to remove of a generation; `needs` is what `find_needs` found with the same limits.

    A pack that cannot be believed goes as any other does that no record names: what it says decides nothing, so it
    keeps no keyring.
    """
    old = [pack for pack in shown.packs if pack.item.modified < limits.grace]
    awaited = _awaited(shown, needs, limits)
    unnamed = {pack.sha256 for pack in old if not needs[pack.sha256].named and pack.sha256 not in awaited}
    rewrites = [
        rewrite
        for pack in old
        if needs[pack.sha256].named and (rewrite := _rewrite(pack, needs[pack.sha256])) is not None
    ]
    taken = {rewrite.sha256 for rewrite in rewrites}
    aged = {
        tag
        for pack in old
        if pack.sha256 in taken
        for tag, sections in needs[pack.sha256].aged.items()
        if sections & pack.there
    }
    used = {run for pack in shown.packs if pack.sha256 not in unnamed for run in pack.keyrings}
    return Removal(
        generation=shown.generation,
        records=tuple(sorted(shown.leaving)),
        packs=tuple(sorted([*(pack.item for pack in old if pack.sha256 in unnamed), *_unnamed_junk(shown, limits)])),
        rewrites=tuple(sorted(rewrites, key=lambda rewrite: rewrite.item)),
        keyrings=tuple(
            sorted(item for run, item in shown.keyrings.items() if run not in used and item.modified < limits.grace)
        ),
        others=tuple(item for item in shown.others if not limits.grace <= item.modified <= limits.ahead),
        aged=tuple(sorted(aged)),
    )


def _awaited(shown: StoredGeneration, needs: Mapping[ObjectHash, Needs], limits: ExpiryLimits) -> set[ObjectHash]:
    """Return the packs of runs that were cut off, and which the next attempt goes on with, as the last one was not long
    ago.

    Neither what an expired record named, nor what is too old for its class, nor anything of a purged tenant.
    """
    loose = [pack for pack in shown.packs if not needs[pack.sha256].named and pack.sha256 not in shown.expired]
    if all(pack.item.modified < limits.grace for pack in loose):
        return set()
    return {
        pack.sha256
        for pack in loose
        if pack.item.modified >= limits.attempts
        and not pack.there & pack.purged
        and all(
            pack.item.modified >= before or not pack.there & pack.classes.get(tag, 0)
            for tag, before in limits.classes.items()
        )
    }


def _unnamed_junk(shown: StoredGeneration, limits: ExpiryLimits) -> list[Item]:
    named = {sha256 for record in shown.staying for sha256 in record.sections}
    return [item for sha256, item in shown.junk.items() if sha256 not in named and item.modified < limits.grace]


def _rewrite(pack: ListedPack, needs: Needs) -> Rewrite | None:
    """Return how to rewrite a pack that a record names; None when it stays as it is."""
    waste = pack.there & ~needs.live
    if not waste:
        return None
    size = pack.bytes_of(waste)
    # Waste may stay until it is most of a pack; what is too old for its class, or of a purged tenant, may not.
    if waste & (pack.purged | _joined(needs.aged.values())) or 2 * size > pack.bytes_of(pack.there):
        return Rewrite(pack.item, pack.sha256, frozenset(bits_of(waste)), size)
    return None


def leftovers(uploads: Iterable[Item], grace: datetime) -> tuple[Item, ...]:
    """Return the temporary objects of uploads that were cut off: those modified before `grace`."""
    return tuple(item for item in uploads if item.modified < grace)


_ATTEMPTS = timedelta(days=7)


def attempts_since(now: datetime, max_age: timedelta) -> datetime:
    """Return since when what runs left that were cut off is kept for the next attempt: at most as long as snapshots."""
    return now - min(_ATTEMPTS, max_age)


def grace_before(now: datetime, longest_run: timedelta) -> datetime:
    """Return the instant before which no object can belong to a run under way: twice the longest run before `now`."""
    return now - 2 * longest_run
