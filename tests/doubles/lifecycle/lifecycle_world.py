"""A region with two stores, a writer and a keeper in virtual time: everything that can happen to a tenant can be done.

What is checked after each happening is counted by the clerk (`lifecycle_model`) and read from the stores' bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

from doubles.lifecycle.lifecycle_model import OWN, Clerk, NotedHold, NotedLife
from doubles.lifecycle.lifecycle_observer import LifecycleObserver, incarnation_of
from doubles.stores.fake_writer import FakeWriter, Made, segment
from doubles.stores.memory_store import Killed, KillingFuse, Line, MachineClock, MemoryStore, VirtualTime

from backupd.errors import BusyError, RefusedError, StoreError, StoreGoneError
from backupd.model.documents import RepositoryInfo
from backupd.model.ids import Pseudonym, RegionName, RepositoryId, TenantId
from backupd.model.ledger import Event
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.expiry.run import Expiry
from backupd.operations.keeper.purge import purge_due
from backupd.operations.keeper.types import Keeper, Rules
from backupd.operations.ledger import Book, LedgerPlace
from backupd.planning import lifecycle
from backupd.planning.deadlines import DeletionBudget
from backupd.planning.deadlines import dates as window_dates
from backupd.planning.incarnations import IncarnationKey, TenantStates, fold
from backupd.planning.lifecycle import ClockDates
from backupd.planning.retention import RetentionPolicy
from backupd.repository.ledger import Chain, read_chain
from backupd.repository.marks import LONGEST_REMOVAL
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags

suite.signed_by = lru_cache(1 << 16)(suite.signed_by)
"""A process reads the whole ledger when it begins, and here are thousands of processes."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
REGION = RegionName("be")
TENANTS = ("ada", "bob", "eve")
SHORT = "logs"
"""A class with a maximum age."""
SHORT_AGE = 3 * DAY
KEEP = 6 * DAY
STORE_SNAPSHOTS = 2
RELEASE_WITHIN = 2 * DAY
TOLERANCE = timedelta(minutes=5)
GRACE = 2 * DAY
BUDGET = DeletionBudget(
    window=40 * DAY,
    expiry_gap=2 * DAY,
    store_snapshots=(STORE_SNAPSHOTS + 1) * DAY,
    clock=DAY,
    repair=8 * DAY,
    grace=2 * DAY,
    early=DAY,
    purge_after=6 * DAY,
)
POLICY = RetentionPolicy(keep_within=KEEP, daily=0, weekly=0, monthly=0, max_age=KEEP, keep_minimum=0)
LONGEST_OUTAGE = 3 * DAY
STRAGGLING = 3 * DAY
"""Behind a purge, until what was told of it is final."""


@dataclass
class UnderWay:
    """A run of the writer that stands at some stage."""

    steps: Generator[str, None, None]
    fuse: KillingFuse
    made: Made
    began: datetime
    epochs: dict[tuple[str, str], int]
    """Of every tenant and scope, as the ledger stood when the run read it."""


