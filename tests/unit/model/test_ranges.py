"""Sets of whole numbers as ranges, and what is no such thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.model.ranges import bits_of, from_ranges, mask_of, to_mask, to_ranges


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
    wrong = "a range lacks its count" if len(ranges) % 2 else "ranges overlap, touch, are empty or reach too far"
    with pytest.raises(ValueError, match=f"^{wrong}$"):
        from_ranges(ranges, 10)
    with pytest.raises(ValueError, match=f"^{wrong}$"):
        to_mask(ranges, 10)


@given(st.sets(st.integers(0, 99)), st.integers(100, 130))
def test_a_mask_is_the_same_numbers(numbers: set[int], limit: int) -> None:
    """Bit by bit, where a range begins and ends within a byte, too."""
    mask = to_mask(to_ranges(numbers), limit)
    assert mask == sum(1 << number for number in numbers) == mask_of(numbers, limit)
    assert bits_of(mask) == sorted(numbers)


def test_a_mask_has_every_range_that_goes_over_bytes() -> None:
    """Wherever it begins and ends, and with others in the bytes in which it does."""
    limit = 40
    for first in range(2, limit - 3):
        for count in range(1, limit - 2 - first):
            after = first + count + 1
            mask = 1 | ((1 << count) - 1) << first | 1 << after
            assert to_mask([0, 1, first, count, after, 1], limit) == mask


def test_a_mask_of_many_ranges_is_made_in_one_pass() -> None:
    """A thief who may sign puts as many into a record as it holds: with a copy for each, this would take hours."""
    limit = 1 << 24
    ranges = [number for first in range(0, limit, 16) for number in (first, 1)]
    assert to_mask(ranges, limit).bit_count() == len(ranges) // 2
