"""Cutting big tables into ranges of heap blocks, always at the same places, for several readers to share."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

GRID = 16_384
"""Blocks: 128 MiB of 8 KiB. Fixed, so that the cuts of yesterday's backup are today's."""


@dataclass(frozen=True, slots=True)
class BlockRange:
    """Heap blocks from `start` up to but excluding `end`; no end means the table's."""

    start: int
    end: int | None


def block_ranges(blocks: int, grid: int = GRID) -> tuple[BlockRange, ...]:
    """Ranges that cover a table of `blocks` blocks exactly once, in order.

    The last has no end; a remainder shorter than half the grid is part of the last, so that a small table is one range.
    """
    cuts = [*range(0, max(blocks - grid // 2, 1), grid), None]
    return tuple(BlockRange(start or 0, end) for start, end in pairwise(cuts))
