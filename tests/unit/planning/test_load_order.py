"""Tables that keys bind are loaded after their parents, or with them where they refer to each other."""

from __future__ import annotations

from functools import partial

from backupd.model.facts import SnapshotFacts
from backupd.planning.load_order import Circle, EarlyKey, load_order
from backupd.planning.restore import Bundle, Piece, RestorePlan, TablePlan


def piece(table: int, segment: int = 0) -> Piece:
    return Piece(table, segment, 1, partial(bytes, b""))


def plan(names: str, *passes: tuple[Bundle, ...]) -> RestorePlan:
    """A plan of tables with one letter each."""
    tables = tuple(TablePlan("s", name, ("id",), 1, 1, 1) for name in names)
    return RestorePlan(tables, passes, {}, (), SnapshotFacts(), (), len(tables), len(tables), 0)


def key(table: str, parent: str, *, deferrable: bool = False) -> EarlyKey:
    return EarlyKey(("s", table), ("s", parent), f"{table}_{parent}", deferrable)


def places(passes: tuple[tuple[Bundle, ...], ...]) -> list[list[list[int]]]:
    return [[[one.table for one in bundle] for bundle in bundles] for bundles in passes]


def test_without_keys_the_passes_stay() -> None:
    """A key of a table to itself, or of one that has no rows here, binds nothing."""
    given = plan("ab", ((piece(0), piece(1)),))
    order = load_order(given, [key("a", "a"), key("a", "x"), key("x", "b")])
    assert order.passes is given.passes
    assert order.circles == ()


def test_parents_come_in_an_earlier_pass() -> None:
    """Grandparents before parents before children; tables that nothing binds are in their passes as they were."""
    given = plan("gcpxy", ((piece(0), piece(1), piece(3)), (piece(2), piece(2, 1)), (piece(4),)))
    order = load_order(given, [key("g", "c"), key("c", "p"), key("g", "p")])
    assert places(order.passes) == [[[2, 2]], [[1]], [[0]], [[3], [4]]]
    assert order.circles == ()


def test_children_of_one_parent_are_loaded_at_once() -> None:
    order = load_order(plan("abp", ((piece(0), piece(1), piece(2)),)), [key("a", "p"), key("b", "p")])
    assert places(order.passes) == [[[2]], [[0], [1]], []]


def test_tables_of_one_pass_are_in_the_plan_s_order() -> None:
    """Not in that of their parents, which would be another one at each restore."""
    order = load_order(plan("pqab", ((piece(0), piece(1), piece(2), piece(3)),)), [key("a", "q"), key("b", "p")])
    assert places(order.passes) == [[[0], [1]], [[2], [3]], []]


def test_a_circle_may_be_of_three() -> None:
    """Of which each refers to the next one only."""
    keys = [key("a", "b"), key("b", "c"), key("c", "a")]
    order = load_order(plan("abc", ((piece(0), piece(1), piece(2)),)), keys)
    assert places(order.passes) == [[[0, 1, 2]], []]
    assert order.circles == (Circle(frozenset({0, 1, 2}), tuple(keys)),)


def test_a_circle_is_one_bundle_table_after_table() -> None:
    """Its pieces lie in two bundles of the plan; its parent comes before it, what refers to it after it."""
    given = plan("abpc", ((piece(1), piece(0)), (piece(1, 1), piece(2), piece(3), piece(0, 1))))
    keys = [key("a", "b"), key("b", "a", deferrable=True), key("a", "p"), key("c", "b"), key("b", "b")]
    order = load_order(given, keys)
    assert places(order.passes) == [[[2]], [[0, 0, 1, 1]], [[3]], []]
    assert order.circles == (Circle(frozenset({0, 1}), (keys[0], keys[2], keys[4])),)


def test_tables_whose_checks_may_look_anywhere_come_last() -> None:
    """Each in one bundle, however many its pieces lay in; one that a key binds comes where that wants it."""
    given = plan("abcp", ((piece(0), piece(1)), (piece(0, 1), piece(2), piece(3))))
    late = {("s", "a"), ("s", "c"), ("s", "elsewhere")}
    assert places(load_order(given, [], late).passes) == [[[1], [3]], [[0, 0], [2]]]
    assert places(load_order(given, [key("c", "p")], late).passes) == [[[3]], [[2]], [[1]], [[0, 0]]]
    assert load_order(given, [], {("s", "elsewhere")}).passes is given.passes
