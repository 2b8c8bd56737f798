"""A keeper and a writer over real files, without PostgreSQL: backups of any day in the past, expired today."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.stores.fake_writer import FakeWriter, Made, segment
from doubles.stores.hooked_store import HookedStore
from doubles.stores.kept_folder import KeptFolder
from doubles.stores.memory_store import MachineClock, MemoryStore, VirtualTime
from fix_clock import FAR, ShiftedClock
from fix_regions import REGION, TENANT_KEY, Events

from backupd.model.documents import RepositoryInfo
from backupd.model.ids import Pseudonym, RepositoryId, SnapshotName
from backupd.model.text import stamp
from backupd.operations.keeper.types import Keeper, Rules
from backupd.operations.ledger import Book, LedgerPlace
from backupd.planning.retention import RetentionPolicy
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

DAY = timedelta(days=1)
KEEP = 10 * DAY
POLICY = RetentionPolicy(keep_within=KEEP, daily=0, weekly=0, monthly=0, max_age=KEEP, keep_minimum=0)


@dataclass(kw_only=True)
class OfflineKeeper(KeptFolder):
    """One store in a folder, who adds to it, and who removes from it."""

    folder: Path
    store: HookedStore
    writer: FakeWriter
    clock: ShiftedClock
    identity: suite.KeyPair
    owners: dict[Pseudonym, Any] = field(default_factory=dict)

    def backup(
        self, days_ago: float, *tenants: str, extra: Mapping[Any, Sequence[bytes]] | None = None
    ) -> SnapshotName:
        """A snapshot of that day, of the structure and a few rows of each tenant."""
        at = datetime.now(UTC) - timedelta(days=days_ago)
        content = {segment("structure", None): [b"ddl\n"]}
        content |= {segment("uploaded", tenant): [b"first\n", f"{at} {tenant}\n".encode()] for tenant in tenants}
        made = self.begin(at, content | dict(extra or {}))
        assert made.snapshot is not None
        return made.snapshot

    def begin(self, at: datetime, content: Mapping[Any, Sequence[bytes]], stages: int = 9) -> Made:
        """A run of `at` that ends after so many stages, as if killed there."""
        before = set(self.files())
        assert isinstance(self.writer.clock, MachineClock)
        self.writer.clock.time.now = at
        made = Made()
        steps = self.writer.run("disk", self.store, content, made)
        for _, _ in zip(range(stages), steps, strict=False):
            pass
        steps.close()
        for name in set(self.files()) - before:
            if not name.startswith("ledger/"):
                os.utime(self.root / name, (at.timestamp(), at.timestamp()))
        return made


def make_offline_keeper(folder: Path, **more: Store) -> OfflineKeeper:
    """`more` are other stores of the region."""
    root, clock = folder / "store", ShiftedClock()
    store = HookedStore(DirectoryStore(root))
    identity, signer, key = suite.generate(), Signer(os.urandom(32)), Signer(os.urandom(32))
    signers, trusted = [signer.public, key.public], frozenset({key.public})
    info = RepositoryInfo(
        repository=RepositoryId(os.urandom(16).hex()),
        region=REGION,
        created=stamp(clock.now() - 100 * DAY),
        signers=signers,
        keepers=[key.public],
    )
    stores = {"disk": store, **more}
    for one in stores.values():
        Repository(one, signers).put_info(info, signer)
    tags = TenantTags(TENANT_KEY, REGION)
    time = VirtualTime()
    writer = FakeWriter(
        folder / "node",
        REGION,
        identity.public,
        signer,
        trusted,
        tags,
        MemoryStore(time),
        MachineClock(time),
        os.urandom,
    )
    place = LedgerPlace(REGION, info.repository, stores, DirectoryStore(folder / "copy"), trusted, clock, key, FAR)
    keeper = Keeper(
        region=REGION,
        repository=info.repository,
        stores={name: Repository(one, signers, trusted) for name, one in stores.items()},
        book=Book(place),
        tags=tags,
        rules=Rules(POLICY, {}, frozenset(), timedelta(minutes=5), most_tenants=10, most_snapshots=20),
        signer=key,
        state=folder / "keeper",
        clock=clock,
        random=os.urandom,
        trace=Events(),
        threads=2,
    )
    offline = OfflineKeeper(
        folder=folder, root=root, store=store, writer=writer, keeper=keeper, clock=clock, identity=identity
    )
    writer.met = offline.owners.__setitem__
    return offline


@pytest.fixture
def offline(tmp_path: Path) -> OfflineKeeper:
    """A repository a hundred days old, with nothing in it."""
    return make_offline_keeper(tmp_path)
