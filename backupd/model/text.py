"""Instants, sizes, durations and JSON as text: how FORMAT.md writes them, how people read them. Pure.

There is one way to decode JSON that was read from a store or a file, with one error for all that can be wrong with it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import msgspec


def stamp(instant: datetime) -> str:
    """Write an instant as FORMAT.md does: `YYYY-MM-DDTHH:MM:SS.ffffffZ`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def compact(instant: datetime) -> str:
    """Write an instant as FORMAT.md does in names: `YYYYMMDDTHHMMSSZ`."""
    return instant.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def day(instant: datetime | None) -> str:
    """Return the day of an instant as YYYY-MM-DD, an empty text for None."""
    return "" if instant is None else f"{instant:%Y-%m-%d}"


def parse_stamp(text: str) -> datetime:
    """Parse an instant that `stamp` wrote.

    Raises ValueError for any other text.
    """
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def human_bytes(count: float) -> str:
    """Write a number of bytes with up to three digits, in powers of 1000: `742 MB`, `1.3 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_duration(span: timedelta) -> str:
    """Write a duration for people: `4.2 s`, `3 min 20 s`, `2 h 5 min`, `28 d`."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 snapshot`, `2 snapshots`, `2 entries`."""
    if number == 1:
        return f"1 {noun}"
    if re.search("[^aeiou]y$", noun):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if re.search('(s|x|ch|sh)$', noun) else 's'}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint with the nearest known word, or with all of them where none is near."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f'Did you mean "{near[0]}"?'
    return f"Known are {', '.join(names)}." if names else ""


def counts(**numbers: int) -> str:
    """Write several numbers with their nouns, separated by commas: `3 snapshots, 1 generation`."""
    return ", ".join(counted(number, noun) for noun, number in numbers.items())


T = TypeVar("T")

_VALUE = re.compile(r"(Invalid (?:enum )?value) .*?( - at `\$[\w.\[\]…]*`)?\Z", re.DOTALL)


class UnreadableError(ValueError):
    """The text is not JSON, or not of the shape asked for. Callers say what it was that they read."""


def from_json(text: bytes, shape: type[T]) -> T:
    """Decode JSON as a value of `shape`.

    Raises UnreadableError; its message holds field names and types, never a value.
    """
    try:
        # Decoded first because msgspec does not look into strings it skips.
        return msgspec.json.decode(text.decode(), type=shape)
    except msgspec.ValidationError as error:
        # Its own words quote the value of a tag or an enum.
        raise UnreadableError(_VALUE.sub(r"\1\2", str(error))) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableError("not readable as JSON") from error


_UNITS = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
)


def spell(span: timedelta) -> str:
    """Write a duration exactly, in the largest unit that divides it: `30 d`, `36 h`, `90 min`, `-51 d`."""
    for unit, name in _UNITS:
        if span % unit == timedelta():
            return f"{span // unit} {name}"
    return f"{span.total_seconds():.6f}".rstrip("0") + " s"


def spell_about(span: timedelta) -> str:
    """Write a measured duration in whole hours, rounded up: `3 d 2 h`, `35 d`."""
    hours = -(-span // timedelta(hours=1))
    days, rest = divmod(hours, 24)
    spelt = [f"{number} {name}" for number, name in ((days, "d"), (rest, "h")) if number]
    return " ".join(spelt) or "0 h"


def spell_age(span: timedelta) -> str:
    """Write how long ago something was, or will be, in whole hours, and below one in minutes, rounded down."""
    if span < timedelta(hours=1):
        return f"{max(span, timedelta()) // timedelta(minutes=1)} min"
    return spell_about(span - span % timedelta(hours=1))
