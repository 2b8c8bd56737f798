"""The values that verify takes, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from backupd.clock import Clock
from backupd.model.documents import LedgerHead
from backupd.model.ids import GenerationId, ObjectName, RegionName, SnapshotName
from backupd.planning.verify import Mismatch
from backupd.repository.repository import Repository
from backupd.repository.state.checked import CheckedState
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import NoTrace, Trace


@dataclass(frozen=True, slots=True)
class Scope:
    """The share of packs to read beside the records, keyrings and headers, which are always read."""

    share: Fraction = Fraction(0)
    """Share of the bytes of all packs to read, in each generation; least recently verified first."""
    identity: bytes | None = field(default=None, repr=False)
    """The secret half of an identity. With one, what is read is opened too, and that share of the newest snapshots'
    content is compared with their manifests; without, hashes are checked."""
    at_least: LedgerHead | None = None
    """A head of the ledger that somebody kept elsewhere, which the store's must have or extend."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The clock, scratch folder and settings that verify uses on this machine."""

    clock: Clock
    scratch: Path
    """A folder for sealed bytes of large sections while they are opened."""
    trace: Trace = field(default_factory=NoTrace)
    threads: int = 8
    """Requests in flight at once."""
    store: str | None = None
    """The store's configured name, by which the ledger speaks of it; None: what is said of any store counts."""
    own_ledger: Store | None = None
    """This machine's own copy of the ledger: a witness, which is brought up to date when nothing is wrong."""
    tags: TenantTags | None = field(default=None, repr=False)
    """The digests of the tenant key, where this machine has it: by them a forged listing in a keyring shows."""


@dataclass(frozen=True, slots=True)
class CheckedGeneration:
    """A generation that is verified, and what all parts of the check of it use."""

    repository: Repository
    id: GenerationId
    state: CheckedState
    """What this machine remembers of earlier runs."""
    scope: Scope
    tools: Tools


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of one run of verify. Findings are damage; orphans, leftovers and foreign objects are not."""

    region: RegionName
    snapshots: int
    generations: int
    keyrings: int
    packs: int
    """Packs that records need."""
    sections: int
    """Sections that records need and that are there."""
    size: int
    """Bytes of all packs that records need."""
    read: int
    """Packs whose every section was checked in this run."""
    read_size: int
    opened: int
    """Segments whose content was compared, row by row, with their manifests; 0 without an identity."""
    orphans: tuple[ObjectName, ...]
    """Packs nothing refers to: of runs that were cut off, or that are still under way."""
    orphans_size: int
    leftovers: tuple[ObjectName, ...]
    """Uploads in `tmp/` that are under way or were cut off."""
    foreign: tuple[ObjectName, ...]
    """Objects for which the format has no name."""
    entries: int
    """Entries of the ledger that can be believed."""
    purged: int
    """Segments that records name and a purge took out."""
    unpurged: int
    """Segments that a purge lists, of which the store still has a key or a section."""
    aged: int
    """Sections that records name and that went with the age of their class."""
    proven: tuple[SnapshotName, ...]
    """Snapshots of which every byte was read with success, in this run or an earlier one."""
    findings: tuple[Mismatch, ...]
    unnamed_keepers: tuple[str, ...] = ()
    """Public keys of keepers that are believed here, and not by a reader who has only the store; no damage."""
    other_help: tuple[ObjectName, ...] = ()
    """The files for people without this program whose signed hash is not that of its own: of another version, or false,
    where somebody stole a writer's key; no damage."""

    unfilled: bool = False
    """Whether nothing lies there and, as far as this machine and its copy of the ledger know, nothing ever did."""

    @property
    def clean(self) -> bool:
        """Check that there was something to verify, and that nothing of it is wrong."""
        return bool(self.snapshots) and not self.findings
