"""The order of loading where foreign keys exist before the rows do, as extensions make them, and where a table's checks
may look into others. Pure.

Tables that nothing of that binds are loaded in any order, and at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import NamedTuple

from backupd.planning.restore import Bundle, Piece, RestorePlan


class EarlyKey(NamedTuple):
    """A foreign key of the target that exists before rows are loaded."""

    table: tuple[str, str]
    """Schema and name of the table whose rows refer to others."""
    parent: tuple[str, str]
    """Schema and name of the table they refer to."""
    name: str
    deferrable: bool


@dataclass(frozen=True, slots=True)
class Circle:
    """Tables that refer to each other, so that one transaction has to load them all."""

    tables: frozenset[int]
    """Places in the plan's tables, two or more."""
    keys: tuple[EarlyKey, ...]
    """Keys from these tables that are not deferrable, which the transaction has to change for its duration."""


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """The passes in which tables are loaded: every table after those it refers to, or with them in a circle."""

    passes: tuple[tuple[Bundle, ...], ...]
    circles: tuple[Circle, ...]
    """Each is in one bundle, table after table."""


def load_order(
    plan: RestorePlan, keys: Sequence[EarlyKey], late: Collection[tuple[str, str]] = frozenset()
) -> LoadOrder:
    """Return the order in which to load a plan's tables under the keys that exist.

    The `late` ones, by schema and name, come after all others, unless a key binds them.
    """
    places = {(table.schema, table.name): place for place, table in enumerate(plan.tables)}
    parents: defaultdict[int, set[int]] = defaultdict(set)
    for key in keys:
        # A table that refers to itself only needs nothing: the key is checked at the end of its one COPY.
        if key.table in places and key.parent in places and key.table != key.parent:
            parents[places[key.table]].add(places[key.parent])
    bound = set(parents).union(*parents.values())
    last = {places[name] for name in late if name in places} - bound
    if not bound and not last:
        return LoadOrder(plan.passes, ())
    levels, apart = list(_levels(parents, bound)), bound | last
    pieces = _pieces_by_table(plan)
    first = (
        tuple(tuple(piece for table in sorted(group) for piece in pieces[table]) for group in level) for level in levels
    )
    others = (
        tuple(left for bundle in bundles if (left := tuple(piece for piece in bundle if piece.table not in apart)))
        for bundles in plan.passes
    )
    end = [tuple(tuple(pieces[table]) for table in sorted(last))] if last else []
    circles = [group for level in levels for group in level if len(group) > 1]
    return LoadOrder((*first, *others, *end), tuple(_circle(group, keys, places) for group in circles))


def _levels(parents: Mapping[int, set[int]], bound: set[int]) -> Iterator[tuple[frozenset[int], ...]]:
    """Yield groups of tables that no key binds to each other, parents before those that refer to them."""
    above = {table: _reached(parents, table) for table in bound}
    group = {table: frozenset({table, *(other for other in above[table] if table in above[other])}) for table in bound}
    order: TopologicalSorter[frozenset[int]] = TopologicalSorter()
    for table in bound:
        order.add(group[table], *({group[parent] for parent in parents.get(table, ())} - {group[table]}))
    order.prepare()
    while order.is_active():
        ready = order.get_ready()
        yield tuple(sorted(ready, key=min))
        order.done(*ready)


def _reached(parents: Mapping[int, set[int]], table: int) -> set[int]:
    """Return all tables that a table refers to, directly or through others; itself only in a circle."""
    found: set[int] = set()
    left = [*parents.get(table, ())]
    while left:
        parent = left.pop()
        if parent not in found:
            found.add(parent)
            left += parents.get(parent, ())
    return found


def _pieces_by_table(plan: RestorePlan) -> dict[int, list[Piece]]:
    pieces: defaultdict[int, list[Piece]] = defaultdict(list)
    for piece in (piece for bundles in plan.passes for bundle in bundles for piece in bundle):
        pieces[piece.table].append(piece)
    return pieces


def _circle(group: frozenset[int], keys: Sequence[EarlyKey], places: Mapping[tuple[str, str], int]) -> Circle:
    return Circle(group, tuple(key for key in keys if not key.deferrable and places.get(key.table) in group))
