"""The values that a backup takes, and the report that it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from backupd.clock import Clock
from backupd.model.ids import RegionName
from backupd.model.tenancy import Tenancy
from backupd.postgres.connect import Source
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import Trace


@dataclass(frozen=True, slots=True)
class BackupJob:
    """One database of one region."""

    region: RegionName
    label: str
    """The database's configured label."""
    source: Source
    tenancy: Tenancy
    incremental: Literal["auto", "off", "require"] = "off"
    """Whether extents without a changed block are taken over unread: where the server can, never, or without fail."""
    audit_every: timedelta = timedelta(days=7)
    """After how long everything is read again and compared with what would have been skipped."""
    audit_now: bool = False
    """Whether this run does so, and, where it finds no difference, ends the distrust that an earlier audit left."""


@dataclass(frozen=True, slots=True)
class Node:
    """The backup settings and keys of this machine, with clock, randomness and environment as arguments."""

    state: Path
    """Folder of the index for this region and store."""
    spool: Path
    """Folder for sealed data that waits for its upload."""
    spool_size: int
    """Bytes that may wait in the spool folder."""
    workers: int
    """Processes that read, chunk and seal rows."""
    uploaders: int
    """Objects under way to the store at once."""
    compression_level: int
    lock_timeout: float
    """Seconds to wait for the locks on all tables."""
    generation_length: timedelta
    recipients: tuple[bytes, ...]
    """Public keys that every keyring is sealed to."""
    tags: TenantTags = field(repr=False)
    own_clocks: frozenset[str]
    """Data classes whose deletion dates are not their tenant's."""
    ledger: Store
    """This node's own copy of the region's ledger: a witness of what stores showed before."""
    signer: Signer = field(repr=False)
    clock: Clock
    random: Callable[[int], bytes] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    trace: Trace
    clock_tolerance: timedelta = timedelta(minutes=5)
    """How far the clock of a database's server may be from this machine's."""
    deadline: float = 82800.0
    """Seconds that one run may take: what is busy is tried again in its first half only."""
