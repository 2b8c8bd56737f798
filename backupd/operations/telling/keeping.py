"""What people were told already, on disk: a restart repeats nothing. Deleted, everything in force is told once more."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from backupd.atomic_file import write_whole
from backupd.planning.alarms.notices import Memory


def load(path: Path) -> Memory:
    """What `save` wrote; an empty memory where that cannot be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(path.read_bytes(), type=Memory)
    return Memory()


def save(path: Path, memory: Memory) -> None:
    """Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(path, msgspec.json.encode(memory))
