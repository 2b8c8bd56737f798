"""Join extents that are read into stretches, where the server then makes one hash table for all of one stretch.

What was changed lies here and there: the extents of a stretch may have others between them, which are not read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from backupd.model.inventory import TableName
from backupd.model.tenancy import ForeignKeyPath
from backupd.operations.backup.tasks import TableTask, may_hash, stretch_blocks
from backupd.postgres.settings import copied
from backupd.postgres.source.select import GRID, BlockRange, select_stretch
from backupd.rows.protocol import CopyTask, StretchTask

_LARGEST = 4 * GRID
"""Blocks of a stretch, about, at most: a worker keeps what it read of each extent until the last one ends."""


def stretches(tasks: Sequence[TableTask]) -> list[CopyTask | StretchTask]:
    """Return what workers have to do, largest first: tasks by themselves, or several in a stretch."""
    extents: defaultdict[TableName, list[TableTask]] = defaultdict(list)
    found: list[list[TableTask]] = []
    for task in tasks:
        table = task.table
        if task.joined and table.columns and task.copy.routed and not task.copy.hash_join and table.condition is None:
            extents[table.name].append(task)
        else:
            found.append([task])
    for some in extents.values():
        for part in _parts(sorted(some, key=lambda task: task.place)):
            together = len(part) > 1 and may_hash(_size(part), part[0].joined, together=True)
            found += [part] if together else [[task] for task in part]
    found.sort(key=lambda part: -_size(part))
    return [part[0].copy if len(part) == 1 else _stretch(part) for part in found]


def _parts(extents: Sequence[TableTask]) -> Iterator[list[TableTask]]:
    """Yield extents in parts that are worth a hash table each; a rest that is much smaller belongs to the last."""
    wanted = min(stretch_blocks(extents[0].joined), _LARGEST)
    left = _size(extents)
    part: list[TableTask] = []
    for extent in extents:
        part.append(extent)
        left -= extent.blocks
        if _size(part) >= wanted and left >= wanted // 2:
            yield part
            part = []
    yield part


def _size(part: Sequence[TableTask]) -> int:
    return sum(task.blocks for task in part)


def _stretch(part: Sequence[TableTask]) -> StretchTask:
    first, route = part[0], part[0].mapped.route
    assert isinstance(route, ForeignKeyPath)  # noqa: S101 - said to the type checker: other tables are joined
    sql = select_stretch(first.table, route, [BlockRange(*task.extent) for task in part])
    return StretchTask(copied(sql, first.copy.encoding), [task.copy for task in part])
