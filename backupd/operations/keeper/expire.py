"""Expire snapshots of one store: decide, write the intent into the ledger, remove, list again.

Runs whether or not backups succeed. Downloads records, the clear headers of packs (once), and of packs from which
something was taken out their map; no section, but those beside what it takes out of a pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from backupd.errors import UNSOUND, BackupdError, BusyError, DamageError, StoreError
from backupd.model.documents import PackRef, Record
from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.ledger import ClassExpired, Event, Expired, ExpiryBegan, in_entries
from backupd.model.ranges import bits_of, to_mask
from backupd.model.text import parse_stamp, stamp
from backupd.operations.keeper.dated_records import RecordTimes
from backupd.operations.keeper.guards import check_clock, check_number, check_plan
from backupd.operations.keeper.holds import (
    HoldPins,
    NamedSections,
    SurveyedStore,
    find_pins,
    find_reductions,
    publish_reduced,
    survey,
)
from backupd.operations.keeper.listed_packs import PackLister, SegmentFates, look_for_moved, sort_out
from backupd.operations.keeper.pack_rewrite import take_out
from backupd.operations.keeper.types import Keeper
from backupd.operations.phases import Phases
from backupd.planning.expiry import (
    ExpiryLimits,
    Item,
    ListedPack,
    Needs,
    Recorded,
    Removal,
    Rewrite,
    StoredGeneration,
    attempts_since,
    find_needs,
    grace_before,
    leftovers,
    plan,
)
from backupd.planning.incarnations import TenantStates
from backupd.planning.ledger_facts import expired_on, explain_absences, proven_on
from backupd.planning.retention import Decision, RetentionAlarm, decide, upcoming_losses
from backupd.repository import layout
from backupd.repository.incoming import first_awaited
from backupd.repository.marks import LONGEST_REMOVAL, LONGEST_RUN, EndedRuns, removal_marked, runs_under_way
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.repository.state.pack_cache import StoredPack
from backupd.trace import Warned


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """The removals that an expiry makes on one store: the same object is printed by a dry run and executed."""

    store: str
    decisions: tuple[Decision, ...]
    removals: tuple[Removal, ...]
    uploads: tuple[Item, ...]
    """Leftovers of uploads that were cut off."""
    reductions: Mapping[SnapshotName, frozenset[Pseudonym]]
    """Segments that a hold keeps, by the expiring snapshot they are part of."""
    alarms: tuple[RetentionAlarm, ...]
    left_alone: Mapping[GenerationId, str]
    """Generations from which nothing is removed today, and why."""
    junk: Mapping[ObjectName, str]
    """Objects under our names that cannot be believed and that no record needs, and why; each goes when it is old."""
    unread: tuple[Item, ...]
    """Records that cannot be believed, and came before every snapshot that may still be kept: they go."""
    known: frozenset[SnapshotName]
    """Every record the plan took into account."""
    ended: EndedRuns
    """Runs whose records the plan took into account."""
    at: datetime
    """When the plan was made, by this machine's clock."""

    @property
    def expiring(self) -> list[SnapshotName]:
        """Names of the snapshots that expire."""
        return [decision.snapshot.name for decision in self.decisions if not decision.keep]

    @property
    def objects(self) -> int:
        """Number of objects to be removed, records included, and of packs to be rewritten."""
        single = len(self.expiring) + len(self.unread) + len(self.uploads)
        return single + sum(len(removal.steps) for removal in self.removals)

    @property
    def rewrites(self) -> int:
        """Number of packs from which sections are to be taken out."""
        return sum(len(removal.rewrites) for removal in self.removals)

    @property
    def bytes(self) -> int:
        """Bytes of all objects to be removed except the records, and of all sections to be taken out."""
        return sum(removal.bytes for removal in self.removals) + sum(item.size for item in self.uploads + self.unread)


class _Examined(NamedTuple):
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
        return plan(shown, self.needs, self.limits) or None


