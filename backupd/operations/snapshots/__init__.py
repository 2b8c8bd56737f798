"""Snapshots of a region as values: a list of them, one in detail, its holdings, and the difference of two."""

from backupd.operations.snapshots.records import SnapshotInfo, list_snapshots

__all__ = ["SnapshotInfo", "list_snapshots"]
