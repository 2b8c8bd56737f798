"""Facts about a store's server: its hash commands, quota, clock and own snapshots.

All functions are pure except `server_time`: they parse the output of commands and the names of snapshots.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
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
"""GNU and BSD names of hash commands, the strongest first. The weak hashes still detect damage, which is their only
use here."""


def parse_digest(output: bytes, algorithm: str) -> str | None:
    """Return the digest in the output of a hash command; None when there is none.

    The digest counts only at its place in the line: our object names are digests too, and a command that merely repeats
    the name must not pass for one that read the file.
    """
    digest = rf"([0-9a-f]{{{_LENGTHS[algorithm]}}})"
    text = output.decode("utf-8", "replace").strip()
    found = re.fullmatch(rf"\\?{digest} [ *].*|{algorithm} \(.*\) = {digest}|{digest}", text, re.IGNORECASE)
    return next((group.lower() for group in found.groups() if group), None) if found else None


_WIDTH = 4
"""Words of a line of `quota`: the file system, usage, soft limit and hard limit; others follow."""
_UNITS = {"": 1024, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
"""Bytes per unit; without a unit `quota` counts blocks of 1 KiB."""
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)([KMGT]?)")


def parse_quota(output: bytes) -> Space | None:
    """Return the tightest limit in the output of `quota`; None when there is none.

    Each line has the file system, usage, soft limit and hard limit. The soft limit counts where there is one: space
    above it is only lent for a time.
    """
    spaces = []
    for usage, soft, hard in _quota_lines(output.decode("utf-8", "replace")):
        limits = [limit for limit in (soft, hard) if limit]
        if limits:
            spaces.append(Space(free=max(0, min(limits) - usage), total=min(limits)))
    return min(spaces, key=lambda space: space.free, default=None)


def _quota_lines(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield usage, soft and hard limit of each line that has them; a long file system's name stands on its own line."""
    before: list[str] = []
    for line in text.split("\n"):
        words = line.split()
        whole = before + words if len(before) == 1 and words else words
        before = words
        if len(whole) >= _WIDTH:
            usage, soft, hard = (_SIZE.fullmatch(word) for word in (whole[1].removesuffix("*"), *whole[2:_WIDTH]))
            if usage and soft and hard:
                yield _bytes(usage), _bytes(soft), _bytes(hard)
                before = []


def _bytes(size: re.Match[str]) -> int:
    return int(float(size[1]) * _UNITS[size[2]])


def clocks_differ(store: str, theirs: datetime, ours: datetime) -> RefusedError:
    """Make the error for clocks that disagree: one of the two cannot be trusted."""
    return RefusedError(
        f"the clock of store '{store}' says {stamp(theirs)}, this machine's {stamp(ours)}",
        hint="Set the one that is wrong; nothing was done, and nothing will be until they agree.",
    )


def server_time(store: Store, random: Callable[[int], bytes]) -> datetime:
    """Return the store's clock at a moment during this call, in UTC; some stores cut it to the second.

    The time is read from a small object that is made in `tmp/` and removed again, unless the store lets this account
    remove nothing, or somebody moved another object to its name. Raises StoreError, also when that object cannot be
    found again.
    """
    name, mark = temporary(random), random(16)
    put_document(store, name, mark)
    try:
        seen = store.stat(name)
    finally:
        with contextlib.suppress(StoreError):
            if store.get(name, 0, len(mark) + 1) == mark:
                store.remove(name)
    if seen is None:
        raise StoreError(
            "the store does not show an object that was just put there, so it cannot be asked for its time",
            hint="Check whether something else removes what lies in the store's tmp folder.",
        )
    return seen.modified


SNAPSHOTS_FOLDER = ".zfs/snapshot"
"""Folder in which ZFS shows a file system's snapshots: below its mount point, on rsync.net below an account's home."""
_DAY = re.compile(r"(?<!\d)(\d{4})-(\d{2})-(\d{2})(?:[-_T](\d{2}):?(\d{2})(?::?(\d{2}))?)?(?!\d)")
"""A date, with or without a time, as in rsync.net's `daily_2026-11-20` and in `autosnap_2026-11-20_14:25:01_daily`."""


def oldest_first(names: Iterable[str]) -> Sequence[ServerSnapshot]:
    """Sort the store's own snapshots by the time in their names.

    Snapshots without a time come first, by name: one of unknown age may be old.
    """
    found = [ServerSnapshot(name, snapshot_time(name)) for name in names]
    return sorted(found, key=lambda shown: (shown.made or datetime.min.replace(tzinfo=UTC), shown.name))


def snapshot_time(name: str) -> datetime | None:
    """Return the time in a snapshot's name, in UTC; None when the name holds no valid date.

    Only the name counts: on ZFS the time of a snapshot's folder is when its top folder last changed.
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
    """Return the name of a snapshot's folder below `SNAPSHOTS_FOLDER`.

    Raises StoreError for a name that could lead elsewhere.
    """
    if "/" in snapshot.name:
        raise StoreError(f"not a snapshot's name: {snapshot.name[:100]!r}")
    (name,) = components(snapshot.name)
    return name


def snapshot_unreadable(why: str) -> StoreError:
    """Make the error for a snapshot whose content is unknown, which must not count as empty."""
    return StoreError(
        f"the store's own snapshots cannot be looked into: {why}",
        hint="Let this account read its snapshots, with the store's path below the folder that shows them.",
    )
