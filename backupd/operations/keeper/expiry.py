"""Expire snapshots of one store: decide, write the intent into the ledger, remove, list again.

Runs whether or not backups succeed. Downloads records (once), the clear headers of parts (once), and no pack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.catalog.census import Census
from backupd.catalog.marks import LONGEST_RUN, removal_marked, runs_under_way
from backupd.errors import BusyError, DamageError, ObjectMissingError, RefusedError, StoreError
from backupd.model.ids import ObjectName
from backupd.model.instants import parse_stamp, stamp
from backupd.model.ledger import ClassExpired, Expired, ExpiryBegan
from backupd.operations.keeper.guards import check_clock, check_number
from backupd.operations.keeper.holding import Held, find_held, reduced
from backupd.operations.verify.reading import Containers, in_parallel
from backupd.planning.expiry import Item, Limits, Recorded, Removal, Shown, grace_before, leftovers, live_parts, plan
from backupd.planning.proven import proven_on
from backupd.planning.retention import Alarm, Dated, Decision, decide, nearing
from backupd.planning.verify import Key, Stored
from backupd.trace import PhaseDone, PhaseStarted, Warned

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.catalog.repository import Repository
    from backupd.model.documents import Record
    from backupd.model.ids import GenerationId, ObjectHash, Pseudonym, SnapshotName
    from backupd.model.ledger import Event
    from backupd.operations.keeper.values import Keeper

_UNSOUND = (DamageError, RefusedError)


@dataclass(frozen=True, slots=True)
class ExpiryPlan:
    """What an expiry would do on one store: the same object is printed by a dry run and executed."""

    store: str
    decisions: tuple[Decision, ...]
    removals: tuple[Removal, ...]
    uploads: tuple[Item, ...]
    """Leftovers of uploads that were cut off."""
    reductions: Mapping[SnapshotName, frozenset[Pseudonym]]
    """Of these expiring snapshots a hold keeps some segments."""
    alarms: tuple[Alarm, ...]
    left_alone: Mapping[GenerationId, str]
    """Generations nothing is removed from today, and why."""
    known: frozenset[SnapshotName]
    """Every record the plan took into account."""

    @property
    def expiring(self) -> list[SnapshotName]:
        return [decision.snapshot.name for decision in self.decisions if not decision.keep]

    @property
    def objects(self) -> int:
        return len(self.expiring) + sum(len(removal.items) for removal in self.removals) + len(self.uploads)

    @property
    def bytes(self) -> int:
        """Of all but the records."""
        return sum(item.size for removal in self.removals for item in removal.items) + sum(
            item.size for item in self.uploads
        )


@dataclass(slots=True)
class _Seen:
    """One store, read."""

    records: dict[SnapshotName, Record] = field(default_factory=dict)
    known: frozenset[SnapshotName] = frozenset()
    damaged: dict[GenerationId, str] = field(default_factory=dict)
    """Generations with a record that cannot be believed: what it needs is not known, so nothing there is unneeded."""
    parts: dict[GenerationId, dict[Key, Item]] = field(default_factory=lambda: defaultdict(dict))
    packs: dict[GenerationId, dict[Key, Item]] = field(default_factory=lambda: defaultdict(dict))
    keyrings: dict[GenerationId, list[Item]] = field(default_factory=lambda: defaultdict(list))
    marks: dict[GenerationId, list[Item]] = field(default_factory=lambda: defaultdict(list))
    uploads: list[Item] = field(default_factory=list)

    def generations(self) -> list[GenerationId]:
        recorded = {record.generation for record in self.records.values()}
        return sorted({*self.parts, *self.packs, *self.keyrings, *self.marks, *recorded})


class Expiry:
    """The expiry of one store. For one thread."""

    def __init__(self, keeper: Keeper, store: str, census: Census) -> None:
        self._keeper = keeper
        self._name = store
        self._repository = keeper.stores[store]
        self._census = census

    def plan(self) -> ExpiryPlan:
        """What is to go now.

        Raises the store's errors; a record or keyring that cannot be believed keeps its generation as it is.
        """
        keeper, now = self._keeper, self._keeper.clock.now()
        self._census.refresh(self._repository)
        seen = _look(self._repository)
        held = find_held(keeper, self._census)
        proven = proven_on(keeper.book.chain.entries(), self._name)
        dated = [_dated(record, name in proven, name) for name, record in seen.records.items()]
        decisions = [held.overrule(one, seen.records) for one in decide(dated, keeper.rules.retention, now)]
        leaving = {one.snapshot.name for one in decisions if not one.keep}
        reductions = {name: kept for name in leaving if (kept := held.keeps(seen.records[name]))}
        removals, left = [], dict(seen.damaged)
        for generation in seen.generations():
            running = runs_under_way(self._repository.store, generation, now)
            if running:
                left.setdefault(generation, f"run {running[0]} adds to it")
            if generation not in left:
                removal = self._of_generation(generation, seen, leaving, held)
                removals += [removal] if removal else []
        return ExpiryPlan(
            store=self._name,
            decisions=tuple(decisions),
            removals=tuple(removals),
            uploads=leftovers(seen.uploads, grace_before(now, LONGEST_RUN)),
            reductions=reductions,
            alarms=tuple(nearing(dated, keeper.rules.retention, now)),
            left_alone=left,
            known=seen.known,
        )

    def execute(self, wanted: ExpiryPlan, confirmed: int | None = None) -> Expired:
        """Do what was planned; returns when what went was listed again and is absent.

        Raises RefusedError for a clock that cannot be trusted or a number nobody confirmed, before anything is removed,
        and StoreError when something is still listed.
        """
        keeper, begun = self._keeper, self._keeper.clock.monotonic()
        check_clock(keeper, self._name)
        check_number(len(wanted.expiring), keeper.rules.most_snapshots, confirmed, "snapshots")
        keeper.trace.emit(PhaseStarted("expiring", keeper.region, wanted.objects, "objects"))
        if not wanted.objects:
            return Expired(store=self._name, snapshots=0, objects=0, bytes=0)
        made = {reduced(keeper, self._name, name, kept) for name, kept in sorted(wanted.reductions.items())}
        # Told before anything goes: a writer that sees it looks what is still there before it refers to anything.
        began = ExpiryBegan(store=self._name, snapshots=sorted(wanted.expiring))
        keeper.book.append(lambda _: [began, *self._aging(wanted.removals)])
        # Records of generations that are left alone go, too: what only they need goes when nobody adds there any more.
        for name in sorted(wanted.expiring):
            self._repository.store.remove(layout.record_name(self._repository.generation_of(name), name))
        objects, size = self._remove(wanted, wanted.known | made)
        self._check_gone(wanted)
        done = Expired(store=self._name, snapshots=len(wanted.expiring), objects=objects, bytes=size)
        keeper.book.append(lambda _: [done])
        keeper.trace.emit(PhaseDone("expiring", keeper.region, keeper.clock.monotonic() - begun))
        return done

    def _of_generation(
        self, generation: GenerationId, seen: _Seen, leaving: set[SnapshotName], held: Held
    ) -> Removal | None:
        keeper, now = self._keeper, self._keeper.clock.now()
        class_of = {one.pseudonym: one.data_class for one in self._census.of_generation(generation)}
        limits = Limits(
            grace=grace_before(now, LONGEST_RUN),
            classes={keeper.tags.class_tag(generation, name): now - age for name, age in keeper.rules.max_ages.items()},
        )
        records = {name: record for name, record in seen.records.items() if record.generation == generation}
        staying = tuple(_recorded(name, record) for name, record in records.items() if name not in leaving)
        going = tuple(
            _recorded(name, record, held.keeps(record)) for name, record in records.items() if name in leaving
        )
        shown = Shown(
            generation=generation,
            # Of what a hold keeps, a reduced record will say so before anything is removed.
            staying=staying + tuple(one for one in going if one.parts),
            leaving=tuple(one.name for one in going),
            parts=seen.parts[generation],
            packs=seen.packs[generation],
            keyrings=tuple(seen.keyrings[generation]),
            others=tuple(seen.marks[generation]),
        )
        live, aged = live_parts(shown.staying, class_of, limits, held.pinned(generation))
        headers = self._headers(generation, live, seen.parts[generation])
        return plan(shown, live, {key: class_of[key.segment] for key in aged}, headers, limits)

    def _headers(
        self, generation: GenerationId, live: set[Key], stored: Mapping[Key, Item]
    ) -> dict[Key, tuple[ObjectHash, ...]]:
        """What live parts name; those never read before are read now."""
        found: dict[Key, tuple[ObjectHash, ...]] = {}
        for segment in {key.segment for key in live}:
            packs = self._census.packs(generation, segment)
            found |= {Key(segment, part): named for part, named in packs.items()}
        unread = [
            (key, Stored(stored[key].name, "part", stored[key].size)) for key in live - found.keys() if key in stored
        ]
        reader = Containers(self._repository.store, self._keeper.repository, generation)
        fresh = {
            key: tuple(sha256 for sha256, _ in result.result()[0].packs)
            for (key, _), result in in_parallel(lambda pair: reader.header(*pair), unread, self._keeper.threads)
        }
        self._census.note_parts(generation, ((key.segment, key.sha256, named) for key, named in fresh.items()))
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

    def _remove(self, wanted: ExpiryPlan, known: frozenset[SnapshotName]) -> tuple[int, int]:
        store, objects, size = self._repository.store, 0, 0
        for item in wanted.uploads:
            store.remove(item.name)
            objects, size = objects + 1, size + item.size
        for removal in wanted.removals:
            try:
                with removal_marked(store, removal.generation, self._name, self._keeper.clock):
                    self._check_no_news(removal.generation, known)
                    for item in removal.items:
                        store.remove(item.name)
                        objects, size = objects + 1, size + item.size
            except BusyError as error:
                self._keeper.trace.emit(Warned(error.message, error.hint))
                continue
            keys = [layout.place_of(item.name) for item in removal.parts]
            self._census.forget_parts(
                removal.generation, [(place.segment, place.sha256) for place in keys if place.segment and place.sha256]
            )
        return objects, size

    def _check_no_news(self, generation: GenerationId, known: frozenset[SnapshotName]) -> None:
        """A run that began and ended since the plan may need what the plan thought nobody does."""
        there = {name for place, name in self._repository.records() if place == generation}
        if there - known:
            raise BusyError(f"a snapshot was added to generation {generation} meanwhile", hint="It is left as it is.")

    def _check_gone(self, wanted: ExpiryPlan) -> None:
        left = set(wanted.expiring) & set(self._repository.snapshots())
        if left:
            raise StoreError(
                f"record '{min(left)}' was removed and is still listed",
                hint="Check the store; the next run tries again.",
            )


def _look(repository: Repository) -> _Seen:
    listed = repository.records()
    seen = _Seen(known=frozenset(name for _, name in listed))
    for generation, name in listed:
        try:
            seen.records[name] = repository.record(name, generation)
        except _UNSOUND as error:
            seen.damaged[generation] = error.message
        except ObjectMissingError:
            continue
    for info in repository.store.list(ObjectName("")):
        place, item = layout.place_of(info.name), Item(info.name, info.size, info.modified)
        match place.kind:
            case layout.Kind.PART | layout.Kind.PACK if place.generation and place.segment and place.sha256:
                kind = seen.parts if place.kind is layout.Kind.PART else seen.packs
                kind[place.generation][Key(place.segment, place.sha256)] = item
            case layout.Kind.KEYRING if place.generation:
                seen.keyrings[place.generation].append(item)
            case layout.Kind.MARK if place.generation:
                seen.marks[place.generation].append(item)
            case layout.Kind.TEMPORARY:
                seen.uploads.append(item)
    return seen


def _dated(record: Record, proven: bool, name: SnapshotName) -> Dated:
    return Dated(name, f"{record.database} {record.member or ''}".rstrip(), _exported(record), proven)


def _recorded(name: SnapshotName, record: Record, only: frozenset[Pseudonym] | None = None) -> Recorded:
    keys = (Key(segment, sha256) for segment, sha256, _ in record.parts)
    return Recorded(name, _exported(record), frozenset(key for key in keys if only is None or key.segment in only))


def _exported(record: Record) -> datetime:
    return parse_stamp(record.exported)
