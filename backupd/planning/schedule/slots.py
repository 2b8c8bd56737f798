"""The instants that a timetable names, one by one, across daylight saving. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
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
