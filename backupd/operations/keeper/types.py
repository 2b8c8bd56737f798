"""What a keeper works with, and what it answers."""

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
    """What the configuration asks of the keeper in one region."""

    retention: RetentionPolicy
    max_ages: Mapping[str, timedelta]
    """Classes with a maximum of their own."""
    own_clocks: frozenset[str]
    """Classes whose dates are not their tenant's."""
    clock_tolerance: timedelta
    """Between this clock and a store's."""
    most_tenants: int
    most_snapshots: int
    copies: Mapping[str, timedelta] = field(default_factory=dict)
    """Declared kinds of copies of whole stores, and how long one lives at most."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """One region's keeper: the stores it may remove from, the ledger it writes, no key that decrypts."""

    region: RegionName
    repository: RepositoryId
    stores: Mapping[str, Repository]
    """By configured name, opened with the keeper's credential."""
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
    """Requests in flight."""
    leases: Mapping[str, Lease] = field(default_factory=dict)
    """By store, where this run keeps alone; without, marks alone keep keepers apart."""

    def cache_path(self, store: str) -> Path:
        return self.state / store / "census.sqlite"


@dataclass(frozen=True, slots=True)
class Purged:
    """How one store stands after a step of a life's purge."""

    store: str
    life: IncarnationKey
    keyrings: int = 0
    """Written anew in this run."""
    objects: int = 0
    """Removed in this run."""
    bytes: int = 0
    absent: bool = False
    """Whether the store's own snapshots hold nothing of it any more."""
    waits_for: tuple[str, ...] = ()
    """The store's own snapshots that still do."""
    looked_into: tuple[str, ...] = ()
    """The store's own snapshots that were looked into in this run."""
    looked_at: datetime | None = None
    """When that look began, behind whatever was removed in this run; None: nobody looked."""
