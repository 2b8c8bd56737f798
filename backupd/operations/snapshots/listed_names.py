"""The names of a region's snapshots as this machine last listed them: a text that completion of shells reads."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from backupd.atomic_file import write_whole
from backupd.model.ids import SHORT_NAME, SnapshotName

LISTED = "snapshots.txt"
"""The file in a region's state folder. A store's name, which may stand beside it, has no dot."""
_MOST = 1000
"""Names that are kept; the oldest are left out."""


def remember_listing(folder: Path, names: Iterable[SnapshotName]) -> None:
    """Keep these names as all that there are, where the state folder of this machine can be written; `folder` is the
    region's in it.
    """
    kept = sorted({name[:SHORT_NAME] for name in names}, reverse=True)[:_MOST]
    with suppress(OSError):
        if folder.parent.is_dir():
            folder.mkdir(mode=0o700, exist_ok=True)
            write_whole(folder / LISTED, "".join(f"{name}\n" for name in kept).encode())


def remember_one(folder: Path, name: SnapshotName) -> None:
    """Keep one more name, of a snapshot that was just made."""
    try:
        known = (folder / LISTED).read_text().split()
    except (OSError, UnicodeDecodeError):
        known = []
    remember_listing(folder, [name, *map(SnapshotName, known)])
