"""Decide whether the rows on the way from others to their tenant still lead there, without knowing what they were.

Of each cell of such a table, consecutive heap blocks, the sum of all rows' hashes is remembered: of what the keys of
others point to, and of what leads on from there. Where the rows of the changed cells have the same sum as before, every
row leads where it did, also one of which something else was changed. Where there are more rows, those that were there
before may be guessed: their sum proves the guess.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from backupd.model.inventory import TableName
from backupd.model.tenancy import ForeignKeyPath, Route
from backupd.planning.incremental.facts import UNIT, BlockChanges, FileId, Reason

MOST_CELLS = 4096
"""Cells of a table, at most: 24 bytes of each are remembered."""
COSTLIER = 8
"""So many times as long does it take to read a block as to sum its rows (measured)."""
_WORD = 1 << 64


class Waypoint(NamedTuple):
    """A table on the way to a tenant, with the columns that lead there."""

    table: TableName
    key: tuple[str, ...]
    """The columns that others point to."""
    onward: tuple[str, ...]
    """The columns that lead on: those of the next key, or the tenant's."""


class WayChange(StrEnum):
    """The ways in which the rows of a waypoint may lead elsewhere than before."""

    NONE = "none"
    MORE = "more"
    """Each row that was there leads where it did, and there are more."""
    UNKNOWN = "unknown"


class WaySum(NamedTuple):
    """A number of rows, and two sums of their hashes, modulo 2**64: it says nothing of any of them."""

    rows: int
    low: int
    high: int


class Cell(NamedTuple):
    """Consecutive heap blocks from `start` up to but excluding `end`; without an end, up to the table's."""

    start: int
    end: int | None


NOTHING = WaySum(0, 0, 0)


def waypoints(route: Route) -> list[Waypoint]:
    """Return the tables on a route in order, the one with the tenant's column last."""
    if not isinstance(route, ForeignKeyPath):
        return []
    onward = [step.key.columns for step in route.steps[1:]]
    return [
        Waypoint(step.key.target, step.key.target_columns, columns)
        for step, columns in zip(route.steps, [*onward, (route.column,)], strict=True)
    ]


def is_worth_a_look(unread: int, blocks: int, file: FileId, changes: BlockChanges | Reason) -> bool:
    """Check whether reading the rows that a waypoint leads to their tenants costs more than summing what it changed.

    `unread` are the blocks that need not be read if it leads where it did, `blocks` its own. What is summed now is also
    what the next backup compares with.
    """
    if isinstance(changes, Reason):
        return True
    summed = blocks if changes.renewed(file) else min(blocks, UNIT * len(changes.units.get(file, ())))
    return summed <= COSTLIER * unread


def cell_blocks(blocks: int) -> int:
    """Return the blocks of a cell of a table of so many: a power of two, and a multiple of a unit of changes."""
    return 1 << (max(UNIT, -(-blocks // MOST_CELLS)) - 1).bit_length()


def cells(blocks: int, size: int) -> list[Cell]:
    """Return the cells of a table, at least one; the last has no end."""
    starts = range(0, max(blocks, 1), size)
    return [Cell(start, start + size if start + size < blocks else None) for start in starts]


def added(sums: Iterable[WaySum]) -> WaySum:
    """Return the sum of all rows of several cells."""
    rows = low = high = 0
    for one in sums:
        rows, low, high = rows + one.rows, low + one.low, high + one.high
    return WaySum(rows, low % _WORD, high % _WORD)


def changed_cells(parts: Sequence[Cell], known: int, file: FileId, changes: BlockChanges) -> list[int]:
    """Return the numbers of the cells in which a block has changed, of a table that had `known` cells.

    The last cell of before had no end: it and those behind it count as changed when there are more or fewer now.
    """
    certain = len(parts) if known == len(parts) else min(known, len(parts)) - 1
    return [at for at, cell in enumerate(parts) if at >= certain or changes.touch(file, cell.start, cell.end)]


def compare(
    before: Sequence[WaySum], now: Mapping[int, WaySum], count: int, guesses: Iterable[WaySum] = ()
) -> WayChange:
    """Return what became of the rows of changed cells, given the sums of all cells before, and of these cells now.

    `count` are the cells of now; `guesses` are sums of as many rows of the changed ones as there were before.
    """
    was = before_of(before, now, count)
    if added(now.values()) == was:
        return WayChange.NONE
    return WayChange.MORE if was == NOTHING or was in guesses else WayChange.UNKNOWN


def before_of(before: Sequence[WaySum], changed: Container[int], count: int) -> WaySum:
    """Return the sum that the changed cells had before, and those that there are no more."""
    return added(one for at, one in enumerate(before) if at in changed or at >= count)
