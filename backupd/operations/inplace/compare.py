"""Compare the tenant's rows with the snapshot's, and find every conflict, within one transaction: steps 2 and 3 of a
restore in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.operations.inplace.types import TableChanges
from backupd.planning.inplace import Conflict, ConflictKind, blocking, write_order
from backupd.postgres.inplace.compare import Changes, Digest, Pair, changed_keys, compare, digest, digest_ours
from backupd.postgres.inplace.conflicts import (
    References,
    check_conflicts,
    disable_triggers,
    firing_conflicts,
    key_conflicts,
    untried,
)
from backupd.postgres.inplace.write import lock_tables

if TYPE_CHECKING:
    from backupd.operations.inplace.session import PreparedSession
    from backupd.operations.inplace.types import InPlaceRequest


@dataclass(frozen=True, slots=True)
class InPlaceComparison:
    """The differences and conflicts that one look at the database found."""

    changes: dict[int, Changes]
    """Changes of every compared table, by oid."""
    order: tuple[int, ...]
    """Tables that differ, each after those of them that it refers to."""
    conflicts: tuple[Conflict, ...]
    ours: dict[int, Digest]
    """Digests of the tenant's live rows, by oid of the table."""
    quiet: bool
    """Whether triggers and rules are off."""

    def blocked(self, accepted: frozenset[ConflictKind]) -> bool:
        return bool(blocking(self.conflicts, accepted))

    def table_changes(self, ready: PreparedSession) -> tuple[TableChanges, ...]:
        """Return the changes of the tables that differ, by name."""
        pairs = [ready.pairs[oid] for oid in self.order]
        lines = [_table_changes(pair, self.changes[pair.live.oid]) for pair in pairs]
        return tuple(sorted(lines, key=lambda line: line.table))


def compare_rows(ready: PreparedSession, request: InPlaceRequest) -> InPlaceComparison:
    """Compare rows and find conflicts in the transaction at hand, and switch triggers off in it where that is possible.

    Raises psycopg's errors.
    """
    connection = ready.connection
    quiet = not request.triggers_fire and disable_triggers(connection)
    if ready.blind:
        return InPlaceComparison({}, (), ready.conflicts, {}, quiet)
    changes = {oid: compare(connection, pair) for oid, pair in ready.pairs.items()}
    differing = [oid for oid, found in changes.items() if found.any]
    order, _ = write_order(differing, _edges(ready, undeferrable=False))
    conflicts = (*ready.conflicts, *_obstacles(ready, differing, quiet=quiet))
    ours = {oid: digest_ours(connection, pair) for oid, pair in ready.pairs.items()}
    return InPlaceComparison(changes, tuple(order), conflicts, ours, quiet)


def around(ready: PreparedSession) -> list[str]:
    """Return tables, as SQL names them, that are only read: those that refer to the tenant's, and those referred to."""
    found = {oid for one in ready.live.references for oid in (one.referring, *one.leaves)} - set(ready.pairs)
    return [ready.live.sql(oid) for oid in sorted(found)]


def lock_to_look(ready: PreparedSession) -> None:
    """Lock the tables that `compare_rows` reads, all at once, where the role may read them. Raises psycopg's errors."""
    if not ready.blind:
        lock_tables(ready.connection, (), [*(pair.live.sql for pair in ready.pairs.values()), *around(ready)])


def report_keys(ready: PreparedSession, request: InPlaceRequest, found: InPlaceComparison) -> None:
    """Call the request's `report_key` with the key of each row that differs. Raises psycopg's errors."""
    if request.report_key is None:
        return
    for oid in found.order:
        pair = ready.pairs[oid]
        for word, key in changed_keys(ready.connection, pair):
            request.report_key(pair.live.name.dotted, word, key)


def _obstacles(ready: PreparedSession, differing: list[int], *, quiet: bool) -> Iterator[Conflict]:
    connection, live = ready.connection, ready.live
    for oid, kind in ready.doubtful.items():
        table = live.tables[oid]
        rows = digest(connection, f"ONLY {table.sql}", (), table.belonging.ours()).rows
        if rows:
            yield Conflict(table.name.dotted, kind, rows)
    for oid in differing:
        yield from key_conflicts(connection, ready.pairs[oid])
        yield from check_conflicts(connection, ready.pairs[oid])
        yield from untried(live, oid)
    references = References(connection, live, ready.pairs)
    yield from references.unmet()
    yield from references.referred()
    yield from references.altered(ready.shared)
    _, circles = write_order(differing, _edges(ready, undeferrable=True))
    yield from firing_conflicts(connection, [live.tables[oid] for oid in differing], circles, quiet=quiet)


def _edges(ready: PreparedSession, *, undeferrable: bool) -> dict[int, frozenset[int]]:
    edges: dict[int, frozenset[int]] = {}
    for reference in ready.live.references:
        if not (undeferrable and reference.deferrable):
            edges[reference.referring] = edges.get(reference.referring, frozenset()) | set(reference.leaves)
    return edges


def _table_changes(pair: Pair, found: Changes) -> TableChanges:
    return TableChanges(pair.live.name.dotted, found.deletes, found.updates, found.inserts, bool(pair.key))
