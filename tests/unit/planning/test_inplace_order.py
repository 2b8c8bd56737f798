"""The order in which tables are written."""

from hypothesis import given
from hypothesis import strategies as st

from backupd.planning.inplace import write_order

TABLES = list(range(8))


@given(st.sets(st.tuples(st.sampled_from(TABLES), st.sampled_from(range(10)))))
def test_whatever_is_referred_to_stands_first_except_in_circles(edges):
    """Every table once; one that refers to another stands after it, or both stand in one circle."""
    references = {table: frozenset(target for one, target in edges if one == table) for table in TABLES}
    order, circles = write_order(TABLES, references)
    assert sorted(order) == TABLES
    place = {table: number for number, table in enumerate(order)}
    for table, target in edges:
        if target in place and target != table:
            together = any({table, target} <= circle for circle in circles)
            assert together or place[target] < place[table]


def test_circles_are_told_and_stand_together():
    """A table that refers to itself is none."""
    order, circles = write_order(
        [1, 2, 3, 4], {1: frozenset({2}), 2: frozenset({3}), 3: frozenset({1}), 4: frozenset({4, 1})}
    )
    assert (order, circles) == ([1, 2, 3, 4], [frozenset({1, 2, 3})])
