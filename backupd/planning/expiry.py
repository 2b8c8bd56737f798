"""What an expiry removes from one generation on one store. Pure: records, listing and clear headers in, names out.

Nothing is removed that a record that stays needs; nothing younger than a run may last, because a run under way refers
to what no record names yet; keyrings go with the last record, and with nobody at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.planning.verify import ContainerKey


class Item(NamedTuple):
    """An object as listed."""

    name: ObjectName
    size: int
    modified: datetime


class Recorded(NamedTuple):
    """What a record says that matters here."""

    name: SnapshotName
    exported: datetime
    parts: frozenset[ContainerKey]


@dataclass(frozen=True, slots=True)
class StoredGeneration:
    """One generation on one store."""

    generation: GenerationId
    staying: tuple[Recorded, ...]
    """Records that stay."""
    leaving: tuple[SnapshotName, ...]
    parts: Mapping[ContainerKey, Item]
    packs: Mapping[ContainerKey, Item]
    keyrings: tuple[Item, ...]
    others: tuple[Item, ...] = ()
    """Marks of runs and keepers."""


@dataclass(frozen=True, slots=True)
class ExpiryLimits:
    """Instants before which things go."""

    grace: datetime
    """Objects that are younger stay, needed or not."""
    classes: Mapping[ClassTag, datetime]
    """Parts of these classes go when only snapshots exported before need them."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes, in this order, which is the reverse of the order it came in."""

    generation: GenerationId
    records: tuple[SnapshotName, ...]
    parts: tuple[Item, ...]
    keyrings: tuple[Item, ...]
    packs: tuple[Item, ...]
    others: tuple[Item, ...]
    aged: tuple[ClassTag, ...]
    """Classes of which parts go that a record still names."""

    @property
    def items(self) -> tuple[Item, ...]:
        """All but the records."""
        return self.parts + self.keyrings + self.packs + self.others

    def __bool__(self) -> bool:
        return bool(self.records or self.items)


def live_parts(
    staying: Iterable[Recorded],
    class_of: Mapping[Pseudonym, ClassTag],
    limits: ExpiryLimits,
    pinned: frozenset[Pseudonym],
) -> tuple[set[ContainerKey], set[ContainerKey]]:
    """Parts that records need; and those that a record names and that are too old for their class.

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
    """What to remove of a generation; `headers` says which containers each live part names, of all that are there."""
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
    """Temporary objects of uploads that were cut off."""
    return tuple(item for item in uploads if item.modified < grace)


def grace_before(now: datetime, longest_run: timedelta) -> datetime:
    """Before when an object was put there that no run under way can mean to refer to."""
    return now - 2 * longest_run