@dataclass
class World:
    """Everything there is. `folder` takes the indexes and censuses."""

    folder: Path
    random: Callable[[int], bytes] = os.urandom
    time: VirtualTime = field(default_factory=VirtualTime)
    clerk: Clerk = field(default_factory=Clerk)

    def __post_init__(self) -> None:
        self.start = self.time.now
        self.stores = {name: MemoryStore(self.time) for name in ("near", "far")}
        self.down_until = dict.fromkeys(self.stores, self.time.now)
        self.copies = {who: MemoryStore(self.time) for who in ("keeper", "writer")}
        self.clocks = {who: MachineClock(self.time) for who in ("keeper", "writer")}
        self.identity, self.signer, self.keeper_key = suite.generate(), Signer(self.random(32)), Signer(self.random(32))
        self.tags = TenantTags(bytes(range(32)), REGION)
        self.repository = RepositoryId(self.random(16).hex())
        self.rows: dict[SegmentName, list[bytes]] = {}
        self.owners: dict[Pseudonym, tuple[SegmentName, int]] = {}
        self.under_way: dict[str, UnderWay] = {}
        self.kept = self.time.now
        """When the keeper last ran to its end."""
        self.broken_off = self.time.now - DAY
        """When one was last killed, or lost a store."""
        self.counter = 0
        self._epochs: dict[tuple[str, str], int] = {}
        self._seen, self._folded = Chain(REGION, self.repository), dict[int, TenantStates]()
        self.observer = LifecycleObserver(self)
        self.writer = FakeWriter(
            folder=self.folder / "writer",
            region=REGION,
            recipient=self.identity.public,
            signer=self.signer,
            keepers=frozenset({self.keeper_key.public}),
            tags=self.tags,
            ledger=self.copies["writer"],
            clock=self.clocks["writer"],
            random=self.random,
            own_clocks=frozenset({OWN}),
            generation_length=4 * DAY,
            met=self._met,
        )
        info = RepositoryInfo(
            repository=self.repository,
            region=REGION,
            created=stamp(self.time.now),
            signers=[self.signer.public, self.keeper_key.public],
            keepers=[self.keeper_key.public],
        )
        for store in self.stores.values():
            Repository(store, info.signers).put_info(info, self.signer)
        for data_class in ("structure", "uploaded"):
            self.write(None, data_class)
        for tenant in TENANTS:
            self.write(tenant, "uploaded")

    # ---- the application

    def write(self, tenant: str | None, data_class: str) -> None:
        """A row more."""
        self.counter += 1
        rows = self.rows.setdefault(segment(data_class, tenant), [])
        rows.append(f"row {self.counter} of {tenant}\n".encode())

    def empty(self, tenant: str) -> None:
        """The application purges the tenant."""
        for name in [name for name in self.rows if name.tenant == tenant]:
            del self.rows[name]

    # ---- the writer

    def backup(self, store: str, fuse: KillingFuse | None = None) -> None:
        """A run from beginning to end, or to its death."""
        self.kill(store)
        self.step(store, fuse or KillingFuse(), stages=9)
        self.kill(store)

    def step(self, store: str, fuse: KillingFuse | None = None, stages: int = 1) -> None:
        """Begin a run, or take the one under way some stages further."""
        if store not in self.under_way:
            made, fuse = Made(), fuse or KillingFuse()
            line = Line(self.stores[store], fuse, lambda: self.is_down(store))
            copy = Line(self.copies["writer"], fuse)
            content = {name: list(rows) for name, rows in self.rows.items()}
            steps = self.writer.run(store, line, content, made, copy)
            self.under_way[store] = UnderWay(steps, fuse, made, self.time.now, self.clerk.epochs())
        run = self.under_way[store]
        self._epochs = run.epochs
        try:
            for _ in range(stages):
                next(run.steps)
                self.tick()
        except (StopIteration, Killed, StoreGoneError, BusyError):
            del self.under_way[store]
        if run.made.record is not None and run.made.snapshot is not None:
            self.observer.published(store, run.made.snapshot, run.made.record)
            run.made.record = None

    def kill(self, store: str) -> None:
        """Whatever run is under way there ends here."""
        run = self.under_way.pop(store, None)
        if run is not None:
            run.fuse.blown = True
            with suppress(Killed):
                run.steps.close()

    def _met(self, pseudonym: Pseudonym, name: SegmentName) -> None:
        epoch = 0 if name.tenant is None else self._epochs.get((name.tenant, incarnation_of(name)), 1)
        known = self.owners.setdefault(pseudonym, (name, epoch))
        assert known == (name, epoch), "a segment of one incarnation goes on in another"

    # ---- the desk

    def tenant(self, name: str) -> TenantId:
        return self.tags.tenant_id(name)

    def told(self, decide: Callable[[TenantStates], list[Event]], fuse: KillingFuse | None = None) -> bool:
        """Whether the command was acknowledged; a desk that died is asked again, so that it is known what holds."""
        for attempt in (fuse or KillingFuse(), KillingFuse()):
            try:
                book = Book(self._place(attempt))
                book.sync()
                self.see_purges()  # one that a keeper had signed when it died is finished by whoever comes next
                book.append(decide)
            except Killed:
                continue
            except (StoreGoneError, RefusedError):
                return False
            return True
        return False

    def _dates(self, *, early: bool) -> ClockDates:
        now = self.clocks["keeper"].now()
        found = window_dates(now, BUDGET, early=early)
        return ClockDates(now, found.deadline, now if early else found.purge_by)

    def unsubscribe(self, name: str, scope: str, fuse: KillingFuse | None = None) -> None:
        dates, incarnation = self._dates(early=False), self.clerk.current(name, scope)
        told = self.told(lambda states: lifecycle.unsubscribe(states, self.tenant(name), dates, scope), fuse)
        if told and incarnation.dates is None and incarnation.purged is None:
            incarnation.dates = dates

    def resubscribe(self, name: str, scope: str, fuse: KillingFuse | None = None) -> None:
        self.see_purges()
        if self.clerk.current(name, scope).dates is None:
            return
        if self.told(lambda states: lifecycle.resubscribe(states, self.tenant(name), scope), fuse):
            self.clerk.came_back(name, scope)

    def erase(self, name: str, scope: str, fuse: KillingFuse | None = None) -> None:
        self.see_purges()
        dates, incarnation = self._dates(early=True), self.clerk.current(name, scope)
        told = self.told(lambda states: lifecycle.erase(states, self.tenant(name), dates, scope), fuse)
        if (
            told
            and incarnation.purged is None
            and (incarnation.dates is None or self.clerk.purge_by(incarnation) > dates.purge_by)
        ):
            before = self.clerk.gone_by(incarnation, RELEASE_WITHIN) if incarnation.dates else dates.deadline
            incarnation.dates = ClockDates(dates.since, min(dates.deadline, before), dates.purge_by)
            incarnation.erased = dates.since

    def move(self, name: str, fuse: KillingFuse | None = None) -> None:
        dates, incarnation = self._dates(early=False), self.clerk.current(name, "")
        told = self.told(lambda states: lifecycle.move(states, self.tenant(name), dates, "nl"), fuse)
        if told and incarnation.purged is None and incarnation.dates is None:
            incarnation.dates = dates

    def hold(self, name: str, reference: str, fuse: KillingFuse | None = None) -> None:
        review = self.time.now + 30 * DAY
        known = self.clerk.holds.setdefault(name, {})
        if self.told(lambda states: lifecycle.hold(states, self.tenant(name), reference, review), fuse):
            assert reference not in known or known[reference].released is None
            if reference not in known:
                known[reference] = NotedHold(self.time.now)
                self.observer.promise(name)

    def release(self, name: str, reference: str, fuse: KillingFuse | None = None) -> None:
        due = self.time.now + RELEASE_WITHIN
        if self.told(lambda states: lifecycle.release(states, self.tenant(name), reference, due), fuse):
            hold = self.clerk.holds[name][reference]
            if hold.released is None:
                hold.released, hold.due = self.time.now, due

    # ---- the keeper

    def keep(self, fuse: KillingFuse | None = None) -> None:
        """A run of the keeper over everything; what it may not touch is compared before and after."""
        before = {name: dict(store.objects) for name, store in self.stores.items()}
        fuse, began = fuse or KillingFuse(), self.time.now
        try:
            clean = self._keep(fuse)
        except (Killed, StoreGoneError):
            clean = False
        if not clean:
            self.broken_off = self.time.now
        self.see_purges()
        for name, objects in before.items():
            self.observer.compare(name, objects, began)
        if clean:
            self.kept = self.time.now
            self.observer.after_keeper_runs()

    def _keep(self, fuse: KillingFuse) -> bool:
        place = self._place(fuse)
        book = Book(place)
        book.sync()
        keeper = self._keeper(place, book)
        done = purge_due(keeper, confirmed=len(book.states.due(keeper.clock.now())))
        errors = [*done.errors.values()]
        for name in self.stores:
            try:
                with KeyringCache.opened(keeper.cache_path(name), self.repository, keeper.tags) as census:
                    expiry = Expiry(keeper, name, census)
                    expiry.execute(expiry.plan())
            except StoreError as error:
                errors.append(error)
        unexpected = [error for error in errors if not isinstance(error, self._expected())]
        assert not unexpected, [(type(error), error.message) for error in unexpected]
        assert not done.refused, done.refused
        return not errors

    def _expected(self) -> tuple[type[Exception], ...]:
        """What may stand in a keeper's way: stores that are away, and for an hour the marks of one that was killed."""
        marked = self.time.now - self.broken_off < LONGEST_REMOVAL + 2 * TOLERANCE
        return (StoreGoneError, BusyError) if marked else (StoreGoneError,)

    def _place(self, fuse: KillingFuse) -> LedgerPlace:
        return LedgerPlace(
            REGION,
            self.repository,
            {name: Line(store, fuse, partial(self.is_down, name)) for name, store in self.stores.items()},
            Line(self.copies["keeper"], fuse),
            frozenset({self.keeper_key.public}),
            self.clocks["keeper"],
            self.keeper_key,
            TOLERANCE,
        )

    def _keeper(self, place: LedgerPlace, book: Book) -> Keeper:
        signers = [self.signer.public, self.keeper_key.public]
        return Keeper(
            region=REGION,
            repository=self.repository,
            stores={name: Repository(store, signers, place.trusted) for name, store in place.stores.items()},
            book=book,
            tags=self.tags,
            rules=Rules(POLICY, {SHORT: SHORT_AGE}, frozenset({OWN}), TOLERANCE, most_tenants=9, most_snapshots=99),
            signer=self.keeper_key,
            state=self.folder / "keeper",
            clock=place.clock,
            random=self.random,
            threads=1,
        )

    def see_purges(self) -> None:
        """Note which purges have begun, each of which must have been allowed.

        An entry counts from the first place that has it: a keeper may die between a store and its own copy.
        """
        places = [self.copies["keeper"], *self.stores.values()]
        chains = [read_chain(place, self._seen, [self.keeper_key.public])[0] for place in places]
        self._seen = max(chains, key=lambda chain: len(chain.links))
        states = self._folded.get(len(self._seen.links)) or fold(self._seen.entries())
        self._folded = {len(self._seen.links): states}
        for incarnation in self.clerk.all():
            key = (self.tenant(incarnation.tenant), incarnation.epoch, incarnation.scope)
            found = states.incarnations.get(IncarnationKey(*key))
            if found is not None and found.purge is not None and incarnation.purged is None:
                assert self.clerk.may_be_purged(incarnation, self.time.now, TOLERANCE), "a purge began that was not due"
                incarnation.purged = found.purge.began
            if found is not None and found.purge is not None:
                everywhere = found.purge.stores <= found.purge.absent.keys()
                incarnation.proven = everywhere and self.time.now - found.purge.began > STRAGGLING

    # ---- the world

    def is_down(self, store: str) -> bool:
        return self.time.now < self.down_until[store]

    def outage(self, store: str, hours: int) -> None:
        """The store is away; never so long, with what came before, that nobody could repair it in time."""
        rested = self.time.now - self.down_until[store] > 12 * DAY or self.down_until[store] == self.start
        if rested and all(not self.is_down(name) for name in self.stores):
            self.down_until[store] = self.time.now + min(hours * HOUR, LONGEST_OUTAGE)

    def tick(self, span: timedelta = timedelta(seconds=30)) -> None:
        self.time.now += span

    def advance(self, span: timedelta) -> None:
        """Time passes: stores make their snapshots, the keeper comes as often as it must, runs do not last for ever."""
        until = self.time.now + span
        while self.time.now < until:
            midnight = (self.time.now + DAY).replace(hour=0, minute=0, second=0, microsecond=0)
            due = self.kept + BUDGET.expiry_gap - 6 * HOUR
            after = max(due, self.time.now + 3 * HOUR)  # tried again, where a store was away
            longest = min((run.began + 23 * HOUR for run in self.under_way.values()), default=until)
            target = min(until, midnight, after, max(longest, self.time.now + timedelta(minutes=1)))
            self.time.now = max(self.time.now, target)
            for name, run in list(self.under_way.items()):
                if self.time.now >= run.began + 23 * HOUR:
                    self.step(name, stages=9)
                    self.kill(name)
            if self.time.now >= midnight:
                for store in self.stores.values():
                    store.take_snapshot(STORE_SNAPSHOTS)
                self.observer.check()
            if self.time.now >= due:
                self.keep()
        self.observer.check()

    def end(self) -> None:
        """Let every date pass that was told; then nothing of it may be left."""
        for name in self.stores:
            self.kill(name)
        for name, holds in self.clerk.holds.items():
            for reference, hold in holds.items():
                if hold.released is None:
                    self.release(name, reference)
        self.see_purges()
        pending = [self.gone_by(one) for one in self.clerk.all() if one.dates is not None]
        last = max([self.time.now, *self.down_until.values(), *pending])
        self.advance(last - self.time.now + HOUR)
        self.keep()
        self.observer.check()
        self.observer.check_ledgers()

    def gone_by(self, incarnation: NotedLife) -> datetime:
        vanishing = BUDGET.expiry_gap + BUDGET.store_snapshots + BUDGET.clock + BUDGET.repair
        return self.clerk.gone_by(incarnation, vanishing)
