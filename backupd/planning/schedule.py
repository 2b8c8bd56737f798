"""The times at which jobs run: by their timetables, once for all missed runs, and again after failures; and when a run
tries again what was busy. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum
from itertools import pairwise
from typing import Final

from backupd.model.timetables import DAYS, UTC_ZONE, Every, Never, Timetable, Weekly, zone_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(weeks=1)
_HOUR: Final = timedelta(hours=1)


def next_slot(timetable: Timetable, after: datetime) -> datetime | None:
    """Return the first instant (UTC) later than `after`; None when nothing is ever due.

    A time that clocks skip comes as much later as they were set forward; a time that they show twice counts the first
    time.
    """
    if isinstance(timetable, Never):
        return None
    if isinstance(timetable, Every):
        return _EPOCH + ((after - _EPOCH) // timetable.interval + 1) * timetable.interval
    return min(slot for slot in _around(timetable, after) if slot > after)


def longest_gap(timetable: Timetable) -> timedelta | None:
    """Return the longest time between two instants, daylight saving included; None when nothing is ever due."""
    if isinstance(timetable, Never):
        return None
    if isinstance(timetable, Every):
        return timetable.interval
    inside = [
        timedelta(days=day, hours=one.hour, minutes=one.minute) for day in timetable.days for one in timetable.times
    ]
    gaps = [later - earlier for earlier, later in pairwise([*inside, inside[0] + _WEEK])]
    return max(gaps) + (timedelta() if timetable.zone in (None, UTC_ZONE) else _HOUR)


def _around(timetable: Weekly, after: datetime) -> Iterator[datetime]:
    """Yield more than a week of instants, among them the first after `after`; in no promised order."""
    zone = zone_of(timetable.zone)
    first = after.astimezone(zone).date() - _DAY
    for number in range(len(DAYS) + 4):
        day = first + number * _DAY
        if day.weekday() in timetable.days:
            yield from _of_day(timetable, day, zone)


def _of_day(timetable: Weekly, day: date, zone: tzinfo) -> Iterator[datetime]:
    for one in timetable.times:
        yield datetime.combine(day, one, zone).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Awake:
    """The daemon's start, and how jobs that were missed before it are spread."""

    since: datetime
    seed: str
    """The seed of the machine and the region: their jobs wait together, those of other machines and regions
    differently."""
    spread: timedelta
    """Runs that were missed start within this time after the daemon."""


@dataclass(frozen=True, slots=True)
class Due:
    """The next run of a job."""

    at: datetime
    slot: datetime
    """The instant that the run is due for: a run that began at or after it serves it."""
    missed: bool
    """Whether the run was due before the daemon started."""


def next_due(timetable: Timetable, last: datetime | None, now: datetime, awake: Awake) -> Due | None:
    """Return the next run after `last`, when the newest useful run began; None when nothing is ever due.

    All runs that were missed are replaced by one. A last run in the future, dated by a wrong clock, counts as one of
    now.
    """
    if last is None:
        if next_slot(timetable, now) is None:
            return None
        return Due(awake.since + spread(awake), awake.since, missed=True)
    slot = next_slot(timetable, min(last, now))
    if slot is None:
        return None
    if slot < awake.since:
        return Due(awake.since + spread(awake), slot, missed=True)
    return Due(slot, slot, missed=False)


def spread(awake: Awake) -> timedelta:
    """Return a part of `awake.spread` that depends on the seed only."""
    return awake.spread * fraction(awake.seed)


def fraction(seed: str) -> float:
    """Compute a number of at least 0 and less than 1 that is always the same for a seed."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / (1 << 48)


_LONGEST_S: Final = timedelta(hours=1)
_PART: Final = 0.2
"""The greatest part of a delay that the seed adds, so that jobs that failed together are not tried again together."""


class Cause(Enum):
    """The cause of a failure: the factor on the first delay, and the number of tries before the next regular run."""

    PASSING = (1, 1000)
    """A broken connection, a lock, a limit, or another process at work."""
    SLOW = (10, 1000)
    """Something that somebody has to repair: no room, a disk that is missing."""
    BROKEN = (5, 3)
    """The program crashed or had to be ended: perhaps it does so each time."""
    FINAL = (0, 0)
    """Keys, credentials, the configuration, damage: another try is useless, and may lock an account."""


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """The first delay after a failure, and the seed of what is added to delays."""

    first: timedelta
    seed: str


def retry_delay(cause: Cause, attempt: int, patience: RetryDelays) -> timedelta | None:
    """Return how long to wait after try number `attempt`, from 1, of the same work; None: until its next time.

    The delay doubles with each try, up to an hour; the seed decides how much is added.
    """
    factor, tries = cause.value
    if attempt > tries or attempt < 1:
        return None
    most = max(_LONGEST_S, patience.first)
    delay = min(most, patience.first * factor * (1 << min(attempt - 1, 12)))
    return delay * (1 + _PART * fraction(f"{patience.seed}/{attempt}"))


TRIES: Final = 10
"""Times that one run tries to back up a database that is busy."""
_LONGEST_PAUSE: Final = 8.0


def next_try(tries: int, spent: float, deadline: float) -> float | None:
    """Return the seconds after which a run tries again what was busy `tries` times; None when it has to end.

    `spent` is how long the run has lasted, and `deadline` how long it may: half of that is left to the last try.
    """
    if tries >= TRIES or spent > deadline / 2:
        return None
    return min(_LONGEST_PAUSE, float(1 << (tries - 1)))
