"""Sets of whole numbers as ranges, FORMAT.md §4: first and count of each, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
    if len(ranges) % 2:
        raise ValueError("a range lacks its count")
    end = -1
    for first, count in zip(ranges[::2], ranges[1::2], strict=True):
        if first <= end or count < 1 or first + count > limit:
            raise ValueError("ranges overlap, touch, are empty or reach too far")
        end = first + count
    pairs = zip(ranges[::2], ranges[1::2], strict=True)
    return [number for first, count in pairs for number in range(first, first + count)]


def to_mask(ranges: Sequence[int], limit: int) -> int:
    """Return the numbers as the bits of one whole number; ValueError as `from_ranges` raises it."""
    mask, end = 0, -1
    if len(ranges) % 2:
        raise ValueError("a range lacks its count")
    for first, count in zip(ranges[::2], ranges[1::2], strict=True):
        if first <= end or count < 1 or first + count > limit:
            raise ValueError("ranges overlap, touch, are empty or reach too far")
        end = first + count
        mask |= ((1 << count) - 1) << first
    return mask


def bits_of(mask: int) -> list[int]:
    """Return the places of the bits that are set, in order."""
    return [place for place, bit in enumerate(reversed(f"{mask:b}")) if bit == "1"]
