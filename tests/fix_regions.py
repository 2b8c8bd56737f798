"""A region that really backs up and restores: a store in a folder, a node, an identity, and PostgreSQL servers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.servers.postgres import Server
from fix_postgres import Database, unique

from backupd.clock import SystemClock
from backupd.model.ids import RegionName
from backupd.model.tenancy import ClassPolicy, Tenancy, TenancyKind
from backupd.operations.backup import BackupJob, BackupReport, Node, backup
from backupd.operations.init import Founder, NamedStore, initialise
from backupd.operations.restore import RestoreEnvironment, RestoreReport, RestoreRequest, restore
from backupd.postgres.connect import Source
from backupd.repository.repository import Repository
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.trace import Event

REGION = RegionName("be")
CLASSES = {"uploaded": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}
TENANT_KEY = bytes(range(32))
NO_TENANTS = Tenancy(kind=TenancyKind.NONE, unclassified="shared", classes=CLASSES)


@dataclass
class Events:
    """A trace that remembers."""

    seen: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        self.seen.append(event)


@dataclass
class Region:
    """One region, one store, one node."""

    folder: Path
    store: Store
    repository: Repository
    identity: suite.KeyPair
    node: Node
    label: str = "app"
    tenancy: Tenancy = NO_TENANTS
    events: Events = field(default_factory=Events)
    random: Callable[[int], bytes] = os.urandom
    """What names a database while it is restored."""

    def backup(self, database: Database, **changes: Any) -> BackupReport:
        """Back up one database under the region's label."""
        job = BackupJob(REGION, self.label, self.source(database.server, database.name), self.tenancy)
        # Snapshots of one second are in no order that tests could rely on.
        while f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}" in {name.partition("-")[0] for name in self.snapshots()}:
            time.sleep(0.05)
        return backup(replace(job, **changes), self.repository, self.node)

    def snapshots(self) -> list[str]:
        """The names of records on the store, whatever it may do to whoever looks."""
        return [path.name for path in (self.folder / "store" / REGION / "snapshots").glob("*/*")]

    def restore(self, server: Server, name: str, **request: Any) -> RestoreReport:
        """Restore into a new database of `server`."""
        wanted = RestoreRequest(label=self.label, snapshot="latest", target=self.source(server), name=name)
        world = RestoreEnvironment(self.identity.secret, SystemClock(), self.events, self.random)
        repository = Repository(self.store, self.repository.signers, self.repository.keepers)
        return restore(replace(wanted, **request), repository, world)

    @staticmethod
    def source(server: Server, database: str = "postgres") -> Source:
        return Source(server.conninfo(database), client_folders=(server.bin,))


@pytest.fixture
def region(tmp_path: Path) -> Region:
    """A region whose repository has just been made."""
    return make_region(tmp_path)


def make_region(folder: Path) -> Region:
    """A new region, all of which lies in `folder`."""
    (folder / "store").mkdir(parents=True, exist_ok=True)
    store = DirectoryStore(folder / "store" / REGION)
    identity, signer, events = suite.generate(), Signer(os.urandom(32)), Events()
    initialise(REGION, [NamedStore("disk", store)], Founder(signer, (), SystemClock(), os.urandom))
    node = Node(
        state=folder / "state",
        spool=folder / "spool",
        spool_size=256 << 20,
        workers=2,
        uploaders=4,
        compression_level=1,
        lock_timeout=10.0,
        generation_length=timedelta(days=28),
        recipients=(identity.public,),
        tags=TenantTags(TENANT_KEY, REGION),
        own_clocks=frozenset(),
        ledger=DirectoryStore(folder / "ledger"),
        signer=signer,
        clock=SystemClock(),
        random=os.urandom,
        environment=dict(os.environ),
        trace=events,
    )
    return Region(folder, store, Repository(store, [signer.public]), identity, node, events=events)


@pytest.fixture
def restored(region: Region) -> Iterator[Callable[..., Database]]:
    """Restores into a new database, dropped after the test: `restored(server, **request)`."""
    made: list[Database] = []

    def run(server: Server, **request: Any) -> Database:
        database = Database(server, unique("restored"))
        made.append(database)
        region.restore(server, database.name, **request)
        return database

    yield run
    for database in made:
        database.server.drop_database(database.name)
