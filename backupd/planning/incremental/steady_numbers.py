"""Numbers and places of a list's members that stay theirs while other members come, go and move. Pure.

pg_dump counts an archive's entries through, so that one table more moves all that come after it, which are other
tenants'. Where each has the number it had before, nobody else's bytes change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

_PLACES = 1 << 32
"""Places are below this: a `ddl` file has four bytes for each (FORMAT.md §8)."""
_SPARE = 1 << 16
"""Numbers may be so much above twice the members' count: pg_restore's memory grows with the highest, 12 bytes each."""
_NEIGHBOURS = 8
_ROOM = 1 << 10
"""Places for each member, where members get new ones because there was no room for others among them."""


class SteadyNumber(NamedTuple):
    """A number that is one member's own, from 1, and a place, by which the list is sorted."""

    number: int
    place: int


Numbering = Callable[[Sequence[bytes]], Sequence[SteadyNumber]]
"""Numbers a list by the keys of its members, which are all different; places ascend in the list's order."""


def steady_numbers(keys: Sequence[bytes], known: Mapping[bytes, SteadyNumber]) -> list[SteadyNumber]:
    """Number a list, whose keys are all different, as it was numbered before as far as its order allows.

    Numbers are as low as they can be, and may have been those of members that are gone. Places ascend. `known` may say
    anything: members of which nothing can be kept get new ones.
    """
    numbers = _numbers([known[key].number if key in known else 0 for key in keys])
    places = _places([known[key].place if key in known else -1 for key in keys])
    return [SteadyNumber(*pair) for pair in zip(numbers, places, strict=True)]


def _numbers(before: list[int]) -> list[int]:
    """Keep every number the first time it comes; 0 is none."""
    highest = 2 * len(before) + _SPARE
    used: set[int] = set()
    kept: list[int] = []
    for number in before:
        kept.append(number if 0 < number <= highest and number not in used else 0)
        used.add(kept[-1])
    free = (number for number in range(1, highest) if number not in used)
    return [number or next(free) for number in kept]


def _places(before: list[int]) -> list[int]:
    """Keep the places of the most members that are still in order, and put the others between them."""
    kept: list[int | None] = [None] * len(before)
    for at in _longest_ascent(before):
        kept[at] = before[at]
    while (tight := next((gap for gap in _gaps(kept) if not gap.has_room(1)), None)) is not None:
        _widen(kept, tight)
    for gap in list(_gaps(kept)):
        for at in range(gap.start, gap.end):
            kept[at] = gap.place(at)
    return [place for place in kept if place is not None]


def _widen(kept: list[int | None], gap: _Gap) -> None:
    """Take their places from ever more neighbours of a gap, until all of them have plenty, or nobody has one."""
    around = _NEIGHBOURS
    while not gap.has_room(_ROOM) and (gap.start, gap.end) != (0, len(kept)):
        start, end = max(0, gap.start - around), min(len(kept), gap.end + around)
        kept[start:end] = [None] * (end - start)
        gap = next(one for one in _gaps(kept) if one.start <= start < one.end)
        around *= 2


class _Gap(NamedTuple):
    """Members without a place, from `start` to before `end`, and the places around them."""

    start: int
    end: int
    after: int
    before: int

    def has_room(self, each: int) -> bool:
        return self.before - self.after > each * (self.end - self.start)

    def place(self, at: int) -> int:
        return self.after + (self.before - self.after) * (at - self.start + 1) // (self.end - self.start + 1)


def _gaps(kept: Sequence[int | None]) -> Iterator[_Gap]:
    start, after = 0, -1
    for at, place in enumerate([*kept, _PLACES]):
        if place is not None:
            if at > start:
                yield _Gap(start, at, after, place)
            start, after = at + 1, place


def _longest_ascent(values: Sequence[int]) -> list[int]:
    """Return the indexes of a longest strictly ascending part of the values that can be places, in order."""
    ends: list[int] = []  # the lowest last value of an ascent of each length, and where it stands
    ends_at: list[int] = []
    previous: list[int] = [-1] * len(values)
    for at, value in enumerate(values):
        if not 0 <= value < _PLACES:
            continue
        length = bisect_left(ends, value)
        previous[at] = ends_at[length - 1] if length else -1
        ends[length : length + 1] = [value]
        ends_at[length : length + 1] = [at]
    found: list[int] = []
    at = ends_at[-1] if ends_at else -1
    while at >= 0:
        found.append(at)
        at = previous[at]
    return found[::-1]
