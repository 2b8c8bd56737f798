"""The instants that a timetable names, one by one, across daylight saving. Pure.

When a job runs next: on its timetable, and once for all that was missed. Pure.

When what failed is tried again, by what stood in the way. Pure.
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
    """The first instant (UTC) later than `after`; None when there is none, ever.

    A time that clocks skip comes as much later as they were set forward; one that they show twice, the first time.
    """
    if isinstance(timetable, Never):
        return None
    if isinstance(timetable, Every):
        return _EPOCH + ((after - _EPOCH) // timetable.interval + 1) * timetable.interval
    return min(slot for slot in _around(timetable, after) if slot > after)


def longest_gap(timetable: Timetable) -> timedelta | None:
    """The longest time between two neighbours, an hour of daylight saving included; None when there is none, ever."""
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
    """More than a week of slots, among them the first after `after`; in no promised order."""
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
    """Since when somebody looks at the timetable, and how those who wake together are spread."""

    since: datetime
    seed: str
    """Of the machine and the region: their jobs wait together, other machines' and regions' wait differently."""
    spread: timedelta
    """What was missed runs within so much after waking."""


@dataclass(frozen=True, slots=True)
class Due:
    """The next run of a job."""

    at: datetime
    slot: datetime
    """What it is for: a run that began at or after this instant serves it."""
    missed: bool
    """Its time had passed before anybody was awake."""


def next_due(timetable: Timetable, last: datetime | None, now: datetime, awake: Awake) -> Due | None:
    """The next run after the last one that served its purpose; None when nothing is ever due.

    What was missed is caught up with once, however much it was. A last run in the future, of a clock that was wrong,
    counts as one of now.
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
    """A part of `awake.spread` that only the seed decides."""
    return awake.spread * fraction(awake.seed)


def fraction(seed: str) -> float:
    """At least 0, less than 1, and always the same for a seed."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / (1 << 48)


_LONGEST_S: Final = timedelta(hours=1)
_PART: Final = 0.2
"""Of a delay that the seed adds, so that those who failed together do not come back together."""


class Cause(Enum):
    """What stood in the way; each with a factor on the first delay, and after how many tries it waits for its time."""

    PASSING = (1, 1000)
    """A connection that broke, a lock, a limit, somebody else who is at it."""
    SLOW = (10, 1000)
    """Something that somebody has to mend: no room, a disk that is not there."""
    BROKEN = (5, 3)
    """The program crashed, or had to be ended: perhaps it does so each time."""
    FINAL = (0, 0)
    """Keys, credentials, the configuration, damage: trying again is of no use, and may lock an account."""


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """How long the first delay is, and who waits."""

    first: timedelta
    seed: str


def retry_delay(cause: Cause, attempt: int, patience: RetryDelays) -> timedelta | None:
    """How long to wait after the `attempt`-th try of the same work, from 1 on; None: until its next time.

    Doubled each time up to an hour, and a little more, which the seed decides.
    """
    factor, tries = cause.value
    if attempt > tries or attempt < 1:
        return None
    most = max(_LONGEST_S, patience.first)
    delay = min(most, patience.first * factor * (1 << min(attempt - 1, 12)))
    return delay * (1 + _PART * fraction(f"{patience.seed}/{attempt}"))
