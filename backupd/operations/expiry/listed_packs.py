"""Description of the packs of one generation for an expiry, and its treatment of objects that cannot be believed, or
that lie where they do not belong.

A header or keyring that cannot be believed is damage where a record needs it, and then its whole generation stays.
Where none does, somebody put it there who may add and not sign, and it must hold nothing up: it goes as an orphan goes.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from backupd.errors import UNSOUND, BackupdError, DamageError
from backupd.model.ids import ClassTag, DrillId, GenerationId, ObjectHash, ObjectName, Pseudonym
from backupd.model.ledger import Attested, Drilled
from backupd.model.ranges import mask_of
from backupd.planning.expiry import ExpiryLimits, Item, ListedPack
from backupd.planning.ledger_facts import explain_absences
from backupd.repository import layout
from backupd.repository.moved_objects import find_moved, require_in_place
from backupd.repository.packs import OpenPack, reopened
from backupd.seal.pack import PresenceMap

if TYPE_CHECKING:
    from backupd.operations.keeper.holds import SurveyedStore
    from backupd.operations.keeper.types import Keeper
    from backupd.repository.ledger import Chain
    from backupd.repository.state.pack_cache import PackCache, StoredPack
    from backupd.store.base import StoreView


class SegmentFates(NamedTuple):
    """Segments of one generation that an expiry treats in a way of their own."""

    pinned: Collection[Pseudonym]
    """Segments that a hold keeps."""
    purged: Collection[Pseudonym]
    """Segments whose purge has begun."""


class PackLister:
    """Describes packs of one generation by their headers, and by the maps of those that lost something."""

    def __init__(
        self,
        store: StoreView,
        packs: PackCache,
        class_of: Mapping[Pseudonym, ClassTag],
        limits: ExpiryLimits,
        fates: SegmentFates,
    ) -> None:
        self._store = store
        self._packs = packs
        self._class_of = class_of
        self._limits = limits
        self._fates = fates

    def describe(self, generation: GenerationId, pack: StoredPack) -> ListedPack:
        """Describe a pack; the map is read of those only from which something was taken out, which are smaller.

        Raises DamageError for one that is not as large as its header and map say, or whose header was never read.
        """
        header = self._packs.header(generation, pack.sha256)
        if header is None:
            raise DamageError(f"the header of '{pack.name}' is not known")
        full = there = PresenceMap.full(header)
        if pack.size != full.pack_size:
            there = reopened(self._store, OpenPack(pack.name, header, full)).there
            if pack.size != there.pack_size:
                raise DamageError(f"'{pack.name}' has {pack.size} bytes, and {there.pack_size} by its header and map")
        classes: dict[ClassTag, list[int]] = {tag: [] for tag in self._limits.classes}
        for place, row in enumerate(header.rows):
            if (tag := self._class_of.get(row.segment)) in classes and tag is not None:
                classes[tag].append(place)

        def places_of(segments: Collection[Pseudonym]) -> int:
            return mask_of((at for at, row in enumerate(header.rows) if row.segment in segments), len(header.rows))

        return ListedPack(
            item=Item(pack.name, pack.size, pack.modified),
            sha256=pack.sha256,
            there=int.from_bytes(there.raw, "little"),
            lengths=array("Q", (row.length for row in header.rows)),
            keyrings=frozenset(row.keyring for row in header.rows),
            classes={tag: mask_of(places, len(header.rows)) for tag, places in classes.items() if places},
            pinned=places_of(self._fates.pinned),
            purged=places_of(self._fates.purged),
        )


def needed_objects(seen: SurveyedStore, packs: PackCache) -> frozenset[ObjectName]:
    """Return the packs that records name, and the keyrings that the headers of these packs name."""
    named = {(record.generation, sha256) for record in seen.records.values() for sha256, _, _ in record.packs}
    found = {layout.pack_name(*pack) for pack in named}
    for generation, sha256 in named:
        header = packs.header(generation, sha256)
        runs = {row.keyring for row in header.rows} if header is not None else set()
        found |= {layout.keyring_name(generation, run) for run in runs}
    return frozenset(found)


def sort_out(unsound: Mapping[ObjectName, BackupdError], seen: SurveyedStore, packs: PackCache) -> None:
    """Note what nobody can believe: as damage where a record needs it, and as junk elsewhere."""
    needed = needed_objects(seen, packs) if unsound else frozenset[ObjectName]()
    for name in unsound.keys() & needed:
        if generation := layout.place_of(name).generation:
            seen.lack(generation, unsound[name])
    seen.junk |= {name: error for name, error in unsound.items() if name not in needed}


_LARGEST_MARK = 200
"""Bytes of a mark at most."""


def look_for_moved(
    names: Iterable[ObjectName], seen: SurveyedStore, keeper: Keeper, store: str, packs: PackCache
) -> None:
    """Note which of the names that are to be cleared, or are junk, are what a record needs or the ledger lists under
    another name, and is not whole there: somebody who may only add moved it, and put something else in its place.
    """
    repository, entries = keeper.stores[store], list(keeper.book.chain.entries())
    explained = explain_absences(entries, store)
    marks = (mark.name for marks in seen.marks.values() for mark in marks if mark.size > _LARGEST_MARK)
    doubtful = dict.fromkeys([*names, *marks, *sorted(seen.junk)])
    needed = needed_objects(seen, packs) if doubtful else frozenset[ObjectName]()
    filed = filed_documents(keeper.book.chain)
    for where, name in sorted(find_moved(repository, doubtful, needed, filed, keeper.threads).items()):
        generation = layout.place_of(name).generation
        gone = explained.purged_in(generation) if generation is not None else frozenset[Pseudonym]()
        try:
            require_in_place(repository, name, where, gone)
        except UNSOUND as error:
            seen.moved[where] = f"{error.message}; what belongs in its place is '{where}'"
            if generation is not None:
                seen.lack(generation, DamageError(seen.moved[where]))


def filed_documents(chain: Chain) -> dict[ObjectHash, ObjectName]:
    """Return the ledger's entries, and the reports and attestations that it lists, by the hash of each, with the name
    of its place.
    """
    found = {link.sha256: layout.entry_name(seq) for seq, link in enumerate(chain.links, 1)}
    for entry in chain.entries():
        for event in entry.events:
            if isinstance(event, Attested):
                sha256 = ObjectHash(event.attestation)
                found[sha256] = layout.attestation_name(sha256)
            elif isinstance(event, Drilled):
                found[ObjectHash(event.report)] = layout.report_name(DrillId(event.drill))
    return found
