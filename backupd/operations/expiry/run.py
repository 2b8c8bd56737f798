"""Expire snapshots of one store: decide, write the intent into the ledger, remove, list again.

Runs whether or not backups succeed. Downloads records, the clear headers of packs (once), and of packs from which
something was taken out their map; no section, but those beside what it takes out of a pack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from backupd.errors import UNSOUND, BusyError, StoreError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.ledger import ClassExpired, Event, Expired, ExpiryBegan, in_entries
from backupd.model.text import stamp
from backupd.operations.expiry.dated_records import RecordTimes
from backupd.operations.expiry.examined_store import ExaminedStore
from backupd.operations.expiry.listed_packs import filed_documents
from backupd.operations.keeper.guards import check_clock, check_number, check_plan
from backupd.operations.keeper.holds import (
    NamedSections,
    find_pins,
    find_reductions,
    publish_reduced,
)
from backupd.operations.keeper.pack_rewrite import take_out
from backupd.operations.keeper.types import Keeper
from backupd.operations.phases import Phases
from backupd.planning.expiry import (
    Item,
    Removal,
    Rewrite,
    grace_before,
    leftovers,
)
from backupd.planning.incarnations import TenantStates
from backupd.planning.ledger_facts import explain_absences
from backupd.planning.retention import Decision, RetentionAlarm, decide, upcoming_losses
from backupd.repository import layout
from backupd.repository.incoming import first_awaited
from backupd.repository.marks import LONGEST_REMOVAL, LONGEST_RUN, EndedRuns, removal_marked, runs_under_way
from backupd.repository.moved_objects import place_by_content, require_in_place
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
    waiting: tuple[Item, ...]
    """Such leftovers that stay, because something is missing, and each may be it."""
    lacking: frozenset[GenerationId]
    """Generations of which something is missing that a record needs."""
    moved: Mapping[ObjectName, str]
    """Objects that stay because they belong elsewhere, and the reason."""
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
    places: Mapping[ObjectHash, ObjectName]
    """Where each record lies that can be believed, by its hash."""
    ended: EndedRuns
    """Runs whose records the plan took into account."""
    ahead: frozenset[SnapshotName]
    """Records that are dated later than the plan, if its clock is right."""
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


class Expiry:
    """The expiry of one store. For one thread."""

    def __init__(self, keeper: Keeper, store: str, cache: KeyringCache) -> None:
        self._keeper = keeper
        self._name = store
        self._repository = keeper.stores[store]
        self._cache = cache
        self._filed: Mapping[ObjectHash, ObjectName] = {}
        self._kept: set[ObjectName] = set()

    def plan(self) -> ExpiryPlan:
        """Decide which objects expire now.

        Raises the store's errors; a record that cannot be believed, and a keyring or pack that a record needs, keeps
        its generation as it is.
        """
        keeper, now = self._keeper, self._keeper.clock.now()
        store = ExaminedStore(keeper, self._name, self._cache)
        seen, held = store.seen, find_pins(keeper, self._cache)
        times = RecordTimes(keeper, self._name, seen, self._cache)
        dated = times.dated(store.proven)
        decided = decide(dated, keeper.rules.retention, now, times.lines())
        decisions = [held.overrule(one, seen.records) for one in decided]
        leaving = {one.snapshot.name for one in decisions if not one.keep}
        examined = store.generations(leaving, held)
        unread, uploads = times.outlived(held), leftovers(seen.uploads, grace_before(now, LONGEST_RUN))
        store.look_for_moved(item.name for item in (*unread, *uploads))
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
            uploads=() if seen.lacking else tuple(item for item in uploads if item.name not in seen.moved),
            waiting=uploads if seen.lacking else (),
            lacking=frozenset(seen.lacking),
            moved=dict(seen.moved),
            reductions=find_reductions(held, seen.records, leaving, seen.damaged),
            alarms=tuple(upcoming_losses(dated, keeper.rules.retention, now)),
            left_alone=left,
            junk={name: error.message for name, error in sorted(seen.junk.items())},
            unread=tuple(item for item in unread if item.name not in seen.moved),
            known=seen.known,
            places={
                ObjectHash(name.rpartition("-")[2]): layout.record_name(record.generation, name)
                for name, record in seen.records.items()
            },
            ended=ended,
            ahead=frozenset(times.ahead()),
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
        self._cache.note_look(wanted.at, wanted.ahead)
        check_number(len(wanted.expiring), keeper.rules.most_snapshots, confirmed, "snapshots")
        if not wanted.objects:
            return Expired(store=self._name, snapshots=0, objects=0, bytes=0)
        repository = ObjectHash(hashlib.sha256(self._repository.read(layout.REPOSITORY, "repository")).hexdigest())
        self._filed = {**filed_documents(keeper.book.chain), **wanted.places, repository: layout.REPOSITORY}
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
                self._take_away(layout.record_name(self._repository.generation_of(name), name))
            cleared = [item for item in wanted.unread if self._take_away(item.name)]
            done_with = [*cleared, *self._remove(wanted, wanted.known | made)]
            gone = [step for step in done_with if isinstance(step, Rewrite) or step.name not in self._kept]
            self._check_gone(wanted, gone)
            size = sum(one.size for one in gone)
            done = Expired(store=self._name, snapshots=len(wanted.expiring), objects=len(gone), bytes=size)
            keeper.book.append(lambda _: [done])
        return done

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
        gone: list[Item | Rewrite] = [item for item in wanted.uploads if self._take_away(item.name)]
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

    def _take_away(self, name: ObjectName) -> bool:
        """Remove what was looked at, unless it is something else of ours by now; returns whether it was removed.

        Who may rename can move what is needed to a name that is about to be removed. What is left to him is the moment
        between this look and the removal.
        """
        where: ObjectName | None = None
        with suppress(*UNSOUND):
            where = place_by_content(self._repository, name, self._filed)
        if where is not None and where != name and self._misses(where, name):
            self._kept.add(name)
            self._keeper.trace.emit(
                Warned(
                    f"'{name}' stays: what belongs at '{where}' was moved there meanwhile",
                    "Somebody who may rename did that: move it back (`backupd manual incidents`).",
                )
            )
            return False
        self._repository.store.remove(name)
        return True

    def _misses(self, where: ObjectName, moved: ObjectName) -> bool:
        """Check whether what lies under another name is ours, and not whole in its own place."""
        if not (where in self._filed.values() or self._cache.has_seen(where)):
            return False
        generation = layout.place_of(where).generation
        explained = explain_absences(self._keeper.book.chain.entries(), self._name)
        try:
            require_in_place(
                self._repository, where, moved, explained.purged_in(generation) if generation is not None else ()
            )
        except UNSOUND:
            return True
        return False

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
                    self._take_away(step.name)
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
            if info.name in self._kept:
                continue
            if info.name in removed or layout.place_of(info.name).snapshot in removed:
                raise StoreError(
                    f"'{info.name}' was removed and is still listed",
                    hint="Check the store; the next run tries again.",
                )


def _said(event: Event, _: TenantStates) -> list[Event]:
    return [event]
