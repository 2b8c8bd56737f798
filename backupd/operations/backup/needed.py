"""The sections that a snapshot needs, by packs: its record is made of them, and the next run may take them over."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.model.ranges import from_ranges, to_ranges

if TYPE_CHECKING:
    from backupd.model.documents import PackRef
    from backupd.repository.state.extents import RememberedSnapshot
    from backupd.repository.state.index import Index


@dataclass(slots=True)
class SectionsNeeded:
    """The sections that a snapshot needs, by the index's number of their pack."""

    segments: int = 0
    manifests: dict[int, array[int]] = field(default_factory=dict)
    others: dict[int, array[int]] = field(default_factory=dict)
    size: int = 0
    """Bytes of all of them."""

    def add(self, pack: int, place: int, length: int, *, manifest: bool) -> None:
        """Add one section, which must not be added twice."""
        kind = self.manifests if manifest else self.others
        kind.setdefault(pack, array("I")).append(place)
        self.size += length

    def with_those(self, others: SectionsNeeded) -> SectionsNeeded:
        """Return these sections and others of other segments."""
        found = SectionsNeeded(self.segments + others.segments, size=self.size + others.size)
        for one in (self, others):
            for pack, places in one.manifests.items():
                found.manifests.setdefault(pack, array("I")).extend(places)
            for pack, places in one.others.items():
                found.others.setdefault(pack, array("I")).extend(places)
        return found

    def by_pack(self) -> list[tuple[int, list[int], list[int]]]:
        """Return the places of manifests and of other sections in each pack, as ranges."""
        packs = sorted(self.packs_needed())
        return [(pack, to_ranges(self.manifests.get(pack, ())), to_ranges(self.others.get(pack, ()))) for pack in packs]

    def packs_needed(self) -> set[int]:
        """Return the index's numbers of the packs."""
        return self.manifests.keys() | self.others.keys()

    def packs(self, index: Index) -> list[PackRef]:
        """Return the record's list of packs."""
        names = index.packs()
        return sorted((names[pack].sha256, manifests, others) for pack, manifests, others in self.by_pack())


def remembered(snapshot: RememberedSnapshot) -> SectionsNeeded:
    """Return the sections of a snapshot that the index remembers as a whole."""
    found = SectionsNeeded(snapshot.segments, size=snapshot.size)
    for pack, manifests, others in snapshot.packs:
        for kind, ranges in ((found.manifests, manifests), (found.others, others)):
            if ranges:
                kind[pack] = array("I", from_ranges(ranges, 1 << 32))
    return found
