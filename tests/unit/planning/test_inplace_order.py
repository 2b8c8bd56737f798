"""The order in which tables are written."""

from hypothesis import given
from hypothesis import strategies as st

from backupd.planning.inplace import HARMLESS, Conflict, ConflictKind, blocking, write_order

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


def test_only_what_was_accepted_or_harms_nobody_prevents_nothing():
    """Of each kind of conflict alone, in the order in which they were found."""
    found = [Conflict("public.t", kind, 1) for kind in ConflictKind]
    left = [one.kind for one in blocking(found, frozenset({ConflictKind.TABLE_NEW}))]
    assert left == [kind for kind in ConflictKind if kind not in HARMLESS | {ConflictKind.TABLE_NEW}]
    assert blocking([Conflict("public.t", kind, 1) for kind in HARMLESS], frozenset()) == []
