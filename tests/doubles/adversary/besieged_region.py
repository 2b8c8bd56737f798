"""A region whose store somebody hostile may write to: an honest node, a keeper and readers over real files, in virtual
time, and what the honest ones know of what they wrote.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from doubles.stores.fake_writer import DATABASE, FakeWriter, Made, segment
from doubles.stores.hooked_store import HookedStore
from doubles.stores.memory_store import MachineClock, MemoryStore, VirtualTime
from doubles.stores.snapshots import look

from backupd.errors import BackupdError, DamageError
from backupd.model.documents import Record, RepositoryInfo
from backupd.model.ids import ObjectName, Pseudonym, RegionName, RepositoryId, SnapshotName
from backupd.model.ledger import PurgeBegan
from backupd.model.tenancy import SegmentName
from backupd.model.text import stamp
from backupd.operations.attestation import attest
from backupd.operations.expiry.run import Expiry
from backupd.operations.keeper.ingest import ingest
from backupd.operations.keeper.purge import purge_due
from backupd.operations.keeper.types import Keeper, Rules
from backupd.operations.ledger import Book, LedgerPlace
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest
from backupd.operations.verify import Scope, Tools, Verification, note_proven, verify
from backupd.planning import lifecycle
from backupd.planning.incarnations import IncarnationKey
from backupd.planning.ledger_facts import proven_on
from backupd.planning.lifecycle import ClockDates
from backupd.planning.retention import RetentionPolicy
from backupd.planning.verify import parse_share
from backupd.postgres.connect import Source
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.trace import NoTrace

suite.signed_by = lru_cache(1 << 16)(suite.signed_by)
"""Every process reads the whole ledger when it begins, and here are hundreds of processes."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
REGION = RegionName("be")
TENANTS = ("ada", "bob", "eve")
TABLE = "public.note"
OWN = "incoming/n1"
"""The folder in which the node hands in, where it may do no more."""
POLICY = RetentionPolicy(keep_within=2 * DAY, daily=5, weekly=0, monthly=0, max_age=8 * DAY, keep_minimum=1)
Rows = Mapping[str | None, list[str]]
"""The rows of the one table, by tenant."""


class CountingWriter(FakeWriter):
    """A writer whose records count rows and bytes, so that every reader compares them."""

    def _read(self, node: Any, target: Any, collector: Any, spool: Path, content: Any) -> Any:
        self._content = content
        return super()._read(node, target, collector, spool, content)

    def _record(self, context: Any, made: Made, needed: Any) -> Record:
        record = super()._record(context, made, needed)
        text = [chunk for chunks in self._content.values() for chunk in chunks]
        totals = {"rows": sum(chunk.count(b"\n") for chunk in text), "bytes": sum(map(len, text))}
        return replace_struct(record, totals=replace_struct(record.totals, **totals))


def replace_struct(value: Any, **changes: Any) -> Any:
    """A msgspec structure with other members."""
    return type(value)(**{**{name: getattr(value, name) for name in value.__struct_fields__}, **changes})


