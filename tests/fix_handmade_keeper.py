"""A keeper over real files whose backups are written by hand, of any day in the past: no PostgreSQL, no writer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.holdings import stored_sections
from doubles.stores.hooked_store import HookedStore
from doubles.stores.kept_folder import KeptFolder
from doubles.stores.segments import take_out
from doubles.stores.small_repository import Content, Rows, SmallRepository, facts
from fix_clock import FAR, ShiftedClock

from backupd.model.ids import GenerationId, ObjectName, Pseudonym, RunId, SnapshotName, TenantId
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.keeper.purge import Purging
from backupd.operations.keeper.types import Keeper, Purged, Rules
from backupd.operations.ledger import Book, LedgerPlace
from backupd.planning import lifecycle
from backupd.planning.incarnations import IncarnationKey
from backupd.planning.lifecycle import ClockDates
from backupd.planning.retention import RetentionPolicy
from backupd.repository import layout
from backupd.repository.packs import OpenPack
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringIds, KeyringWriter
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.trace import Event

DAY = timedelta(days=1)
KEEP = 10 * DAY
POLICY = RetentionPolicy(keep_within=KEEP, daily=0, weekly=0, monthly=0, max_age=KEEP, keep_minimum=0)


@dataclass
class SeenEvents:
    """A trace that keeps everything."""

    seen: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.seen.append(event)


class DatedRepository(SmallRepository):
    """A repository whose runs are of the day that a test says."""

    at = datetime.now(UTC) - 100 * DAY

    def _now(self) -> datetime:
        return self.at


def named(tenant: str | None, data_class: str = "uploaded", database: str = "app") -> SegmentName:
    return SegmentName(database, data_class, tenant)


def notes(*said: str) -> Content:
    """Rows of the one table."""
    return Content((Rows("public", "note", ("said",), tuple(f"{one}\n".encode() for one in said)),))


@dataclass(kw_only=True)
class HandmadeKeeper(KeptFolder):
    """One store in a folder, who adds to it, and who removes from it."""

    folder: Path
    store: HookedStore
    made: DatedRepository
    clock: ShiftedClock
    trace: SeenEvents

    def backup(
        self, days_ago: float, *tenants: str, extra: Mapping[SegmentName, Content] | None = None, once: bool = True
    ) -> SnapshotName:
        """A snapshot of that day: the structure, and of each tenant a row that stays and one of that day."""
        content = {named(None, "structure"): Content(facts=facts())}
        content |= {named(tenant): notes("first", f"{tenant} {days_ago}" if once else "second") for tenant in tenants}
        with self.dated(days_ago):
            return self.made.snapshot({**content, **(extra or {})})

    def orphan(self, days_ago: float, *tenants: str) -> None:
        """What a run leaves that was killed before its record."""
        with self.dated(days_ago):
            self.made.write({named(tenant): notes(f"orphan {days_ago}") for tenant in tenants})

    @contextmanager
    def dated(self, days_ago: float) -> Iterator[None]:
        """A block in which everything is made on that day."""
        before = set(self.files())
        self.made.at = datetime.now(UTC) - timedelta(days=days_ago)
        yield
        for name in set(self.files()) - before:
            if not name.startswith("ledger/"):
                self.age(name, days_ago)

    def sections(self) -> dict[tuple[str, Pseudonym, int], bytes]:
        """Every section on the store by pack, segment and number, each compared with its hash."""
        return stored_sections(self.made.repository)

    def pseudonym(self, tenant: str | None, data_class: str = "uploaded") -> Pseudonym:
        return self.made.pseudonym(named(tenant, data_class))

    def open(self, name: str) -> OpenPack:
        """A pack by its object's name."""
        place = layout.place_of(ObjectName(name))
        assert place.generation is not None
        assert place.sha256 is not None
        return self.made.repository.pack(place.generation, place.sha256)

    def take_out(self, name: str, *at: int) -> None:
        """Take sections out of a pack behind the keeper's back."""
        take_out(self.store.inner, self.open(name), at)

    def forge(self, victim: SegmentName, tags_of: SegmentName) -> ObjectName:
        """A signed keyring that lists one segment beside another's tags."""
        made = self.made
        ids = KeyringIds(made.info.repository, made.info.region, made.generation, RunId(f"{made._run[:-8]}{'f' * 8}"))
        writer = KeyringWriter(ids, [made.identity.public])
        writer.add(made.pseudonym(victim), b"k" * 32, victim, made.tags_of(tags_of))
        made.repository.put_keyring(ids, writer.render(stamp(self.clock.now()), made.signer))
        return layout.keyring_name(ids.generation, ids.run)

    def write_under_another_key(self, name: SegmentName, generation: str = "", run: str = "") -> ObjectName:
        """A signed keyring as of a node that has another tenant key."""
        made, other = self.made, TenantTags(b"o" * 32, self.keeper.region)
        where = GenerationId(generation or made.generation)
        ids = KeyringIds(made.info.repository, made.info.region, where, RunId(run or f"{made._run[:-8]}{'e' * 8}"))
        writer = KeyringWriter(ids, [made.identity.public])
        own = made.tags_of(name)
        writer.add(other.pseudonym(where, own), b"k" * 32, name, own)
        made.repository.put_keyring(ids, writer.render(stamp(self.clock.now()), made.signer))
        return layout.keyring_name(ids.generation, ids.run)

    def incarnation(self, tenant: str, scope: str = "") -> IncarnationKey:
        return IncarnationKey(self.tenant(tenant), 1, scope)

    def tenant(self, name: str) -> TenantId:
        return self.keeper.tags.tenant_id(name)

    def erase(self, tenant: str) -> None:
        now = self.clock.now()
        dates = ClockDates(now, now + 3 * DAY, now)
        self.keeper.book.append(lambda states: lifecycle.erase(states, self.tenant(tenant), dates))

    def purge(self, tenant: str) -> Purged:
        with Purging(self.keeper) as purging:
            done = purging.purge(self.incarnation(tenant))
            for error in purging.errors.values():
                raise error
            return done[0]

    def through(self, store: Store) -> None:
        """Let the keeper work through another way to its store from now on; its ledger stays in step."""
        repository = Repository(store, self.repository.signers, self.repository.keepers)
        self.keeper = replace(self.keeper, stores={"disk": repository}, book=self._book(store))

    def _book(self, store: Store) -> Book:
        chain = self.keeper.book.chain
        place = LedgerPlace(
            chain.region,
            chain.repository,
            {"disk": store},
            DirectoryStore(self.folder / "copy"),
            frozenset({self.keeper.signer.public}),
            self.clock,
            self.keeper.signer,
            FAR,
        )
        return Book(place)

    def events(self, kind: type) -> list[Any]:
        return [
            event for entry in self.keeper.book.chain.entries() for event in entry.events if isinstance(event, kind)
        ]

    def names(self, folder: str) -> list[ObjectName]:
        return sorted(ObjectName(name) for name in self.files() if name.startswith(f"{folder}/"))


