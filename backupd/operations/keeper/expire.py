"""Expire snapshots of one store: decide, write the intent into the ledger, remove, list again.

Runs whether or not backups succeed. Downloads records (once), the clear headers of parts (once), and no pack.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from backupd.errors import UNSOUND, BackupdError, BusyError, DamageError, StoreError
from backupd.model.documents import Record
from backupd.model.ids import ClassTag, GenerationId, ObjectHash, ObjectName, Pseudonym, RunId, SnapshotName
from backupd.model.ledger import ClassExpired, Event, Expired, ExpiryBegan
from backupd.model.text import parse_stamp, stamp
from backupd.operations.keeper.guards import check_clock, check_number, check_plan
from backupd.operations.keeper.holds import HoldPins, StoreSurvey, find_pins, find_reductions, publish_reduced, survey
from backupd.operations.keeper.types import Keeper
from backupd.operations.phases import Phases
from backupd.parallel import in_parallel
from backupd.planning.expiry import (
    ExpiryLimits,
    Item,
    Recorded,
    Removal,
    StoredGeneration,
    grace_before,
    leftovers,
    live_parts,
    plan,
)
from backupd.planning.ledger_facts import expired_on, explain_absences, proven_on
from backupd.planning.retention import Dated, Decision, RetentionAlarm, decide, upcoming_losses
from backupd.planning.verify import ContainerKey, Stored
from backupd.repository import layout
from backupd.repository.container_check import ContainerChecker
from backupd.repository.incoming import first_awaited
from backupd.repository.marks import LONGEST_REMOVAL, LONGEST_RUN, removal_marked, runs_under_way
from backupd.repository.state.keyring_cache import KeyringCache
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
    known: frozenset[SnapshotName]
    """Every record the plan took into account."""
    ended: frozenset[RunId]
    """Runs whose records the plan took into account."""
    at: datetime
    """When the plan was made, by this machine's clock."""

    @property
    def expiring(self) -> list[SnapshotName]:
        """Names of the snapshots that expire."""
        return [decision.snapshot.name for decision in self.decisions if not decision.keep]

    @property
    def objects(self) -> int:
        """Number of objects to be removed, records included."""
        return len(self.expiring) + sum(len(removal.items) for removal in self.removals) + len(self.uploads)

    @property
    def bytes(self) -> int:
        """Bytes of all objects to be removed except the records."""
        return sum(item.size for removal in self.removals for item in removal.items) + sum(
            item.size for item in self.uploads
        )


