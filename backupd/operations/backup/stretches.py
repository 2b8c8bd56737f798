"""Join extents that are read into stretches, where the server then makes one hash table for all of one stretch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from backupd.model.inventory import TableName
from backupd.operations.backup.tasks import TableTask, may_hash, stretch_blocks
from backupd.postgres.settings import copied
from backupd.postgres.source.select import GRID, BlockRange, select_rows
from backupd.rows.protocol import CopyTask, StretchTask

_LARGEST = 4 * GRID
"""Blocks of a stretch, about, at most: a worker keeps what it read of each extent until the last one ends."""


def stretches(tasks: Sequence[TableTask]) -> list[CopyTask | StretchTask]:
    """Return what workers have to do, largest first: tasks by themselves, or several in a stretch."""
    extents: defaultdict[TableName, list[TableTask]] = defaultdict(list)
    found: list[list[TableTask]] = []
    for task in tasks:
        if task.joined and task.table.columns and task.copy.routed and not task.copy.hash_join:
            extents[task.table.name].append(task)
        else:
            found.append([task])
    for some in extents.values():
        for run in _runs(sorted(some, key=lambda task: task.place)):
            for part in _parts(run):
                found += [part] if may_hash(_size(part), part[0].joined) else [[task] for task in part]
    found.sort(key=lambda part: -_size(part))
    return [part[0].copy if len(part) == 1 else _stretch(part) for part in found]


def _runs(extents: Sequence[TableTask]) -> Iterator[list[TableTask]]:
    """Yield the extents of a table in runs without a gap."""
    run = list(extents[:1])
    for before, extent in pairwise(extents):
        if extent.place != before.place + 1:
            yield run
            run = []
        run.append(extent)
    yield run


def _parts(run: Sequence[TableTask]) -> Iterator[list[TableTask]]:
    """Yield a run in parts that are worth a hash table each; a rest that is much smaller belongs to the last."""
    wanted = min(stretch_blocks(run[0].joined), _LARGEST)
    left = _size(run)
    part: list[TableTask] = []
    for extent in run:
        part.append(extent)
        left -= extent.blocks
        if _size(part) >= wanted and left >= wanted // 2:
            yield part
            part = []
    yield part


def _size(part: Sequence[TableTask]) -> int:
    return sum(task.blocks for task in part)


def _stretch(part: Sequence[TableTask]) -> StretchTask:
    first, last = part[0], part[-1]
    blocks = BlockRange(first.extent.start, last.extent.end)
    borders = [task.extent.start for task in part[1:]]
    selection = select_rows(first.table, first.mapped.route, blocks, borders)
    return StretchTask(copied(selection.sql, first.copy.encoding), [task.copy for task in part])
