"""Sets of whole numbers as ranges, FORMAT.md §4: first and count of each, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence


def to_ranges(numbers: Iterable[int]) -> list[int]:
    """Return the numbers, which may come in any order and twice, as `[first, count, first, count, …]`."""
    ranges: list[int] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-2] + ranges[-1]:
            ranges[-1] += 1
        else:
            ranges += (number, 1)
    return ranges


def from_ranges(ranges: Sequence[int], limit: int) -> list[int]:
    """Return the numbers, in order.

    Raises ValueError unless the ranges are in order, neither empty nor touching, and their
    numbers below `limit`.
    """
    pairs = list(_checked(ranges, limit))
    return [number for first, count in pairs for number in range(first, first + count)]


def to_mask(ranges: Sequence[int], limit: int) -> int:
    """Return the numbers as the bits of one whole number; ValueError as `from_ranges` raises it."""
    # By bytes: each shift of a whole number copies all of it, and a pack may list a hundred thousand sections.
    bits = bytearray((limit + 7) // 8)
    for first, count in _checked(ranges, limit):
        last = first + count - 1
        if first >> 3 == last >> 3:
            bits[first >> 3] |= ((1 << count) - 1) << (first & 7)
        else:
            bits[first >> 3] |= 0xFF << (first & 7) & 0xFF
            bits[(first >> 3) + 1 : last >> 3] = b"\xff" * ((last >> 3) - (first >> 3) - 1)
            bits[last >> 3] |= (2 << (last & 7)) - 1
    return int.from_bytes(bits, "little")


def mask_of(places: Iterable[int], limit: int) -> int:
    """Return places below `limit`, in any order, as the bits of one whole number."""
    bits = bytearray((limit + 7) // 8)
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


def _checked(ranges: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Yield first and count of each range; raises ValueError before the first that must not be."""
    if len(ranges) % 2:
        raise ValueError("a range lacks its count")
    end, numbers = -1, iter(ranges)
    for first, count in zip(numbers, numbers, strict=True):
        if first <= end or count < 1 or first + count > limit:
            raise ValueError("ranges overlap, touch, are empty or reach too far")
        end = first + count
        yield first, count


def bits_of(mask: int) -> list[int]:
    """Return the places of the bits that are set, in order."""
    return [place for place, bit in enumerate(reversed(f"{mask:b}")) if bit == "1"]
