"""The seconds that the last backup of a database took, kept beside its index: what the next one is expected to take."""

from __future__ import annotations

from pathlib import Path

import msgspec

from backupd.atomic_file import write_whole
from backupd.model.text import UnreadableError, from_json


class LastTimes(msgspec.Struct, frozen=True):
    """The phases of one backup that took time."""

    reading: float
    publishing: float


def read_last_times(state: Path, label: str) -> LastTimes | None:
    """Return what the last backup of a database took; None when nobody remembers."""
    try:
        return from_json(_file(state, label).read_bytes(), LastTimes)
    except (OSError, UnreadableError):
        return None


def keep_last_times(state: Path, label: str, times: LastTimes) -> None:
    """Remember what a backup took; where the file cannot be written, nothing is expected of the next one."""
    try:
        write_whole(_file(state, label), msgspec.json.encode(times))
    except OSError:
        return


def _file(state: Path, label: str) -> Path:
    return state / f"times-{label}.json"