@dataclass
class BesiegedRegion:
    """One store in a folder, the node that adds to it, and the keeper. `hand_in`: the node may do no more than that."""

    folder: Path
    hand_in: bool
    random: Callable[[int], bytes]
    time: VirtualTime = field(default_factory=VirtualTime)

    def __post_init__(self) -> None:
        self.root = self.folder / "store"
        (self.root / OWN).mkdir(parents=True)
        self.store = self.dated(self.root)
        self.clock = MachineClock(self.time)
        self.identity, self.signer, self.keeper_key = suite.generate(), Signer(self.random(32)), Signer(self.random(32))
        self.signers = frozenset({self.signer.public})
        self.keepers = frozenset({self.keeper_key.public})
        self.repository_id = RepositoryId(self.random(16).hex())
        info = RepositoryInfo(
            repository=self.repository_id,
            region=REGION,
            created=stamp(self.time.now),
            signers=sorted(self.signers),
            keepers=sorted(self.keepers),
        )
        Repository(self.store, info.signers).put_info(info, self.signer)
        self.tags = TenantTags(bytes(range(32)), REGION)
        self.rows: dict[str | None, list[str]] = {
            None: ["shared"],
            **{tenant: [f"first of {tenant}"] for tenant in TENANTS},
        }
        self.written: dict[SnapshotName, Rows] = {}
        """What every honest snapshot held when it was made."""
        self.records: dict[SnapshotName, Record] = {}
        self.owners: dict[Pseudonym, str | None] = {}
        """Whose every honest segment is."""
        self.expired: set[SnapshotName] = set()
        self.arrived: dict[SnapshotName, datetime] = {}
        """When those were first seen in their place, where a node may no longer reach them."""
        self.purged: dict[str, IncarnationKey] = {}
        self.writer = self.make_writer("node", self.clock, self.owners)
        self.keeper = self._make_keeper()

    # ---- who is there

    def dated(self, root: Path) -> HookedStore:
        """A folder as a store, whose files get the virtual time."""

        def date(_: str, name: str) -> None:
            os.utime(root / name, (self.time.now.timestamp(),) * 2)

        return HookedStore(DirectoryStore(root, self.random), after=date)

    def writers_way(self) -> Store:
        """The store as a node reaches it."""
        return HandoffStore(self.dated(self.root), self.dated(self.root / OWN)) if self.hand_in else self.store

    def make_writer(self, name: str, clock: MachineClock, owners: dict[Pseudonym, str | None]) -> CountingWriter:
        return CountingWriter(
            folder=self.folder / name,
            region=REGION,
            recipient=self.identity.public,
            signer=self.signer,
            keepers=self.keepers,
            tags=self.tags,
            ledger=MemoryStore(self.time),
            clock=clock,
            random=self.random,
            generation_length=4 * DAY,
            met=lambda pseudonym, called: owners.update({pseudonym: called.tenant}),
        )

    def _make_keeper(self) -> Keeper:
        self.copy = MemoryStore(self.time)
        place = LedgerPlace(
            REGION, self.repository_id, {"disk": self.store}, self.copy, self.keepers, self.clock, self.keeper_key
        )
        return Keeper(
            region=REGION,
            repository=self.repository_id,
            stores={"disk": self.repository},
            book=Book(place),
            tags=self.tags,
            rules=Rules(POLICY, {}, frozenset(), timedelta(minutes=5), most_tenants=9, most_snapshots=99),
            signer=self.keeper_key,
            state=self.folder / "keeper",
            clock=self.clock,
            random=self.random,
            threads=1,
        )

    @property
    def repository(self) -> Repository:
        """The store as somebody reads it who has signers and keepers of his own."""
        return Repository(self.store, self.signers, self.keepers)

    # ---- what honest people do; each returns the errors it ended with

    def write(self, tenant: str) -> None:
        if tenant not in self.purged:
            self.rows[tenant].append(f"row {sum(map(len, self.rows.values()))} of {tenant}")

    def backup(self, meanwhile: Callable[[str], None] = lambda _stage: None) -> list[BackupdError]:
        """A run of the node; `meanwhile` is called with each stage that it has come to."""
        made = Made()
        try:
            for stage in self.writer.run("disk", self.writers_way(), content_of(self.rows), made):
                self.tick()
                meanwhile(stage)
        except BackupdError as error:
            return [error]
        assert made.snapshot is not None
        assert made.record is not None
        self.written[made.snapshot] = {tenant: list(rows) for tenant, rows in self.rows.items()}
        self.records[made.snapshot] = made.record
        if not self.hand_in:
            self.arrived[made.snapshot] = self.time.now
        return []

    def erase(self, tenant: str) -> list[BackupdError]:
        """The tenant is to be gone at once, and leaves the application."""
        now, incarnation = self.time.now, IncarnationKey(self.tags.tenant_id(tenant), 1, "")
        dates = ClockDates(now, now + 5 * DAY, now)
        try:
            self.keeper.book.sync()
            self.keeper.book.append(lambda states: lifecycle.erase(states, incarnation.tenant, dates))
        except BackupdError as error:
            return [error]
        self.purged[tenant] = incarnation
        self.rows.pop(tenant, None)
        return []

    def keep(self) -> list[BackupdError]:
        """A run of the keeper: it takes what was handed in, purges, and expires."""
        self.tick()
        errors: list[BackupdError] = []
        for step in (self._sync, self._ingest, self._purge, self._expire):
            try:
                errors += step()
            except BackupdError as error:
                errors.append(error)
        return errors

    def expire(self) -> list[BackupdError]:
        """The part of a keeper's run that removes what nobody needs, and what is taken before it."""
        self.tick()
        errors: list[BackupdError] = []
        for step in (self._sync, self._ingest, self._expire):
            try:
                errors += step()
            except BackupdError as error:
                errors.append(error)
        return errors

    def _sync(self) -> Sequence[BackupdError]:
        self.keeper.book.sync()
        return ()

    def _ingest(self) -> Sequence[BackupdError]:
        self.refused = ingest(self.keeper, "disk").refused
        return ()

    def _purge(self) -> Sequence[BackupdError]:
        done = purge_due(self.keeper)
        return tuple(done.errors.values())

    def _expire(self) -> Sequence[BackupdError]:
        with KeyringCache.opened(self.keeper.cache_path("disk"), self.repository_id, self.tags) as census:
            expiry = Expiry(self.keeper, "disk", census)
            expiry.execute(expiry.plan())
        return ()

    def prove(self) -> list[BackupdError]:
        """The keeper reads everything, and notes what it found to be right; returns what is wrong."""
        try:
            self.keeper.book.sync()
            found = self.verify()
            note_proven(self.keeper.book, "disk", found.proven)
        except BackupdError as error:
            return [error]
        return [DamageError(finding.sentence) for finding in found.findings]

    def attest(self, tenant: str) -> None:
        attest(self.keeper, self.purged[tenant], {"disk": "zurich"})

    def restore(self, wanted: str) -> tuple[SnapshotName, Rows]:
        """The snapshot that is meant, and its rows; raises what a restore raises before it changes anything."""
        environment = RestoreEnvironment(
            self.identity.secret, self.clock, NoTrace(), self.random, store="disk", own_ledger=self.copy
        )
        request = RestoreRequest(DATABASE, wanted, Source("", client_folders=()), "restored")
        repository = self.repository
        choice = choose(request, repository, environment, read_history(repository, environment))
        without = choice.sections.manifests.keys() - set(choice.segments)
        return choice.snapshot, look(repository, choice.snapshot, self.identity.secret, without).rows(TABLE)

    def verify(self) -> Verification:
        with CheckedState(self.folder / "checked.sqlite") as checked:
            tools = Tools(self.clock, self.folder, threads=1, store="disk", tags=self.tags)
            return verify(self.repository, checked, Scope(parse_share("all"), self.identity.secret), tools)

    # ---- time, and what is there

    def tick(self, span: timedelta = timedelta(seconds=30)) -> None:
        self.time.now += span

    def living(self) -> list[SnapshotName]:
        """Honest snapshots that no expiry of a keeper took, oldest first."""
        return sorted(self.written.keys() - self.expired)

    def expected(self, snapshot: SnapshotName) -> Rows:
        """What may be restored of it, and must."""
        begun = {tenant for tenant, _ in self.segments_purged()}
        gone = {tenant for tenant, incarnation in self.purged.items() if incarnation.tenant in begun}
        return {tenant: rows for tenant, rows in self.written[snapshot].items() if tenant not in gone}

    def places(self, snapshot: SnapshotName) -> list[ObjectName]:
        """Where its record is, or is on its way."""
        name = layout.record_name(self.records[snapshot].generation, snapshot)
        return [name, ObjectName(f"{OWN}/{name.replace('/', '+')}")]

    def believes(self, path: Path) -> bool:
        """Whether a file stands in a place of the repository, and is what its name says, signed where that is asked."""
        name = ObjectName(str(path.relative_to(self.root)))
        place, repository = layout.place_of(name), self.repository
        try:
            match place:
                case layout.ObjectPlace(kind=layout.ObjectKind.RECORD, generation=str(), snapshot=str()):
                    repository.record(place.snapshot, place.generation)
                case layout.ObjectPlace(kind=layout.ObjectKind.KEYRING):
                    repository.keyring(name)
                case layout.ObjectPlace(kind=layout.ObjectKind.PACK, generation=str(), sha256=str()):
                    repository.pack(place.generation, place.sha256)
                case _:
                    return False
        except BackupdError:
            return False
        return True

    def segments_purged(self) -> list[tuple[str, Pseudonym]]:
        """The tenants and segments that the ledger says are to be gone."""
        events = [event for entry in self.keeper.book.chain.entries() for event in entry.events]
        return [
            (event.tenant, pseudonym)
            for event in events
            if isinstance(event, PurgeBegan)
            for _, pseudonym in event.segments
        ]

    def proven(self) -> set[SnapshotName]:
        return proven_on(self.keeper.book.chain.entries(), "disk")

    def exported(self, snapshot: SnapshotName) -> datetime:
        return datetime.fromisoformat(self.records[snapshot].exported)


def content_of(rows: Rows) -> dict[SegmentName, list[bytes]]:
    """Rows as a writer reads them from a database; each is a chunk."""
    content = {segment("uploaded", tenant): [f"{row}\n".encode() for row in found] for tenant, found in rows.items()}
    return {segment("structure", None): [], **content}