class Expiry:
    """The expiry of one store. For one thread."""

    def __init__(self, keeper: Keeper, store: str, cache: KeyringCache) -> None:
        self._keeper = keeper
        self._name = store
        self._repository = keeper.stores[store]
        self._cache = cache

    def plan(self) -> ExpiryPlan:
        """Decide which objects expire now.

        Raises the store's errors; a record that cannot be believed, and a keyring or pack that a record needs, keeps
        its generation as it is.
        """
        keeper, now = self._keeper, self._keeper.clock.now()
        unsound: dict[ObjectName, BackupdError] = {}
        self._cache.refresh(self._repository, unsound, keeper.threads)
        seen = survey(self._repository, keeper.threads)
        stored = {
            generation: self._cache.packs.refresh(self._repository, generation, keeper.threads, unsound, listed)
            for generation, listed in seen.packs.items()
        }
        self._cache.packs.forget_but(seen.generations())
        sort_out(unsound, seen, self._cache.packs)
        proven = proven_on(keeper.book.chain.entries(), self._name)
        self._check_records(seen, proven)
        held = find_pins(keeper, self._cache)
        times = RecordTimes(keeper, self._name, seen, self._cache)
        dated = times.dated(proven)
        decided = decide(dated, keeper.rules.retention, now, times.lines())
        decisions = [held.overrule(one, seen.records) for one in decided]
        leaving = {one.snapshot.name for one in decisions if not one.keep}
        examined = self._examine_all(seen, stored, leaving, held)
        unread, uploads = times.outlived(held), leftovers(seen.uploads, grace_before(now, LONGEST_RUN))
        look_for_moved([*unread, *uploads], seen, keeper, self._name, self._cache.packs)
        removals, left, ended = [], dict(seen.damaged), seen.ended()
        for generation in seen.generations():
            running = runs_under_way(self._repository.store, generation, now, ended)
            if running:
                left.setdefault(generation, f"run {running[0]} adds to it")
            elif first_awaited(self._repository.store, generation) is not None:
                left.setdefault(generation, "something was handed in for it, and waits for `backupd ingest`")
            if generation not in left and (removal := examined[generation].plan(seen)):
                removals.append(removal)
        return ExpiryPlan(
            store=self._name,
            decisions=tuple(decisions),
            removals=tuple(removals),
            uploads=() if seen.lacking else uploads,
            reductions=find_reductions(held, seen.records, leaving, seen.damaged),
            alarms=tuple(upcoming_losses(dated, keeper.rules.retention, now)),
            left_alone=left,
            junk={name: error.message for name, error in sorted(seen.junk.items())},
            unread=tuple(item for item in unread if item.name not in seen.moved),
            known=seen.known,
            ended=ended,
            at=now,
        )

    def execute(self, wanted: ExpiryPlan, confirmed: int | None = None) -> Expired:
        """Execute a plan; returns when the removed objects were listed again and are absent.

        `confirmed` is the number of snapshots that somebody agreed to. Raises RefusedError for a clock that cannot be
        trusted, now or when the plan was made, or a number that needs a confirmation, before anything is removed, and
        StoreError when something is still listed.
        """
        keeper = self._keeper
        check_clock(keeper, self._name)
        check_plan(wanted.at, keeper)
        self._cache.note_look(wanted.at)
        check_number(len(wanted.expiring), keeper.rules.most_snapshots, confirmed, "snapshots")
        if not wanted.objects:
            return Expired(store=self._name, snapshots=0, objects=0, bytes=0)
        with Phases(keeper.clock, keeper.trace, keeper.region).phase("expiring", wanted.objects, "objects"):
            named = NamedSections(self._cache.packs)
            made = {
                publish_reduced(keeper, self._name, name, kept, named)
                for name, kept in sorted(wanted.reductions.items())
            }
            # In the ledger before anything goes: a writer that reads it checks what is still there.
            readable = {decision.snapshot.name for decision in wanted.decisions}
            unread = {place.snapshot for item in wanted.unread if (place := layout.place_of(item.name)).snapshot}
            leaving = in_entries(sorted({*wanted.expiring, *(unread - readable)}))
            began: list[Event] = [ExpiryBegan(store=self._name, snapshots=names) for names in leaving]
            for one in began[:-1]:
                keeper.book.append(partial(_said, one))
            keeper.book.append(lambda _: [began[-1], *self._aging(wanted.removals)])
            keeper.book.give(self._name)
            # Records of generations that are left alone go, too: what only they need goes when nobody adds there any
            # more.
            for name in sorted(wanted.expiring):
                self._repository.store.remove(layout.record_name(self._repository.generation_of(name), name))
            for item in wanted.unread:
                self._repository.store.remove(item.name)
            gone = [*wanted.unread, *self._remove(wanted, wanted.known | made)]
            self._check_gone(wanted, gone)
            size = sum(one.size for one in gone)
            done = Expired(store=self._name, snapshots=len(wanted.expiring), objects=len(gone), bytes=size)
            keeper.book.append(lambda _: [done])
        return done

    def _examine_all(
        self,
        seen: SurveyedStore,
        stored: Mapping[GenerationId, Sequence[StoredPack]],
        leaving: set[SnapshotName],
        held: HoldPins,
    ) -> dict[GenerationId, _Examined]:
        """Look what each generation has and needs, also where nothing can be removed today: what it lacks may lie where
        something else is to be.
        """
        found: dict[GenerationId, _Examined] = {}
        for generation in seen.generations():
            try:
                found[generation] = self._examine(generation, seen, stored.get(generation, []), leaving, held)
            except UNSOUND as error:
                seen.lack(generation, error)
        return found

    def _examine(
        self,
        generation: GenerationId,
        seen: SurveyedStore,
        stored: Sequence[StoredPack],
        leaving: set[SnapshotName],
        held: HoldPins,
    ) -> _Examined:
        keeper, now = self._keeper, self._keeper.clock.now()
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
        for pack in stored:
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
            for name in leaving & records.keys()
            if (kept := held.keeps(records[name]))
        ]
        shown = StoredGeneration(
            generation=generation,
            staying=tuple(staying),
            leaving=tuple(leaving & records.keys()),
            packs=tuple(packs),
            keyrings=seen.keyrings[generation],
            others=tuple(seen.marks[generation]),
            expired=frozenset(sha256 for name in leaving & records.keys() for sha256, _, _ in records[name].packs),
            junk={
                sha256: Item(info.name, info.size, info.modified)
                for sha256, info in seen.packs[generation].items()
                if info.name in seen.junk
            },
        )
        needs = find_needs(shown, limits.classes)
        self._check_whole(shown, needs, class_of)
        return _Examined(shown, needs, limits)

    def _check_records(self, seen: SurveyedStore, proven: set[SnapshotName]) -> None:
        """Raise DamageError for a record that is gone without an expiry.

        What it needs would otherwise pass for something that nobody needs. One that was never believed may go: anybody
        who may add could have put it there.
        """
        once = (self._cache.records() | proven) - expired_on(self._keeper.book.chain.entries(), self._name)
        vanished = once - seen.known
        if vanished:
            raise DamageError(
                f"record '{min(vanished)}' is gone, and the ledger knows of no expiry",
                hint="Nothing is removed until it is back. Somebody removed it, or moved it into tmp/: put it back "
                "from there, from another store, or from the store's own snapshots (`backupd manual incidents`).",
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
                raise DamageError(f"keyring '{run}' of '{pack.item.name}' is missing")
            lost = needs[pack.sha256].live & ~pack.there
            header = self._cache.packs.header(shown.generation, pack.sha256) if lost else None
            for place in bits_of(lost) if header is not None else ():
                segment = header.rows[place].segment if header is not None else Pseudonym("")
                if segment not in purged and class_of.get(segment) not in aged:
                    raise DamageError(
                        f"section {place} of '{pack.item.name}', of segment {segment}, is missing, and no purge took it"
                    )

    def _aging(self, removals: Iterable[Removal]) -> list[Event]:
        now = self._keeper.clock.now()
        tags = self._keeper.tags
        return [
            ClassExpired(store=self._name, generation=removal.generation, class_tag=tag, before=stamp(now - age))
            for removal in removals
            for name, age in sorted(self._keeper.rules.max_ages.items())
            if (tag := tags.class_tag(removal.generation, name)) in removal.aged
        ]

    def _remove(self, wanted: ExpiryPlan, known: frozenset[SnapshotName]) -> list[Item | Rewrite]:
        """Remove everything except the records.

        Returns what was done. Generations that a run is adding to stay as they are.
        """
        gone: list[Item | Rewrite] = []
        for item in wanted.uploads:
            self._repository.store.remove(item.name)
            gone.append(item)
        for removal in wanted.removals:
            mark = layout.keeper_mark(removal.generation)
            steps = [step for step in removal.steps if isinstance(step, Rewrite) or step.name != mark]
            done: list[Item | Rewrite] = []
            try:
                while True:
                    done += self._do_some(removal.generation, steps[len(done) :], known, wanted.ended)
                    if len(done) == len(steps):
                        break
            except BusyError as error:
                self._keeper.trace.emit(Warned(error.message, error.hint))
            gone += done
        return gone

    def _do_some(
        self,
        generation: GenerationId,
        steps: list[Item | Rewrite],
        known: frozenset[SnapshotName],
        ended: EndedRuns,
    ) -> list[Item | Rewrite]:
        """Do as many steps as one mark allows: when it is old, nobody heeds it any more."""
        store, clock = self._repository.store, self._keeper.clock
        with removal_marked(store, generation, self._name, clock, ended):
            self._check_no_news(generation, known)
            until = clock.now() + LONGEST_REMOVAL / 2
            for number, step in enumerate(steps):
                if clock.now() > until:
                    return steps[:number]
                if isinstance(step, Item):
                    store.remove(step.name)
                else:
                    self._rewrite(generation, step)
        return steps

    def _rewrite(self, generation: GenerationId, rewrite: Rewrite) -> None:
        header = self._cache.packs.header(generation, rewrite.sha256)
        if header is not None:
            take_out(self._keeper, self._name, header, lambda _: rewrite.sections)

    def _check_no_news(self, generation: GenerationId, known: frozenset[SnapshotName]) -> None:
        """Raise BusyError when a run added a record since the plan: it may need what the plan thought nobody needs."""
        there = {name for place, name in self._repository.records() if place == generation}
        if there - known:
            raise BusyError(f"a snapshot was added to generation {generation} meanwhile", hint="It is left as it is.")

    def _check_gone(self, wanted: ExpiryPlan, gone: list[Item | Rewrite]) -> None:
        removed: set[str] = {step.name for step in gone if isinstance(step, Item)} | set(wanted.expiring)
        for info in self._repository.store.list(ObjectName("")):
            if info.name in removed or layout.place_of(info.name).snapshot in removed:
                raise StoreError(
                    f"'{info.name}' was removed and is still listed",
                    hint="Check the store; the next run tries again.",
                )


def _recorded(
    name: SnapshotName, record: Record, sizes: Mapping[ObjectHash, int], packs: Sequence[PackRef] | None = None
) -> Recorded:
    """Return what a record names, or will name: `packs`. `sizes` gives the number of each pack's sections.

    Raises DamageError for a pack that is missing, and for sections that it does not list.
    """
    sections: dict[ObjectHash, int] = {}
    for sha256, manifests, others in record.packs if packs is None else packs:
        if sha256 not in sizes:
            raise DamageError(f"'{layout.pack_name(record.generation, sha256)}' is missing, and a record names it")
        try:
            mask = to_mask(manifests, sizes[sha256]) | to_mask(others, sizes[sha256])
        except ValueError as error:
            raise DamageError(f"record '{name}' names sections that its packs do not list") from error
        sections[sha256] = sections.get(sha256, 0) | mask
    return Recorded(name, _exported(record), sections)


def _said(event: Event, _: TenantStates) -> list[Event]:
    return [event]


def _exported(record: Record) -> datetime:
    return parse_stamp(record.exported)
