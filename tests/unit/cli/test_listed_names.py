"""The names of snapshots that completion reads: newest first, a thousand at most, nothing where none can be kept."""

from __future__ import annotations

from pathlib import Path

from backupd.model.ids import SnapshotName
from backupd.operations.snapshots.listed_names import LISTED, remember_listing, remember_one


def name(number: int) -> SnapshotName:
    return SnapshotName(f"20300101T{number:06d}Z-{'0a' * 32}")


def test_names_are_kept_as_they_are_shown(tmp_path: Path) -> None:
    """A listing replaces the last one; a backup adds to it."""
    folder = tmp_path / "be"
    remember_one(folder, name(1))
    remember_one(folder, name(2))
    assert (folder / LISTED).read_text().split() == ["20300101T000002Z-0a0a0a0a", "20300101T000001Z-0a0a0a0a"]
    remember_listing(folder, map(name, range(1200)))
    kept = (folder / LISTED).read_text().split()
    assert (len(kept), kept[0]) == (1000, "20300101T001199Z-0a0a0a0a")


def test_no_state_folder_is_made_for_them(tmp_path: Path) -> None:
    """Who only looks leaves nothing on a machine without one."""
    remember_listing(tmp_path / "state" / "be", [name(1)])
    assert list(tmp_path.iterdir()) == []
