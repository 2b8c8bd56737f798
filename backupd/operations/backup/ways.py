"""Find out, in the server, whether rows that lead others to their tenants still lead there; and remember it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.planning.incremental.facts import BlockChanges
from backupd.planning.incremental.waypoints import (
    WayChange,
    WaySum,
    before_of,
    cell_blocks,
    cells,
    changed_cells,
    compare,
)
from backupd.postgres.source.waypoints import Seeds, sum_cell, sum_oldest
from backupd.repository.state.extents import RememberedWay

if TYPE_CHECKING:
    from backupd.model.inventory import Table
    from backupd.planning.incremental.facts import FileId, Reason
    from backupd.planning.incremental.waypoints import Cell, Waypoint
    from backupd.postgres.connect import Connection
    from backupd.repository.state.extents import ExtentMemory

_MOST_GUESSED = 64
"""Cells of one statement, at most: where more have changed, it is not guessed which rows are new."""


class Ways:
    """The waypoints of one run. For one thread."""

    def __init__(self, connection: Connection, memory: ExtentMemory, database: bytes, seeds: Seeds) -> None:
        """Take the connection that sees the exported snapshot."""
        self._connection = connection
        self._memory = memory
        self._database = database
        self._seeds = seeds

    def look(
        self, waypoint: Waypoint, place: bytes, table: Table, file: FileId, changes: BlockChanges | Reason
    ) -> WayChange:
        """Return what became of a waypoint's rows, and note what they lead to now; `place` is its identity's digest."""
        usual = cell_blocks(table.blocks)
        before = self._memory.find_way(place)
        size = usual if before is None or usual > 2 * before.blocks else before.blocks
        parts = cells(table.blocks, size)
        if before is None or size != before.blocks or not isinstance(changes, BlockChanges):
            self._note(place, size, [self._sum(waypoint, part) for part in parts])
            return WayChange.UNKNOWN
        was = [WaySum(*one) for one in before.sums]
        renewed = changes.renewed(file)
        changed = range(len(parts)) if renewed else changed_cells(parts, len(was), file, changes)
        now = {at: self._sum(waypoint, parts[at]) for at in changed}
        self._note(place, size, [now[at] if at in now else was[at] for at in range(len(parts))])
        change = compare(was, now, len(parts))
        count = before_of(was, now, len(parts)).rows
        if change is WayChange.UNKNOWN and len(now) <= _MOST_GUESSED and count < sum(one.rows for one in now.values()):
            some = [parts[at] for at in now]
            change = compare(was, now, len(parts), sum_oldest(self._connection, waypoint, some, count, self._seeds))
        return change

    def _sum(self, waypoint: Waypoint, cell: Cell) -> WaySum:
        return sum_cell(self._connection, waypoint, cell, self._seeds)

    def _note(self, place: bytes, size: int, sums: list[WaySum]) -> None:
        self._memory.note_way(self._database, place, RememberedWay(size, [(*one,) for one in sums]))
