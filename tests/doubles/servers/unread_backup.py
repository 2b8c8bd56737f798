"""A backup that stores nothing, and reads what it takes over as well: what is taken over unread has to be the same.

Everything else is real: the server, the exported snapshot, the checkpoints, the mapping, the decisions, the memory and
the worker, whose reading of several extents at once is compared with a plain one of each.
"""

from __future__ import annotations

import hashlib
import io
from array import array
from collections.abc import Callable, Iterator, Mapping
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
from backupd.operations.backup.collect import TaskTally
from backupd.operations.backup.needed import SectionsNeeded
from backupd.operations.backup.stretches import stretches
from backupd.operations.backup.tasks import TableTask, plan_tasks
from backupd.operations.backup.types import BackupJob
from backupd.operations.backup.unread import Unread, before_export, look_behind
from backupd.planning.incremental import extents as extents_module
from backupd.planning.incremental import facts as facts_module
from backupd.planning.incremental import waypoints as waypoints_module
from backupd.planning.mapping.tables import map_tables
from backupd.postgres.client_programs import client, find_programs
from backupd.postgres.connect import Source
from backupd.postgres.source import wal_summaries as summaries_module
from backupd.postgres.source.exported import Holder, hold
from backupd.postgres.source.inventory import read_inventory
from backupd.repository.state.index import Generation, Index
from backupd.rows.copytext import NULL
from backupd.rows.protocol import Setup, Span, StretchTask, TaskDone, span_counts, unpack_span
from backupd.rows.segment_names import SegmentNames
from backupd.rows.worker import ParentChannel, Worker
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
        mock.patch.object(tasks_module, "CHEAPER", 64),  # so that few of them may be read together
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
    as_before: int = 0
    """Backups of which nothing was read."""
    together: int = 0
    """Extents read together with others of their table."""

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
            done: dict[int, TaskDone] = {}
            collector = SimpleNamespace(
                taken_over=lambda taken: done.__setitem__(taken.task, taken),
                as_before=lambda tallies: done.update(self._as_before(unread, tallies)),
            )
            wanted = unread.divide(tasks, decisions, cast("Any", collector))
            for one in self._worked(holder, wanted):
                unread.take(one)
                done[one.task] = one
            for task in tasks:
                if _content(done[task.copy.task]) != _content(self._read(holder, task)):
                    raise DifferenceError(f"{task.table.name.dotted} from block {task.extent.start}")
        if published:
            tallies = {number: _tally(one) for number, one in done.items()}
            unread.published(tallies, SectionsNeeded())
        return unread.answer()

    def _as_before(self, unread: Unread, tallies: Mapping[int, TaskTally]) -> Iterator[tuple[int, TaskDone]]:
        """Yield what is remembered of all extents, which a backup need not look up, and has to be what was counted."""
        self.as_before += 1
        for number, place in unread._all.items():
            found = self.index.extents.find(place)
            assert found is not None
            done = TaskDone(number, found.rows, found.spans, 0)
            assert _tally(done) == tallies[number]
            yield number, done

    def _worked(self, holder: Holder, tasks: list[TableTask]) -> Iterator[TaskDone]:
        """Read extents as a backup does."""
        programs = find_programs((self.server.bin,), holder.exported.version)
        with client(programs, holder.parameters()) as started:
            generation, names = self._onto.generation, self._onto.names
            setup = _setup(
                generation=generation.id,
                database=self.database,
                region=names.tags.region,
                psql=started.command("psql"),
                environment=dict(started.environment),
                preamble=holder.exported.preamble().rstrip().rstrip(";"),
            )
            worker = Worker(setup, ParentChannel(io.BytesIO(), io.BytesIO()), _Nowhere())
            for task in stretches(tasks):
                if isinstance(task, StretchTask):
                    self.together += len(task.extents)
                    yield from worker.stretch(task).extents
                else:
                    yield worker.copy(cast("Any", task))
            worker.release()

    def _read(self, holder: Holder, task: TableTask) -> TaskDone:
        """Read an extent by itself, plainly."""
        rows: dict[str | None, list[bytes]] = {}
        count = 0
        with holder.connection.cursor().copy(task.copy.sql.encode()) as copy:
            data = b"".join(bytes(block) for block in copy)
        for line in data.split(b"\n")[:-1]:
            tenant, _, row = line.partition(b"\t") if task.copy.routed else (NULL, b"", line)
            rows.setdefault(None if tenant == NULL else tenant.decode(), []).append(row + b"\n")
            count += 1
        spans = []
        for name, some in rows.items():
            text = b"".join(some)
            pseudonym = self._onto.names.of(task.mapped.data_class, name).pseudonym
            spans.append((pseudonym, Span(len(some), len(text), hashlib.sha256(text).digest(), array("q")).packed()))
        return TaskDone(task.copy.task, count, spans, 0)


class _Nowhere:
    """The packer of a backup that stores nothing."""

    def add(self, _: object) -> None:
        return

    def close(self) -> None:
        return


def _setup(**known: object) -> Setup:
    values: dict[str, Any] = dict.fromkeys(Setup.__struct_fields__, 0)
    keys = {"chunk_key": bytes(32), "tenant_key": bytes(32), "own_clocks": [], "incarnations": {}, "index": None}
    return Setup(**{**values, **keys, "workers": 1, "pending_limit": 1 << 20, "open_limit": 1 << 20, **known})


def _tally(done: TaskDone) -> TaskTally:
    counts = [span_counts(packed) for _, packed in done.spans]
    return TaskTally(done.rows, sum(rows for rows, _ in counts), 0, sum(size for _, size in counts))


def _content(done: TaskDone) -> tuple[int, dict[str, tuple[int, int, bytes]]]:
    """Return what matters of an extent's content; where the chunks lie does not."""
    return done.rows, {pseudonym: unpack_span(packed)[:3] for pseudonym, packed in done.spans}
