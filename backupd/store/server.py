"""Hash commands a store's shell may have, and how their output is read. Pure.

What `quota` prints, as bytes. Pure.

What time it is for the store: guards of destructive work compare it with ours.

The store's own snapshots by their names: when each was made, which is the oldest, where they lie. Pure.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from backupd.errors import RefusedError, StoreError
from backupd.model.text import stamp
from backupd.store.base import ServerSnapshot, Space, Store, put_document
from backupd.store.names import components, temporary

_LENGTHS = {"sha256": 64, "sha1": 40, "md5": 32}


@dataclass(frozen=True, slots=True)
class HashCommand:
    """A command that prints the digest of the file it is given."""

    command: str
    algorithm: str


CANDIDATES = (
    HashCommand("sha256sum", "sha256"),
    HashCommand("sha256", "sha256"),
    HashCommand("sha1sum", "sha1"),
    HashCommand("sha1", "sha1"),
    HashCommand("md5sum", "md5"),
    HashCommand("md5", "md5"),
)
"""GNU and BSD names, the strongest first. The weak ones still tell damage, which is what they are asked for."""


def parse_digest(output: bytes, algorithm: str) -> str | None:
    """The digest in the output of such a command; None when there is none.

    Only at its place in the line: our object names are digests too, and a command that merely repeats the name must
    not pass for one that read the file.
    """
    digest = rf"([0-9a-f]{{{_LENGTHS[algorithm]}}})"
    text = output.decode("utf-8", "replace").strip()
    found = re.fullmatch(rf"\\?{digest} [ *].*|{algorithm} \(.*\) = {digest}|{digest}", text, re.IGNORECASE)
    return next((group.lower() for group in found.groups() if group), None) if found else None


_UNITS = {"": 1024, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
"""Without a unit `quota` counts blocks of 1 KiB."""
_LINE = re.compile(r"(?m)^\s*\S+[ \t\n]+([\d.]+)([KMGT]?)\*?[ \t]+([\d.]+)([KMGT]?)[ \t]+([\d.]+)([KMGT]?)(?=\s|$)")


def parse_quota(output: bytes) -> Space | None:
    """The tightest of the limits in lines of file system, usage, soft and hard limit; None when there is none.

    The soft limit counts where there is one: going on above it is borrowed time.
    """
    text = output.decode("utf-8", "replace")
    spaces = []
    for usage, usage_unit, soft, soft_unit, hard, hard_unit in _LINE.findall(text):
        limits = [limit for limit in (_bytes(soft, soft_unit), _bytes(hard, hard_unit)) if limit]
        if limits:
            spaces.append(Space(free=max(0, min(limits) - _bytes(usage, usage_unit)), total=min(limits)))
    return min(spaces, key=lambda space: space.free, default=None)


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * _UNITS[unit])


def clocks_differ(store: str, theirs: datetime, ours: datetime) -> RefusedError:
    """The error for a clock that cannot be trusted, on one of the two sides."""
    return RefusedError(
        f"the clock of store '{store}' says {stamp(theirs)}, this machine's {stamp(ours)}",
        hint="Set the one that is wrong; nothing was done, and nothing will be until they agree.",
    )


def server_time(store: Store, random: Callable[[int], bytes]) -> datetime:
    """The store's clock at a moment during this call, in UTC, cut to the second by some stores.

    Seen by the time of a small object made in `tmp/` and removed again, unless the store lets this account remove
    nothing. Raises StoreError also when that object cannot be found again.
    """
    name, mark = temporary(random), random(16)
    put_document(store, name, mark)
    try:
        seen = store.stat(name)
    finally:
        with contextlib.suppress(StoreError):
            store.remove(name)
    if seen is None:
        raise StoreError(
            "the store does not show an object that was just put there, so it cannot be asked for its time",
            hint="Check whether something else removes what lies in the store's tmp folder.",
        )
    return seen.modified


SNAPSHOTS_FOLDER = ".zfs/snapshot"
"""Where ZFS shows a file system's snapshots, from its mount point; rsync.net from an account's home."""
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?:[-_T](\d{2}):?(\d{2})(?::?(\d{2}))?)?(?!\d)")
"""As in rsync.net's `daily_2026-11-20`, and in `autosnap_2026-11-20_14:25:01_daily` as others name them."""


def oldest_first(names: Iterable[str]) -> Sequence[ServerSnapshot]:
    """Those whose name tells no time come first, by name: what is unknown may be old."""
    found = [ServerSnapshot(name, snapshot_time(name)) for name in names]
    return sorted(found, key=lambda shown: (shown.made or datetime.min.replace(tzinfo=UTC), shown.name))


def snapshot_time(name: str) -> datetime | None:
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
    """The name of its folder below `SNAPSHOTS_FOLDER`.

    Raises StoreError for one that could lead elsewhere.
    """
    if "/" in snapshot.name:
        raise StoreError(f"not a snapshot's name: {snapshot.name[:100]!r}")
    (name,) = components(snapshot.name)
    return name


def snapshot_unreadable(why: str) -> StoreError:
    """What to raise when it cannot be known what a snapshot holds, which is not the same as holding nothing."""
    return StoreError(
        f"the store's own snapshots cannot be looked into: {why}",
        hint="Let this account read its snapshots, with the store's path below the folder that shows them.",
    )
