"""The store's own snapshots by their names: when each was made, which is the oldest, where they lie. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from backupd.errors import StoreError
from backupd.store.base import ServerSnapshot
from backupd.store.names import components

FOLDER = ".zfs/snapshot"
"""Where ZFS shows a file system's snapshots, from its mount point; rsync.net from an account's home."""
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?:[-_T](\d{2}):?(\d{2})(?::?(\d{2}))?)?(?!\d)")
"""As in rsync.net's `daily_2026-11-20`, and in `autosnap_2026-11-20_14:25:01_daily` as others name them."""


def oldest_first(names: Iterable[str]) -> Sequence[ServerSnapshot]:
    """Those whose name tells no time come first, by name: what is unknown may be old."""
    found = [ServerSnapshot(name, made_at(name)) for name in names]
    return sorted(found, key=lambda shown: (shown.made or datetime.min.replace(tzinfo=UTC), shown.name))


def made_at(name: str) -> datetime | None:
    """The time in a snapshot's name; None when there is none that a calendar knows.

    Nothing but the name: on ZFS the time of a snapshot's folder is when its top folder last changed.
    """
    found = _DAY.search(name)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups())
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


def folder_of(snapshot: ServerSnapshot) -> str:
    """The name of its folder below `FOLDER`.

    Raises StoreError for one that could lead elsewhere.
    """
    if "/" in snapshot.name:
        raise StoreError(f"not a snapshot's name: {snapshot.name[:100]!r}")
    (name,) = components(snapshot.name)
    return name


def blind(why: str) -> StoreError:
    """What to raise when it cannot be known what a snapshot holds, which is not the same as holding nothing."""
    return StoreError(
        f"the store's own snapshots cannot be looked into: {why}",
        hint="Let this account read its snapshots, with the store's path below the folder that shows them.",
    )
