"""What is built from, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from backupd.model.ids import SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.operations.restore.contents import SnapshotContents
from backupd.planning.restoring.restore import RestorePlan
from backupd.postgres.target.keys import BrokenKey
from backupd.postgres.target.schema import SchemaArchive


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be built."""

    contents: SnapshotContents
    plan: RestorePlan
    schema: SchemaArchive
    name: SnapshotName
    exported: str
    server: int
    """PostgreSQL's `server_version_num`."""
    segments: tuple[SegmentName, ...] = field(repr=False)
    """Of the plan's parts."""
    exact: bool
    """Whether all of it is there, so that what its rows refer to is."""


@dataclass(frozen=True, slots=True)
class Built:
    """What was made, and what could not be."""

    roles: int
    broken_keys: tuple[BrokenKey, ...]
