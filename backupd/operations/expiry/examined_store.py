"""One store as an expiry finds it: what lies there, what its records need of it, and what of that is missing.

`backupd manual trust`, row *names, sizes and times of objects*, says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from backupd.errors import UNSOUND, BackupdError, DamageError
from backupd.model.documents import PackRef, Record
from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.ranges import bits_of, to_mask
from backupd.model.text import parse_stamp
from backupd.operations.expiry.listed_packs import PackLister, SegmentFates, look_for_moved, sort_out
from backupd.operations.keeper.holds import HoldPins, SurveyedStore, find_pins, survey
from backupd.planning.expiry import (
    ExpiryLimits,
    Item,
    ListedPack,
    Needs,
    Recorded,
    Removal,
    StoredGeneration,
    attempts_since,
    find_needs,
    grace_before,
    plan,
)
from backupd.planning.ledger_facts import expired_on, explain_absences, proven_on
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.state.keyring_cache import KeyringCache

if TYPE_CHECKING:
    from backupd.operations.keeper.types import Keeper


class ExaminedGeneration(NamedTuple):
    """Everything that a generation has, and the needed part of it."""

    shown: StoredGeneration
    needs: Mapping[ObjectHash, Needs]
    limits: ExpiryLimits

    def plan(self, seen: SurveyedStore) -> Removal | None:
        """Decide what is removed: where anything is missing, nothing that may be it under another name."""
        shown = self.shown
        if seen.lacking:
            believed = {run: item for run, item in shown.keyrings.items() if item.name not in seen.junk}
            shown = replace(shown, keyrings=believed, junk={}, others=())
        elif seen.moved:
            shown = replace(
                shown,
                keyrings={run: item for run, item in shown.keyrings.items() if item.name not in seen.moved},
                junk={sha256: item for sha256, item in shown.junk.items() if item.name not in seen.moved},
                others=tuple(item for item in shown.others if item.name not in seen.moved),
            )
        return plan(shown, self.needs, self.limits) or None


class ExaminedStore:
    """The objects of one store, beside what the keeper remembers of them. For one thread."""

    def __init__(self, keeper: Keeper, store: str, cache: KeyringCache) -> None:
        """List the store, and read what is new there.

        Raises the store's errors, and DamageError for a record that is gone although the ledger knows of no expiry.
        """
        self._keeper = keeper
        self._name = store
        self._repository = keeper.stores[store]
        self._cache = cache
        unsound: dict[ObjectName, BackupdError] = {}
        cache.refresh(self._repository, unsound, keeper.threads)
        self.seen = survey(self._repository, keeper.threads)
        self._stored = {
            generation: cache.packs.refresh(self._repository, generation, keeper.threads, unsound, listed)
            for generation, listed in self.seen.packs.items()
        }
        cache.packs.forget_but(self.seen.generations())
        sort_out(unsound, self.seen, cache.packs)
        self.proven = proven_on(keeper.book.chain.entries(), store)
        self._check_records()

    def generations(self, leaving: Collection[SnapshotName], held: HoldPins) -> dict[GenerationId, ExaminedGeneration]:
        """Look what each generation has and needs without the snapshots that leave, also where nothing can be removed
        today: what it lacks may lie where something else is to be.
        """
        found: dict[GenerationId, ExaminedGeneration] = {}
        for generation in self.seen.generations():
            try:
                found[generation] = self._examine(generation, leaving, held)
            except UNSOUND as error:
                self.seen.lack(generation, error)
        return found

    def look_for_moved(self, names: Iterable[ObjectName]) -> None:
        """Note which of these names, which are to be cleared, are what is missing or not whole in its own place."""
        look_for_moved(names, self.seen, self._keeper, self._name, self._cache.packs)

    def _examine(
        self,
        generation: GenerationId,
        leaving: Collection[SnapshotName],
        held: HoldPins,
    ) -> ExaminedGeneration:
        keeper, seen, now = self._keeper, self.seen, self._keeper.clock.now()
        limits = ExpiryLimits(
            grace=grace_before(now, LONGEST_RUN),
            attempts=attempts_since(now, keeper.rules.retention.max_age),
            ahead=now + LONGEST_RUN,
            classes={keeper.tags.class_tag(generation, name): now - age for name, age in keeper.rules.max_ages.items()},
        )
        records = {name: record for name, record in seen.records.items() if record.generation == generation}
        class_of = self._cache.classes(generation)
        explained = explain_absences(keeper.book.chain.entries(), self._name)
        fates = SegmentFates(held.pinned(generation), explained.purged_in(generation))
        lister = PackLister(self._repository.store, self._cache.packs, class_of, limits, fates)
        named = {sha256 for record in records.values() for sha256, _, _ in record.packs}
        packs = list[ListedPack]()
        for pack in self._stored.get(generation, ()):
            try:
                packs.append(lister.describe(generation, pack))
            except UNSOUND as error:
                if pack.sha256 in named:
                    raise
                seen.junk[pack.name] = error
        sizes = {pack.sha256: len(pack.lengths) for pack in packs}
        staying = [_recorded(name, record, sizes) for name, record in records.items() if name not in leaving]
        # A reduced record will name what a hold keeps before anything is removed.
        staying += [
            _recorded(name, records[name], sizes, held.named.only(records[name], kept)[0])
            for name in records.keys() & leaving
            if (kept := held.keeps(records[name]))
        ]
        shown = StoredGeneration(
            generation=generation,
            staying=tuple(staying),
            leaving=tuple(records.keys() & leaving),
            packs=tuple(packs),
            keyrings=seen.keyrings[generation],
            others=tuple(seen.marks[generation]),
            expired=frozenset(sha256 for name in records.keys() & leaving for sha256, _, _ in records[name].packs),
            junk={
                sha256: Item(info.name, info.size, info.modified)
                for sha256, info in seen.packs[generation].items()
                if info.name in seen.junk
            },
        )
        needs = find_needs(shown, limits.classes)
        self._check_whole(shown, needs, class_of)
        return ExaminedGeneration(shown, needs, limits)

    def _check_records(self) -> None:
        """Raise DamageError for a record that is gone without an expiry.

        What it needs would otherwise pass for something that nobody needs. One that was never believed may go: anybody
        who may add could have put it there.
        """
        seen = self.seen
        once = (self._cache.records() | self.proven) - expired_on(self._keeper.book.chain.entries(), self._name)
        vanished = once - seen.known
        if vanished:
            raise DamageError(
                f"record '{min(vanished)}' is gone, and the ledger knows of no expiry",
                hint="Nothing is removed until it is back. Somebody removed it, or moved it into tmp/: put it back "
                "from there, from another store, or from the store's own snapshots (`backupd manual incidents`). A "
                "store whose disk was lost goes on under another name (`backupd manual stores`).",
            )
        for name, error in seen.unread.items():
            place = layout.place_of(name)
            if place.generation and place.snapshot in once - seen.records.keys():
                seen.lack(place.generation, error)
        self._cache.note_records(seen.known, {name: record.follows for name, record in seen.records.items()})

    def _check_whole(
        self, shown: StoredGeneration, needs: Mapping[ObjectHash, Needs], class_of: Mapping[Pseudonym, ClassTag]
    ) -> None:
        """Raise DamageError when something that a record needs is missing, and nothing explains it.

        Then nothing of its generation may be removed: what else is wrong there is not known.
        """
        explained = explain_absences(self._keeper.book.chain.entries(), self._name)
        purged = explained.purged_in(shown.generation)
        aged = {tag for generation, tag in explained.aged if generation == shown.generation}
        for pack in shown.packs:
            if not needs[pack.sha256].named:
                continue
            for run in sorted(pack.keyrings - shown.keyrings.keys()):
                raise DamageError(
                    f"keyring '{run}' of '{pack.item.name}' is missing, and snapshot '{_naming(shown, pack)}' needs it"
                )
            lost = needs[pack.sha256].live & ~pack.there
            header = self._cache.packs.header(shown.generation, pack.sha256) if lost else None
            for place in bits_of(lost) if header is not None else ():
                segment = header.rows[place].segment if header is not None else Pseudonym("")
                if segment not in purged and class_of.get(segment) not in aged:
                    where = f"section {place} of '{pack.item.name}', of segment {segment}"
                    raise DamageError(
                        f"{where}, is missing, and no purge took it: snapshot '{_naming(shown, pack)}' needs it"
                    )


def find_missed(keeper: Keeper, store: str, names: Collection[ObjectName]) -> dict[ObjectName, str]:
    """Return which of these objects, which are to be removed, may be what is missing on the store, and why.

    That is each of them while something is missing that a record needs. Raises the store's errors.
    """
    with KeyringCache.opened(keeper.cache_path(store), keeper.repository, keeper.tags) as cache:
        try:
            examined = ExaminedStore(keeper, store, cache)
        except UNSOUND as error:
            return dict.fromkeys(names, error.message)
        examined.generations((), find_pins(keeper, cache))
        examined.look_for_moved(names)
    seen = examined.seen
    if seen.lacking:
        return dict.fromkeys(names, seen.damaged[min(seen.lacking)])
    return {name: why for name, why in seen.moved.items() if name in names}


def _recorded(
    name: SnapshotName, record: Record, sizes: Mapping[ObjectHash, int], packs: Sequence[PackRef] | None = None
) -> Recorded:
    """Return what a record names, or will name: `packs`. `sizes` gives the number of each pack's sections.

    Raises DamageError for a pack that is missing, and for sections that it does not list.
    """
    sections: dict[ObjectHash, int] = {}
    for sha256, manifests, others in record.packs if packs is None else packs:
        if sha256 not in sizes:
            missing = layout.pack_name(record.generation, sha256)
            raise DamageError(f"'{missing}' is missing, and snapshot '{name}' names it")
        try:
            mask = to_mask(manifests, sizes[sha256]) | to_mask(others, sizes[sha256])
        except ValueError as error:
            raise DamageError(f"record '{name}' names sections that its packs do not list") from error
        sections[sha256] = sections.get(sha256, 0) | mask
    return Recorded(name, parse_stamp(record.exported), sections)


def _naming(shown: StoredGeneration, pack: ListedPack) -> SnapshotName:
    """Return a snapshot that names a pack, of which it is known that one does."""
    return next(record.name for record in shown.staying if pack.sha256 in record.sections)
