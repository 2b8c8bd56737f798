"""Sets of whole numbers as ranges, and what is no such thing."""

from __future__ import annotations

import pytest

from backupd.model.ranges import from_ranges, to_ranges


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [
        ([], []),
        ([0], [0, 1]),
        ([5, 4, 4, 3], [3, 3]),
        ([9, 0, 2, 1, 7, 8], [0, 3, 7, 3]),
        ([2, 4, 6], [2, 1, 4, 1, 6, 1]),
    ],
)
def test_numbers_become_ranges_and_come_back(numbers: list[int], ranges: list[int]) -> None:
    """First and count of each run of numbers, in order, however they came."""
    assert to_ranges(numbers) == ranges
    assert from_ranges(ranges, 10) == sorted(set(numbers))


@pytest.mark.parametrize(
    "ranges",
    [[0], [0, 0], [0, 1, 1, 1], [3, 2, 4, 1], [5, 1, 3, 1], [-1, 2], [0, -1], [0, 11], [10, 1], [0, 1 << 62]],
    ids=str,
)
def test_other_lists_are_refused(ranges: list[int]) -> None:
    """Ranges that lack a count, are empty, touch, overlap, are out of order or reach too far."""
    with pytest.raises(ValueError, match=r"range"):
        from_ranges(ranges, 10)
