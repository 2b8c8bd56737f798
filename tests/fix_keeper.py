"""A keeper beside a region's node: its ledger, its keys, and clocks that tests move."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from fix_clock import FAR, ShiftedClock
from fix_regions import REGION, TENANT_KEY, Events, Region

from backupd.model.ids import TenantId
from backupd.operations.keeper.purge import Purging
from backupd.operations.keeper.types import Keeper, Purged, Rules
from backupd.operations.ledger import Book, LedgerPlace
from backupd.planning.incarnations import IncarnationKey
from backupd.planning.retention import RetentionPolicy
from backupd.repository.repository import Repository
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore

DAY = timedelta(days=1)
POLICY = RetentionPolicy(keep_within=14 * DAY, daily=30, weekly=8, monthly=0, max_age=90 * DAY, keep_minimum=3)


@dataclass
class KeeperRegion:
    """A region with its keeper."""

    region: Region
    keeper: Keeper
    clock: ShiftedClock
    events: Events = field(default_factory=Events)

    @property
    def book(self) -> Book:
        return self.keeper.book

    def tenant(self, name: str) -> TenantId:
        return self.keeper.tags.tenant_id(name)

    def incarnation(self, name: str, incarnation: int = 1, scope: str = "") -> IncarnationKey:
        return IncarnationKey(self.tenant(name), incarnation, scope)

    def purge(self, key: IncarnationKey) -> list[Purged]:
        with Purging(self.keeper) as purging:
            done = purging.purge(key)
            for error in purging.errors.values():
                raise error
            return done


def make_keeper_region(region: Region, folder: Path, store: Store | None = None) -> KeeperRegion:
    """A keeper of the region's one store, whose ledger the region's node believes."""
    signer, clock = Signer(os.urandom(32)), ShiftedClock()
    trusted = frozenset({signer.public})
    repository = Repository(store or region.store, [region.node.signer.public], trusted)
    region.repository = repository
    place = LedgerPlace(
        REGION,
        repository.info().repository,
        {"disk": repository.store},
        DirectoryStore(folder / "keeper-ledger"),
        trusted,
        clock,
        signer,
        FAR,
    )
    keeper = Keeper(
        region=REGION,
        repository=repository.info().repository,
        stores={"disk": repository},
        book=Book(place),
        tags=TenantTags(TENANT_KEY, REGION),
        rules=Rules(POLICY, {}, frozenset(), timedelta(minutes=5), most_tenants=10, most_snapshots=200),
        signer=signer,
        state=folder / "keeper",
        clock=clock,
        random=os.urandom,
    )
    return KeeperRegion(region, keeper, clock)


@pytest.fixture
def keeper_region(region: Region, tmp_path: Path) -> KeeperRegion:
    """A region that has a keeper, and whose rows belong to tenants by a column."""
    return make_keeper_region(region, tmp_path)


def ruled(keeper_region: KeeperRegion, **changes: object) -> KeeperRegion:
    """The same keeper under other rules."""
    keeper_region.keeper = replace(keeper_region.keeper, rules=replace(keeper_region.keeper.rules, **changes))
    return keeper_region
