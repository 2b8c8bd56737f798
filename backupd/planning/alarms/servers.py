"""Whether a store's own snapshots are what they were: the floor under ransomware, and part of each deadline. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from backupd.model.status import ServerChange

_MEMORY: Final = timedelta(days=30)
_LEAST: Final = 3
"""Observations that make a habit."""
_LATE: Final = 3
"""Times the usual distance of two, after which the next one does not come."""
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ShownSnapshots:
    """What a store shows of its own snapshots."""

    number: int
    made: Sequence[datetime]
    """Of those whose names tell it, oldest first."""


def server_changes(
    shown: ShownSnapshots, seen: Sequence[tuple[datetime, int]], declared: timedelta, now: datetime
) -> tuple[ServerChange, ...]:
    """How the present differs from a habit: `seen` are earlier observations, and how many there were in each.

    One more or less is none: stores rotate them at a time of their own. `declared` is how old they become at most.
    """
    return tuple(_server_changes(shown, [number for at, number in seen if now - at <= _MEMORY], declared, now))


def _server_changes(
    shown: ShownSnapshots, numbers: Sequence[int], declared: timedelta, now: datetime
) -> Iterator[ServerChange]:
    usual = median(numbers) if len(numbers) >= _LEAST else None
    if usual is not None and usual > 0 and not shown.number:
        yield ServerChange.VANISHED
    elif usual is not None and shown.number < usual - 1:
        yield ServerChange.FEWER
    elif usual is not None and shown.number > max(numbers) + 1:
        yield ServerChange.MORE
    if shown.made and now - shown.made[0] > declared:
        yield ServerChange.LONGER
    gaps = [later - earlier for earlier, later in pairwise(shown.made)]
    if len(gaps) >= _LEAST and now - shown.made[-1] > max(2 * _DAY, _LATE * sorted(gaps)[len(gaps) // 2]):
        yield ServerChange.STOPPED
