"""A backup that stores nothing, and reads what it takes over as well: what is taken over unread has to be the same.

Everything else is real: the server, the exported snapshot, the checkpoints, the mapping, the decisions and the memory.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from doubles.servers.postgres import Server

from backupd.clock import Clock, SystemClock
from backupd.model.answers import UnreadAnswer
from backupd.model.ids import GenerationId, RegionName, RepositoryId
from backupd.model.tenancy import Tenancy
from backupd.operations.backup import tasks as tasks_module
from backupd.operations.backup.tasks import TableTask, plan_tasks
from backupd.operations.backup.types import BackupJob
from backupd.operations.backup.unread import Unread, before_export, look_behind
from backupd.planning.incremental import extents as extents_module
from backupd.planning.incremental import facts as facts_module
from backupd.planning.incremental import waypoints as waypoints_module
from backupd.planning.mapping.tables import map_tables
from backupd.postgres.connect import Source
from backupd.postgres.source import wal_summaries as summaries_module
from backupd.postgres.source.exported import Holder, hold
from backupd.postgres.source.inventory import read_inventory
from backupd.repository.state.index import Generation, Index
from backupd.rows.copytext import NULL
from backupd.rows.protocol import Span, TaskDone
from backupd.rows.segment_names import SegmentNames
from backupd.seal.tags import TenantTags
from backupd.trace import NoTrace, Trace

UNIT = 2
"""Heap blocks of an extent here."""


@contextmanager
def small_extents() -> Iterator[None]:
    """Have extents of two blocks, so that small tables have many."""
    with (
        mock.patch.object(facts_module, "UNIT", UNIT),
        mock.patch.object(extents_module, "UNIT", UNIT),
        mock.patch.object(extents_module, "TENANT_SHARE", 0),
        mock.patch.object(summaries_module, "UNIT", UNIT),
        mock.patch.object(waypoints_module, "UNIT", UNIT),
        mock.patch.object(tasks_module, "GRID", UNIT),
    ):
        yield


class DifferenceError(AssertionError):
    """An extent was taken over although the snapshot shows something else."""


def _nothing() -> None:
    """Nothing happens between two steps of a backup."""


@dataclass
class UnreadBackup:
    """The backups of one database, with the memory of one node."""

    server: Server
    database: str
    folder: Path
    tenancy: Tenancy
    clock: Clock = field(default_factory=SystemClock)
    trace: Trace = field(default_factory=NoTrace)
    between: Callable[[], None] = _nothing
    """Called between the steps of a backup."""

    def __post_init__(self) -> None:
        self.index = Index(self.folder / "index.sqlite")
        self.source = Source(self.server.conninfo(self.database))
        tags = TenantTags(bytes(32), RegionName("be"))
        generation = Generation(
            GenerationId("20260101T000000Z-00000000"), RepositoryId("0" * 32), bytes(32), "", frozenset()
        )
        names = SegmentNames(tags, generation.id, self.database, frozenset(), {})
        self._onto = SimpleNamespace(index=self.index, generation=generation, names=names)
        self._node = SimpleNamespace(clock=self.clock, workers=1, trace=self.trace, lock_timeout=60.0)

    def __call__(self, *, published: bool = True, **changes: Any) -> UnreadAnswer:
        """Back up and compare; the record of one that is not `published` is never there. Raises DifferenceError."""
        job = BackupJob(RegionName("be"), "app", self.source, self.tenancy, incremental="auto")
        with small_extents():
            return self._run(replace(job, **changes), published=published)

    def _run(self, job: BackupJob, *, published: bool) -> UnreadAnswer:
        pair = before_export(self.source, job)
        self.between()
        with hold(self.source, lock_timeout=5.0) as holder:
            self.between()
            look = look_behind(self.source, holder, pair, cast("Any", self._node))
            self.between()
            inventory = read_inventory(holder.connection, ["tenant"])
            unread = Unread(job, cast("Any", self._node), cast("Any", self._onto), self.database)
            decisions = unread.prepare(look, (self.source, holder, inventory))
            mapping = map_tables(self.tenancy, inventory)
            tasks = plan_tasks(mapping.tables, inventory.by_name(), lambda _, mask: mask, lambda _, usual: usual)
            taken: dict[int, TaskDone] = {}
            collector = SimpleNamespace(done=lambda done: taken.__setitem__(done.task, done))
            wanted = {task.copy.task for task in unread.divide(tasks, decisions, cast("Any", collector))}
            for task in tasks:
                self._one(holder, task, unread, None if task.copy.task in wanted else taken[task.copy.task])
        if published:
            unread.published()
        return unread.answer()

    def _one(self, holder: Holder, task: TableTask, unread: Unread, taken: TaskDone | None) -> None:
        nobody = self._onto.names.of(task.mapped.data_class, None).pseudonym
        done = _read(holder, task, nobody)
        if taken is None:
            unread.take(done)
        elif (taken.rows, sorted(taken.spans)) != (done.rows, sorted(done.spans)):
            raise DifferenceError(f"{task.table.name.dotted} from block {task.extent.start}")


def _read(holder: Holder, task: TableTask, nobody: str) -> TaskDone:
    """Read an extent as a worker does, with the tenants' names for pseudonyms, and nobody's own."""
    rows: dict[str, list[bytes]] = {}
    count = 0
    with holder.connection.cursor().copy(task.copy.sql.encode()) as copy:
        data = b"".join(bytes(block) for block in copy)
    for line in data.split(b"\n")[:-1]:
        tenant, _, row = line.partition(b"\t") if task.copy.routed else (b"-", b"", line)
        rows.setdefault(tenant.decode(), []).append(row)
        count += 1
    spans = []
    for tenant, some in rows.items():
        text = b"\n".join(some)
        pseudonym = nobody if tenant == NULL.decode() else tenant
        spans.append((pseudonym, Span(len(some), len(text), hashlib.sha256(text).digest(), array("q")).packed()))
    return TaskDone(task.copy.task, count, spans, 0)
