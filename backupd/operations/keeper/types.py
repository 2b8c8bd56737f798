"""The keeper's stores, rules and ledger, and the result of a purge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.clock import Clock
from backupd.model.ids import RegionName, RepositoryId
from backupd.trace import NoTrace, Trace

if TYPE_CHECKING:
    from backupd.operations.ledger import Book
    from backupd.planning.incarnations import IncarnationKey
    from backupd.planning.retention import RetentionPolicy
    from backupd.repository.lease import Lease
    from backupd.repository.repository import Repository
    from backupd.seal.documents import Signer
    from backupd.seal.tags import TenantTags


@dataclass(frozen=True, slots=True)
class Rules:
    """The limits that the configuration sets to the keeper in one region."""

    retention: RetentionPolicy
    max_ages: Mapping[str, timedelta]
    """Maximum ages of the data classes that have one of their own."""
    own_clocks: frozenset[str]
    """Data classes whose deletion dates are not their tenant's."""
    clock_tolerance: timedelta
    """How far this machine's clock may be from a store's."""
    most_tenants: int
    """Tenants that one run purges at most without a confirmation."""
    most_snapshots: int
    """Snapshots that one run expires at most without a confirmation."""
    copies: Mapping[str, timedelta] = field(default_factory=dict)
    """Declared kinds of copies of whole stores, and how long one lives at most."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """One region's keeper: the stores it may remove from, the ledger it writes, no key that decrypts."""

    region: RegionName
    repository: RepositoryId
    stores: Mapping[str, Repository]
    """Repositories by the stores' configured names, opened with the keeper's credential."""
    book: Book
    tags: TenantTags
    rules: Rules
    signer: Signer = field(repr=False)
    state: Path
    """Folder of what is remembered of each store."""
    clock: Clock
    random: Callable[[int], bytes] = field(repr=False)
    trace: Trace = field(default_factory=NoTrace)
    threads: int = 8
    """Requests in flight at once."""
    leases: Mapping[str, Lease] = field(default_factory=dict)
    """Leases by store, where this run must be the only keeper; without one, marks alone keep keepers apart."""

    def cache_path(self, store: str) -> Path:
        """Return the file in which the keyrings of a store are cached."""
        return self.state / store / "census.sqlite"


@dataclass(frozen=True, slots=True)
class Purged:
    """The result of one run's purge of an incarnation on one store."""

    store: str
    incarnation: IncarnationKey
    keyrings: int = 0
    """Keyrings that were replaced in this run."""
    objects: int = 0
    """Packs that were rewritten in this run."""
    bytes: int = 0
    """Bytes of the sections that were taken out of them."""
    absent: bool = False
    """Whether the store's own snapshots hold nothing of it any more."""
    waits_for: tuple[str, ...] = ()
    """The store's own snapshots that still hold something of it."""
    looked_into: tuple[str, ...] = ()
    """The store's own snapshots that were looked into in this run."""
    looked_at: datetime | None = None
    """When the look into the snapshots began, after everything this run removed; None when nobody looked."""