def make_handmade_keeper(folder: Path) -> HandmadeKeeper:
    root, clock, trace = folder / "store", ShiftedClock(), SeenEvents()
    store = HookedStore(DirectoryStore(root))
    made, key = DatedRepository(store.inner), Signer(os.urandom(32))
    trusted = frozenset({key.public})
    copy = DirectoryStore(folder / "copy")
    place = LedgerPlace(made.info.region, made.info.repository, {"disk": store}, copy, trusted, clock, key, FAR)
    keeper = Keeper(
        region=made.info.region,
        repository=made.info.repository,
        stores={"disk": Repository(store, [made.signer.public, key.public], trusted)},
        book=Book(place),
        tags=made.tags,
        rules=Rules(POLICY, {}, frozenset(), timedelta(minutes=5), most_tenants=10, most_snapshots=20),
        signer=key,
        state=folder / "keeper",
        clock=clock,
        random=os.urandom,
        trace=trace,
        threads=2,
    )
    return HandmadeKeeper(folder=folder, root=root, store=store, made=made, keeper=keeper, clock=clock, trace=trace)


@pytest.fixture
def handmade(tmp_path: Path) -> HandmadeKeeper:
    """A repository a hundred days old, with nothing in it."""
    return make_handmade_keeper(tmp_path)
