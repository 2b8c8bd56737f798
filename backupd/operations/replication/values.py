"""What a replication works with, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.ids import SnapshotName
    from backupd.operations.keeper.values import Keeper


@dataclass(frozen=True, slots=True)
class Copying:
    """From where to where, by whom."""

    keeper: Keeper
    origin: str
    """A store by its configured name; nothing is written there but the ledger."""
    target: str
    scratch: Path
    """Folder for objects under way, one for each thread at most. Sealed bytes only; nothing is left in it."""
    threads: int = 4
    dry_run: bool = False

    @property
    def source(self) -> Repository:
        return self.keeper.stores[self.origin]

    @property
    def sink(self) -> Repository:
        return self.keeper.stores[self.target]


@dataclass(slots=True)
class Replication:
    """What was copied; in a dry run, what would be."""

    origin: str
    target: str
    generations: int = 0
    snapshots: list[SnapshotName] = field(default_factory=list)
    already: int = 0
    """Snapshots of the origin that the target had."""
    left_out: int = 0
    """Snapshots of the origin that expired, here or there."""
    objects: int = 0
    bytes: int = 0
    """Of containers, keyrings and documents copied."""
    damage: list[str] = field(default_factory=list)
    """What is wrong at the origin; snapshots that need it were not copied."""
