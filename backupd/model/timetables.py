"""Timetables as people write them: `daily 02:30 Europe/Brussels`, `weekly sun 04:00`, `every 6h`, `never`."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, time, timedelta, tzinfo
from typing import Final, TypeAlias

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UTC_ZONE: Final = "UTC"
LEAST: Final = timedelta(seconds=1)
MOST: Final = timedelta(days=366)
_UNITS: Final[Mapping[str, timedelta]] = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_SPAN = re.compile(r"([0-9]{1,8})\s*([wdhms])")
_TIME = re.compile(r"([0-9]{2}):([0-9]{2})")
_EXAMPLES = '"daily 02:30", "daily 06:00,18:00 Europe/Brussels", "weekly sun 04:00", "every 6h" or "never"'


@dataclass(frozen=True, slots=True)
class Never:
    """The timetable on which nothing is due."""


@dataclass(frozen=True, slots=True)
class Every:
    """A timetable of instants that are one interval apart, independent of how clocks are set."""

    interval: timedelta


@dataclass(frozen=True, slots=True)
class Weekly:
    """A timetable of times on the wall clock of a zone."""

    days: tuple[int, ...]
    """Days of the week, 0 is Monday; ascending, each once. All seven mean daily."""
    times: tuple[time, ...]
    """Times of day to the minute; ascending, each once."""
    zone: str | None = None
    """Name of the time zone; None for the zone that the reader assumes."""


Timetable: TypeAlias = Never | Every | Weekly


def parse_timetable(text: str) -> Timetable:
    """Parse the text of a timetable.

    Raises ValueError with a sentence for people.
    """
    word, _, rest = text.strip().partition(" ")
    parse = _PARSERS.get(word)
    if parse is None:
        raise ValueError(f"is no timetable; write one as {_EXAMPLES}")
    return parse(rest.split())


def parse_zone(text: str) -> str:
    """Check that this machine knows the time zone, and return its name.

    Raises ValueError with a sentence for people.
    """
    try:
        zone_of(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("has no known time zone; write one as Europe/Brussels or UTC") from None
    return text


def zone_of(name: str | None) -> tzinfo:
    """Return the time zone of a name that `parse_zone` accepted; UTC for None, even where no zones are known."""
    return UTC if name in (None, UTC_ZONE) else zoneinfo.ZoneInfo(name)


def in_zone(timetable: Timetable, zone: str) -> Timetable:
    """Return the timetable with its times in `zone` when it names no zone."""
    if isinstance(timetable, Weekly) and timetable.zone is None:
        return replace(timetable, zone=zone)
    return timetable


def spell_timetable(timetable: Timetable) -> str:
    """Write a text that `parse_timetable` reads as `timetable`."""
    if isinstance(timetable, Never):
        return "never"
    if isinstance(timetable, Every):
        return f"every {_spell_span(timetable.interval)}"
    named = ",".join(DAYS[day] for day in timetable.days)
    days = "daily" if len(timetable.days) == len(DAYS) else f"weekly {named}"
    times = ",".join(f"{one:%H:%M}" for one in timetable.times)
    return f"{days} {times}" + (f" {timetable.zone}" if timetable.zone else "")


def _never(words: list[str]) -> Timetable:
    if words:
        raise ValueError("says more than never")
    return Never()


def _every(words: list[str]) -> Timetable:
    match = _SPAN.fullmatch(" ".join(words))
    interval = int(match[1]) * _UNITS[match[2]] if match else timedelta()
    if not LEAST <= interval <= MOST:
        raise ValueError('needs a time span from 1s to 366d after every, as in "every 6h"')
    return Every(interval)


def _daily(words: list[str]) -> Timetable:
    return _weekly_at(tuple(range(len(DAYS))), words)


def _weekly(words: list[str]) -> Timetable:
    names = words[0].split(",") if words else []
    if not names or set(names) - set(DAYS):
        raise ValueError(f'needs days of {", ".join(DAYS)} after weekly, as in "weekly mon,thu 04:00"')
    return _weekly_at(tuple(sorted({DAYS.index(name) for name in names})), words[1:])


def _weekly_at(days: tuple[int, ...], words: list[str]) -> Timetable:
    times = {_time(text) for text in words[0].split(",")} if words else set()
    if not times:
        raise ValueError('needs a time of day, as in "daily 02:30"')
    if len(words) > 2:
        raise ValueError(f"says more than days, times and a time zone; write one as {_EXAMPLES}")
    return Weekly(days, tuple(sorted(times)), parse_zone(words[1]) if len(words) == 2 else None)


def _time(text: str) -> time:
    match = _TIME.fullmatch(text)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise ValueError('has no time of day from 00:00 to 23:59, as in "daily 02:30"')
    return time(int(match[1]), int(match[2]))


def _spell_span(span: timedelta) -> str:
    unit = next(name for name, length in _UNITS.items() if span % length == timedelta())
    return f"{span // _UNITS[unit]}{unit}"


_PARSERS: Final[Mapping[str, Callable[[list[str]], Timetable]]] = {
    "never": _never,
    "every": _every,
    "daily": _daily,
    "weekly": _weekly,
}
