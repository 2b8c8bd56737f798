"""What became of the rows that lead others to their tenants, known by sums of their hashes alone."""

from __future__ import annotations

import pytest

from backupd.model.inventory import ForeignKey, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Step
from backupd.planning.incremental.facts import UNIT, BlockChanges, FileId, Reason
from backupd.planning.incremental.waypoints import (
    COSTLIER,
    MOST_CELLS,
    Cell,
    WayChange,
    Waypoint,
    WaySum,
    added,
    cell_blocks,
    cells,
    changed_cells,
    compare,
    is_worth_a_look,
    waypoints,
)

FILE = FileId(1663, 100)
ISSUE, NOTE = TableName("public", "issue"), TableName("public", "note")
EQUALS = ('OPERATOR("pg_catalog".=)',)


def test_every_table_on_the_way_has_the_columns_that_lead_there_and_on() -> None:
    """The last one leads to the tenant."""
    first = ForeignKey("a", ("note_id",), NOTE, ("id",), EQUALS, required=True)
    second = ForeignKey("b", ("x", "y"), ISSUE, ("p", "q"), EQUALS * 2, required=True)
    route = ForeignKeyPath((Step(first, whole=False), Step(second, whole=False)), "tenant")
    assert waypoints(route) == [Waypoint(NOTE, ("id",), ("x", "y")), Waypoint(ISSUE, ("p", "q"), ("tenant",))]
    assert waypoints(Column("tenant")) == []


@pytest.mark.parametrize(("blocks", "size"), [(0, UNIT), (UNIT * MOST_CELLS, UNIT), (UNIT * MOST_CELLS + 1, 2 * UNIT)])
def test_cells_grow_with_tables(blocks: int, size: int) -> None:
    """What is remembered of a table stays small."""
    assert cell_blocks(blocks) == size
    assert len(cells(blocks, size)) <= MOST_CELLS


def test_cells_cover_a_table_once() -> None:
    """The last has no end."""
    assert cells(0, 10) == cells(10, 10) == [Cell(0, None)]
    assert cells(21, 10) == [Cell(0, 10), Cell(10, 20), Cell(20, None)]


@pytest.mark.parametrize(
    ("known", "units", "found"),
    [
        (3, set(), []),
        (3, {0}, [0]),
        (3, {7}, [2]),
        (2, set(), [1, 2]),
        (1, {2}, [0, 1, 2]),
        (5, set(), [2]),
    ],
    ids=["nothing", "one", "behind the last", "grown", "grown from one", "shrunk"],
)
def test_cells_that_changed_are_found(known: int, units: set[int], found: list[int]) -> None:
    """The last one of before had no end, so what is behind it counts when there are others now."""
    parts = cells(3 * UNIT, UNIT)
    assert changed_cells(parts, known, FILE, BlockChanges({FILE: frozenset(units)})) == found


A, B, C = WaySum(2, 5, 9), WaySum(1, 7, 7), WaySum(1, 1, 1)


@pytest.mark.parametrize(
    ("now", "count", "guesses", "change"),
    [
        ({}, 3, [], WayChange.NONE),
        ({0: A}, 3, [], WayChange.NONE),
        ({0: B, 1: A}, 3, [], WayChange.NONE),
        ({1: added([B, C])}, 3, [], WayChange.UNKNOWN),
        ({1: added([B, C])}, 3, [A, B], WayChange.MORE),
        ({1: added([B, C])}, 3, [C], WayChange.UNKNOWN),
        ({1: C}, 3, [], WayChange.UNKNOWN),
        ({1: B._replace(rows=2)}, 3, [], WayChange.UNKNOWN),
        ({1: added([B, C])}, 2, [], WayChange.NONE),
        ({1: B}, 2, [], WayChange.UNKNOWN),
        ({3: C}, 4, [], WayChange.MORE),
    ],
    ids=[
        "no cell",
        "as before",
        "moved between cells",
        "more",
        "more, and those of before are there",
        "more, and another is not",
        "led elsewhere",
        "another count",
        "the last cell's rows moved to the one before",
        "the last cell's rows are gone",
        "more in a new cell",
    ],
)
def test_rows_lead_where_they_did_if_their_sum_is_the_same(
    now: dict[int, WaySum], count: int, guesses: list[WaySum], change: WayChange
) -> None:
    """Over all cells that changed, as rows move between them when they are written anew."""
    assert compare([A, B, C], now, count, guesses) is change


def test_sums_are_taken_modulo_two_to_the_64() -> None:
    """So they fit where they are remembered."""
    assert added([WaySum(1, 2**64 - 1, 0), WaySum(1, 2, 2**63)]) == WaySum(2, 1, 2**63)


@pytest.mark.parametrize(
    ("unread", "changes", "worth"),
    [
        (0, BlockChanges({FILE: frozenset({1})}), False),
        (0, BlockChanges(), True),
        (UNIT, BlockChanges({FILE: frozenset(range(COSTLIER))}), True),
        (UNIT, BlockChanges({FILE: frozenset(range(COSTLIER + 1))}), False),
        (UNIT, BlockChanges(limited=frozenset({FILE})), False),
        (10 * UNIT, BlockChanges(limited=frozenset({FILE})), True),
        (0, Reason.AUDIT, True),
    ],
    ids=["nothing to gain", "nothing to sum", "less", "more", "all of it", "all, for more", "to be remembered"],
)
def test_rows_are_summed_where_that_costs_less_than_what_it_saves(
    unread: int, changes: BlockChanges | Reason, worth: bool
) -> None:
    """Where all is read anyway, nothing is summed."""
    assert is_worth_a_look(unread, 9 * COSTLIER * UNIT, FILE, changes) is worth
