"""Which snapshots a person's words can mean. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupd.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.model.ids import SnapshotName

LATEST = "latest"

_ID = re.compile(r"[0-9]{8}T[0-9]*Z?(?:-[0-9a-f]*)?|[0-9a-f]{6,64}")
"""The beginning of a snapshot's name, time of day included, or at least six digits of its hash."""


def candidates(names: Sequence[SnapshotName], wanted: str) -> tuple[list[SnapshotName], bool]:
    """Snapshots `wanted` can mean, newest first, and whether it names one: else the newest that fits is meant.

    `wanted` is `latest`, the beginning of a snapshot's name or of its hash, or a time (ISO 8601; UTC unless it says
    otherwise), which means the newest snapshot at or before it. `names` are oldest first. Raises UsageError for
    anything else.
    """
    newest_first = list(reversed(names))
    if wanted == LATEST:
        return newest_first, False
    if _ID.fullmatch(wanted):
        return [name for name in newest_first if name.startswith(wanted) or _hash(name).startswith(wanted)], True
    instant = _instant(wanted)
    return [name for name in newest_first if time_of(name) <= instant], False


def same_second(one: SnapshotName, other: SnapshotName) -> bool:
    """Whether nothing but the hash orders the two names."""
    return time_of(one) == time_of(other)


def _hash(name: SnapshotName) -> str:
    return name.partition("-")[2]


def time_of(name: SnapshotName) -> datetime:
    """When it was exported, to the second before."""
    return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "the snapshot wanted is neither a snapshot's name, nor a time, nor 'latest'",
            hint="`backupd snapshots` lists the names; a time is written like 2026-03-31T14:00 (UTC).",
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