class Expiry:
    """The expiry of one store. For one thread."""

    def __init__(self, keeper: Keeper, store: str, cache: KeyringCache) -> None:
        self._keeper = keeper
        self._name = store
        self._repository = keeper.stores[store]
        self._cache = cache

    def plan(self) -> ExpiryPlan:
        """Decide which objects expire now.

        Raises the store's errors; a record, keyring or part that cannot be believed keeps its generation as it is.
        """
        keeper, now = self._keeper, self._keeper.clock.now()
        unsound: dict[ObjectName, BackupdError] = {}
        self._cache.refresh(self._repository, unsound)
        seen = survey(self._repository)
        seen.damaged |= {
            place.generation: error.message
            for name, error in unsound.items()
            if (place := layout.place_of(name)).generation
        }
        proven = proven_on(keeper.book.chain.entries(), self._name)
        self._check_records(seen, proven)
        held = find_pins(keeper, self._cache)
        dated = [_dated(record, name in proven, name) for name, record in seen.records.items()]
        decisions = [held.overrule(one, seen.records) for one in decide(dated, keeper.rules.retention, now)]
        leaving = {one.snapshot.name for one in decisions if not one.keep}
        removals, left = [], dict(seen.damaged)
        for generation in seen.generations():
            running = runs_under_way(self._repository.store, generation, now, seen.ended())
            if running:
                left.setdefault(generation, f"run {running[0]} adds to it")
            elif first_awaited(self._repository.store, generation) is not None:
                left.setdefault(generation, "something was handed in for it, and waits for `backupd ingest`")
            if generation in left:
                continue
            try:
                removal = self._of_generation(generation, seen, leaving, held)
            except UNSOUND as error:
                left[generation] = seen.damaged[generation] = error.message
            else:
                removals += [removal] if removal else []
        return ExpiryPlan(
            store=self._name,
            decisions=tuple(decisions),
            removals=tuple(removals),
            # A missing object may be there: somebody who may rename but not remove could have moved it.
            uploads=() if seen.damaged else leftovers(seen.uploads, grace_before(now, LONGEST_RUN)),
            reductions=find_reductions(held, seen.records, leaving),
            alarms=tuple(upcoming_losses(dated, keeper.rules.retention, now)),
            left_alone=left,
            known=seen.known,
            ended=seen.ended(),
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
        check_number(len(wanted.expiring), keeper.rules.most_snapshots, confirmed, "snapshots")
        if not wanted.objects:
            return Expired(store=self._name, snapshots=0, objects=0, bytes=0)
        with Phases(keeper.clock, keeper.trace, keeper.region).phase("expiring", wanted.objects, "objects"):
            made = {publish_reduced(keeper, self._name, name, kept) for name, kept in sorted(wanted.reductions.items())}
            # In the ledger before anything goes: a writer that reads it checks what is still there.
            began = ExpiryBegan(store=self._name, snapshots=sorted(wanted.expiring))
            keeper.book.append(lambda _: [began, *self._aging(wanted.removals)])
            keeper.book.give(self._name)
            # Records of generations that are left alone go, too: what only they need goes when nobody adds there any
            # more.
            for name in sorted(wanted.expiring):
                self._repository.store.remove(layout.record_name(self._repository.generation_of(name), name))
            gone = self._remove(wanted, wanted.known | made)
            self._check_gone(wanted, gone)
            size = sum(item.size for item in gone)
            done = Expired(store=self._name, snapshots=len(wanted.expiring), objects=len(gone), bytes=size)
            keeper.book.append(lambda _: [done])
        return done

    def _of_generation(
        self, generation: GenerationId, seen: StoreSurvey, leaving: set[SnapshotName], held: HoldPins
    ) -> Removal | None:
        keeper, now = self._keeper, self._keeper.clock.now()
        class_of = {one.pseudonym: one.data_class for one in self._cache.of_generation(generation)}
        limits = ExpiryLimits(
            grace=grace_before(now, LONGEST_RUN),
            classes={keeper.tags.class_tag(generation, name): now - age for name, age in keeper.rules.max_ages.items()},
        )
        records = {name: record for name, record in seen.records.items() if record.generation == generation}
        staying = tuple(_recorded(name, record) for name, record in records.items() if name not in leaving)
        going = tuple(
            _recorded(name, record, held.keeps(record)) for name, record in records.items() if name in leaving
        )
        shown = StoredGeneration(
            generation=generation,
            # A reduced record will name what a hold keeps before anything is removed.
            staying=staying + tuple(one for one in going if one.parts),
            leaving=tuple(one.name for one in going),
            parts=seen.parts[generation],
            packs=seen.packs[generation],
            keyrings=tuple(seen.keyrings[generation]),
            others=tuple(seen.marks[generation]),
        )
        live, aged = live_parts(shown.staying, class_of, limits, held.pinned(generation))
        headers = self._headers(generation, live, seen.parts[generation])
        self._check_whole(shown, live, headers, class_of)
        return plan(shown, live, {key: class_of[key.segment] for key in aged}, headers, limits)

    def _check_records(self, seen: StoreSurvey, proven: set[SnapshotName]) -> None:
        """Raise DamageError for a record that is gone without an expiry.

        What it needs would otherwise pass for something that nobody needs. The records that are there are remembered
        for the next time.
        """
        expired = expired_on(self._keeper.book.chain.entries(), self._name)
        vanished = (self._cache.records() | proven) - seen.known - expired
        if vanished:
            raise DamageError(
                f"record '{min(vanished)}' is gone, and the ledger knows of no expiry",
                hint="Nothing is removed until it is back. Somebody removed it, or moved it into tmp/: put it back "
                "from there, from another store, or from the store's own snapshots (`backupd manual incidents`).",
            )
        self._cache.note_records(seen.known)

    def _check_whole(
        self,
        shown: StoredGeneration,
        live: set[ContainerKey],
        headers: Mapping[ContainerKey, Iterable[ObjectHash]],
        keyed: Mapping[Pseudonym, ClassTag],
    ) -> None:
        """Raise DamageError when something that a record needs is missing, and no purge took it.

        What a missing part needs is not known, so nothing of its generation may be removed.
        """
        entries = self._keeper.book.chain.entries()
        explained = explain_absences(entries, self._name)
        aged = {tag for generation, tag in explained.aged if generation == shown.generation}
        purged = explained.purged_in(shown.generation)
        for key in sorted(live):
            if key.segment in purged or keyed.get(key.segment) in aged:
                continue
            named = {ContainerKey(key.segment, sha256) for sha256 in headers.get(key, ())}
            lost = {key, *named} - shown.parts.keys() - shown.packs.keys()
            if lost or key.segment not in keyed:
                what = f"'{min(lost).sha256}'" if lost else "the keyring"
                raise DamageError(f"{what} of segment {key.segment} is missing, and no purge took it")

    def _headers(
        self, generation: GenerationId, live: set[ContainerKey], stored: Mapping[ContainerKey, Item]
    ) -> dict[ContainerKey, tuple[ObjectHash, ...]]:
        """Return which packs live parts name; headers that were never read before are read now."""
        found: dict[ContainerKey, tuple[ObjectHash, ...]] = {}
        for segment in {key.segment for key in live}:
            packs = self._cache.packs(generation, segment)
            found |= {ContainerKey(segment, part): named for part, named in packs.items()}
        unread = [
            (key, Stored(stored[key].name, "part", stored[key].size)) for key in live - found.keys() if key in stored
        ]
        reader = ContainerChecker(self._repository.store, self._keeper.repository, generation)
        fresh = {
            key: tuple(sha256 for sha256, _ in result.result()[0].packs)
            for (key, _), result in in_parallel(lambda pair: reader.header(*pair), unread, self._keeper.threads)
        }
        self._cache.note_parts(generation, ((key.segment, key.sha256, named) for key, named in fresh.items()))
        return found | fresh

    def _aging(self, removals: Iterable[Removal]) -> list[Event]:
        now = self._keeper.clock.now()
        tags = self._keeper.tags
        return [
            ClassExpired(store=self._name, generation=removal.generation, class_tag=tag, before=stamp(now - age))
            for removal in removals
            for name, age in sorted(self._keeper.rules.max_ages.items())
            if (tag := tags.class_tag(removal.generation, name)) in removal.aged
        ]

    def _remove(self, wanted: ExpiryPlan, known: frozenset[SnapshotName]) -> list[Item]:
        """Remove everything except the records.

        Returns what was removed. Generations that a run is adding to stay as they are.
        """
        gone: list[Item] = []
        for item in wanted.uploads:
            self._repository.store.remove(item.name)
            gone.append(item)
        for removal in wanted.removals:
            items = [item for item in removal.items if item.name != layout.keeper_mark(removal.generation)]
            done: list[Item] = []
            try:
                while True:
                    done += self._remove_some(removal.generation, items[len(done) :], known, wanted.ended)
                    if len(done) == len(items):
                        break
            except BusyError as error:
                self._keeper.trace.emit(Warned(error.message, error.hint))
            gone += done
            removed = {item.name for item in done}
            places = [layout.place_of(item.name) for item in removal.parts if item.name in removed]
            self._cache.forget_parts(
                removal.generation,
                [(place.segment, place.sha256) for place in places if place.segment and place.sha256],
            )
        return gone

    def _remove_some(
        self, generation: GenerationId, items: list[Item], known: frozenset[SnapshotName], ended: frozenset[RunId]
    ) -> list[Item]:
        """Remove as many items as one mark allows: when it is old, nobody heeds it any more."""
        store, clock = self._repository.store, self._keeper.clock
        with removal_marked(store, generation, self._name, clock, ended):
            self._check_no_news(generation, known)
            until = clock.now() + LONGEST_REMOVAL / 2
            for number, item in enumerate(items):
                if clock.now() > until:
                    return items[:number]
                store.remove(item.name)
        return items

    def _check_no_news(self, generation: GenerationId, known: frozenset[SnapshotName]) -> None:
        """Raise BusyError when a run added a record since the plan: it may need what the plan thought nobody needs."""
        there = {name for place, name in self._repository.records() if place == generation}
        if there - known:
            raise BusyError(f"a snapshot was added to generation {generation} meanwhile", hint="It is left as it is.")

    def _check_gone(self, wanted: ExpiryPlan, gone: list[Item]) -> None:
        removed: set[str] = {item.name for item in gone} | set(wanted.expiring)
        for info in self._repository.store.list(ObjectName("")):
            if info.name in removed or layout.place_of(info.name).snapshot in removed:
                raise StoreError(
                    f"'{info.name}' was removed and is still listed",
                    hint="Check the store; the next run tries again.",
                )


def _dated(record: Record, proven: bool, name: SnapshotName) -> Dated:
    return Dated(name, f"{record.database} {record.member or ''}".rstrip(), _exported(record), proven)


def _recorded(name: SnapshotName, record: Record, only: frozenset[Pseudonym] | None = None) -> Recorded:
    keys = (ContainerKey(segment, sha256) for segment, sha256, _ in record.parts)
    return Recorded(name, _exported(record), frozenset(key for key in keys if only is None or key.segment in only))


def _exported(record: Record) -> datetime:
    return parse_stamp(record.exported)
