"""A worker process: `python -m backupd.rows.worker IN OUT`, controlled through its standard input and output.

IN and OUT are the descriptors on which the packer, which it forks, listens to the parent and reports to it.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from backupd.allocator import restrain
from backupd.errors import SourceError, UnmappedError
from backupd.model.ids import GenerationId, RegionName
from backupd.rows import protocol
from backupd.rows.copytext import NULL, unescape
from backupd.rows.dedup import Deduplicator, DedupSettings, OpenSpan, SectionSink, Segment
from backupd.rows.known_chunks import IndexedChunks, NothingKnown
from backupd.rows.packer import SectionJob
from backupd.rows.packer_process import fork_packer, wait_for_the_end
from backupd.rows.protocol import BytesTask, CloseSegments, CommandTask, CopyTask, MeetTask, Setup, StretchTask
from backupd.rows.psql import BLOCK, Psql
from backupd.rows.segment_names import NewestIncarnation, SegmentNames
from backupd.rows.stretch_chunker import Border, RowsOutOfOrderError, StretchChunker
from backupd.rows.tenant_chunker import Chunker, Cut, pieces
from backupd.seal.tags import TenantTags

LARGEST_BLOCK = 128 << 10
"""Bytes from which a worker has memory mapped: it holds millions of rows, between which larger blocks would lie."""
FILE_CHUNK = 64 << 10
"""Bytes of a chunk of a file (schema, large objects), which has no rows to cut at."""


class Worker:
    """The tasks of one snapshot, done one after another."""

    def __init__(self, setup: Setup, channel: ParentChannel, packer: SectionSink) -> None:
        self._setup = setup
        self.number = setup.number
        self._channel = channel
        self._names = _names(setup)
        self._segments: dict[tuple[str, str | None], Segment] = {}
        self._unclosed: dict[str, Segment] = {}
        """Segments by their pseudonyms, from the first that is closed on: nothing is read then any more."""
        known = NothingKnown() if setup.index is None else IndexedChunks(Path(setup.index))
        settings = DedupSettings(
            chunk_key=setup.chunk_key,
            first=setup.last_section + 1 + setup.number,
            step=setup.workers,
            pending=setup.pending_limit * 3 // 4,
            open=setup.open_limit,
        )
        self._dedup = Deduplicator(settings, known, packer)
        self._seed = zlib.crc32(b"backupd chunk boundary" + setup.chunk_key)
        self._limit = setup.pending_limit // 4
        self._psql: Psql | None = None

    def copy(self, task: CopyTask) -> protocol.TaskDone:
        """Read the rows of one table, or of a part of it. Raises SourceError, UnmappedError, SpoolFullError."""
        psql = self._locked(task.locks)
        chunker = Chunker(routed=task.routed, mask=task.mask, seed=self._seed, limit=self._limit)
        spans = Spans(self, task)
        for block in self._counted(psql.copy(task.sql, hash_join=task.hash_join, oid=_oid(task)), chunker):
            self._take(chunker.feed(block), spans)
        self._take_rest(chunker, spans, psql)
        return protocol.TaskDone(task.task, chunker.rows, spans.close(), self.number)

    def stretch(self, task: StretchTask) -> protocol.StretchDone:
        """Read consecutive extents of a table together. Raises what `copy` does.

        Where the server gives rows in another order than they lie in, as when its hash table did not fit into memory,
        each extent is read again by itself.
        """
        first = task.extents[0]
        psql = self._locked(first.locks)
        chunker = StretchChunker(mask=first.mask, seed=self._seed, limit=self._limit)
        extents = Extents(self, task)
        blocks = psql.copy(task.sql, hash_join=True, oid=_oid(first))
        try:
            for block in self._counted(blocks, chunker):
                self._take_stretch(chunker.feed(block), chunker.borders, extents)
        except RowsOutOfOrderError:
            for _ in blocks:  # behind which psql takes statements again
                pass
            return protocol.StretchDone([self.copy(extent) for extent in task.extents])
        self._take_rest(chunker, extents.spans, psql)
        return protocol.StretchDone(extents.close())

    def meet(self, copy: CopyTask) -> protocol.Met:
        """Read rows only to learn whose they are. Raises what `copy` does."""
        psql = self._locked(copy.locks)
        chunker = Chunker(routed=copy.routed, mask=copy.mask, seed=self._seed, limit=self._limit)
        spans = Spans(self, copy)
        for block in self._counted(psql.copy(copy.sql, hash_join=copy.hash_join, oid=_oid(copy)), chunker):
            for tenant, _, _ in chunker.feed(block):
                spans.of(tenant)
        for tenant, _, _ in chunker.finish():
            spans.of(tenant)
        return protocol.Met([pseudonym for pseudonym, _ in spans.close()], self.number)

    def _locked(self, locks: Iterable[tuple[int, str]]) -> Psql:
        if self._psql is None:
            self._psql = Psql(self._setup.psql, self._setup.environment, self._setup.preamble)
        self._psql.lock(locks)
        return self._psql

    def _counted(self, blocks: Iterable[bytes], chunker: Chunker) -> Iterator[bytes]:
        """Yield the blocks, and count what became of each when the next one is asked for."""
        rows, added = chunker.rows, self._dedup.added
        for block in blocks:
            yield block
            self._channel.count(len(block), chunker.rows - rows, self._dedup.added - added)
            rows, added = chunker.rows, self._dedup.added

    def _take_rest(self, chunker: Chunker, spans: Spans, psql: Psql) -> None:
        """Take what is still held of a stream that has ended, and check that nothing is missing."""
        added = self._dedup.added
        self._take(chunker.finish(), spans)
        self._channel.count(0, 0, self._dedup.added - added)
        if chunker.rows != psql.rows:
            raise SourceError("the rows received are not as many as PostgreSQL says it sent")

    def file(self, task: BytesTask | CommandTask) -> protocol.TaskDone:
        """Store one file as chunks. Raises SourceError, SpoolFullError."""
        span = OpenSpan(self.segment(task.data_class, task.tenant))
        blocks = [task.data] if isinstance(task, BytesTask) else self._run(task.command)
        for piece in pieces(blocks, FILE_CHUNK):
            self._dedup.take(span, piece, 0)
        return protocol.TaskDone(task.task, 0, [span.close()], self.number)

    def segment(self, data_class: str, tenant: str | None) -> Segment:
        """Return the segment of a data class and tenant."""
        segment = self._segments.get((data_class, tenant))
        if segment is None:
            segment = self._segments[data_class, tenant] = self._new_segment(data_class, tenant)
        return segment

    def close_segments(self, command: CloseSegments) -> protocol.SegmentsClosed:
        """End the sections of these segments, with their manifests; each segment is closed once, and forgotten."""
        self._dedup.pass_on(job for one in command.segments for job in self._closed(one))
        return protocol.SegmentsClosed()

    def _closed(self, closing: protocol.Closing) -> list[SectionJob]:
        while self._segments:
            _, segment = self._segments.popitem()
            if segment.names is not None:
                self._unclosed[segment.names.pseudonym] = segment
        known = self._unclosed.pop(closing.pseudonym, None)
        segment = known or self._new_segment(closing.data_class, closing.tenant)
        return self._dedup.close_section(segment, closing.manifest)

    def _new_segment(self, data_class: str, tenant: str | None) -> Segment:
        return Segment(data_class, tenant, self._names.of(data_class, tenant))

    def release(self) -> None:
        """End psql's transaction, report all that was read, and that the exported snapshot is released.

        Raises SourceError.
        """
        if self._psql is not None:
            self._psql.check()
            self._psql.close()
            self._psql = None
        self._channel.report()
        self._channel.send(protocol.SnapshotReleased())

    def finish(self) -> None:
        """End what is open, and report the last counters and the end; the packer reports the last packs."""
        self._dedup.close()
        self._channel.report()
        self._channel.send(protocol.WorkerFinished())

    def _take(self, cuts: Iterable[Cut], spans: Spans) -> None:
        of, take = spans.of, self._dedup.take
        for tenant, data, rows in cuts:
            take(of(tenant), data, rows)

    def _take_stretch(self, cuts: list[Cut], borders: Iterable[Border], extents: Extents) -> None:
        start = 0
        for border in borders:
            self._take(cuts[start : border.cuts], extents.spans)
            extents.begin(border.extent)
            start = border.cuts
        self._take(cuts[start:], extents.spans)

    def _run(self, command: list[str]) -> Iterator[bytes]:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._setup.environment,
        ) as process:
            assert process.stdout is not None  # noqa: S101 - said to the type checker: it was asked for above
            while block := process.stdout.read(BLOCK):
                yield block
        if process.returncode:
            raise SourceError(
                f"'{Path(command[0]).name}' failed with exit code {process.returncode}",
                hint="Run the preflight with 'backupd tenancy'; the role may lack a privilege.",
            )


def _oid(task: CopyTask) -> int | None:
    """Return the oid of the table that a task reads."""
    return task.locks[0][0] if task.locks else None


def _names(setup: Setup) -> SegmentNames:
    return SegmentNames(
        tags=TenantTags(setup.tenant_key, RegionName(setup.region)),
        generation=GenerationId(setup.generation),
        database=setup.database,
        own_clocks=setup.own_clocks,
        incarnations={key: NewestIncarnation(*incarnation) for key, incarnation in setup.incarnations.items()},
    )


class Spans:
    """One task's open spans, by the tenant's text as COPY wrote it."""

    def __init__(self, worker: Worker, task: CopyTask) -> None:
        self._worker = worker
        self._task = task
        self._open: dict[bytes | None, OpenSpan] = {}

    def of(self, tenant: bytes | None) -> OpenSpan:
        """Return the open span of a tenant; None is the task's own tenant. Raises UnmappedError for a NULL tenant."""
        span = self._open.get(tenant)
        if span is None:
            span = self._open[tenant] = OpenSpan(self._worker.segment(self._task.data_class, self._name(tenant)))
        return span

    def close(self) -> list[tuple[str, bytes]]:
        """Return the pseudonym and the packed span of each segment."""
        return [span.close() for span in self._open.values()]

    def _name(self, tenant: bytes | None) -> str | None:
        if tenant is None:
            return self._task.tenant
        if tenant != NULL:
            return self._decoded(tenant)
        if self._task.null_to_shared:
            return None
        raise UnmappedError(
            f"a row of {self._task.table} has no tenant (its tenant column or path is NULL)",
            hint="`backupd tenancy` counts such rows of all tables. Give them a tenant, or set null_tenant = "
            '"shared": in a rule for the table, or in the database\'s tenancy for all.',
        )

    def _decoded(self, tenant: bytes) -> str:
        try:
            return unescape(tenant, self._task.encoding)
        except ValueError:
            raise UnmappedError(
                f"task {self._task.task}: a tenant's value is no text in {self._task.encoding}",
                hint="Segments, deletion and attestations know a tenant by its text: give it one that is.",
            ) from None


class Extents:
    """The extents of a stretch, of which one after the other is read."""

    def __init__(self, worker: Worker, task: StretchTask) -> None:
        self._worker = worker
        self._task = task
        self._done: list[protocol.TaskDone] = []
        self.spans = Spans(worker, task.extents[0])

    def begin(self, extent: int) -> None:
        """Close the spans of all extents before this one, and open its own."""
        while len(self._done) < extent:
            self._end()

    def close(self) -> list[protocol.TaskDone]:
        """Close those of the last ones, too, and return what was read of each."""
        while len(self._done) < len(self._task.extents):
            self._end()
        return self._done

    def _end(self) -> None:
        spans, number = self.spans.close(), len(self._done)
        rows = sum(protocol.span_counts(packed)[0] for _, packed in spans)
        self._done.append(protocol.TaskDone(self._task.extents[number].task, rows, spans, self._worker.number))
        if number + 1 < len(self._task.extents):
            self.spans = Spans(self._worker, self._task.extents[number + 1])


class ParentChannel:
    """The worker's end of the channel. A thread of its own reads, so that the parent's death ends the process."""

    REPORT_EVERY = 8 << 20
    """Bytes read between two reports of progress."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self.tasks: queue.Queue[protocol.Command] = queue.Queue()
        self._read = 0
        self._rows = 0
        self._added = 0

    def start(self) -> None:
        threading.Thread(target=self._listen, name="listener", daemon=True).start()

    def send(self, event: protocol.Event) -> None:
        with self._lock:
            protocol.send(self._sink, event)

    def count(self, read: int, rows: int, added: int) -> None:
        """Add to the counters of bytes read, rows read and plain bytes added; report them every 8 MiB."""
        self._read += read
        self._rows += rows
        self._added += added
        if self._read >= self.REPORT_EVERY:
            self.report()

    def report(self) -> None:
        """Report the counters since the last report."""
        self.send(protocol.Advanced(self._read, self._rows, self._added))
        self._read = self._rows = self._added = 0

    def _listen(self) -> None:
        while (command := protocol.receive_command(self._source)) is not None:
            self.tasks.put(command)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with the packer, and psql and pg_dump, which might not notice for long
        os._exit(1)


def work(channel: ParentChannel, packer: SectionSink) -> None:
    """Do the parent's commands until `Finish`. Raises the errors of the tasks."""
    setup = channel.tasks.get()
    if not isinstance(setup, Setup):
        raise TypeError("the first message must be the set-up")
    worker = Worker(setup, channel, packer)
    while not isinstance(command := channel.tasks.get(), protocol.Finish):
        if isinstance(command, CopyTask):
            channel.send(worker.copy(command))
        elif isinstance(command, StretchTask):
            channel.send(worker.stretch(command))
        elif isinstance(command, MeetTask):
            channel.send(worker.meet(command.copy))
        elif isinstance(command, BytesTask | CommandTask):
            channel.send(worker.file(command))
        elif isinstance(command, CloseSegments):
            channel.send(worker.close_segments(command))
        elif isinstance(command, protocol.Release):
            worker.release()
    worker.finish()


def main(packer_inlet: int, packer_outlet: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop, and says so by closing the pipe
    restrain(LARGEST_BLOCK)
    gc.disable()  # millions of short-lived rows would set the collector off all the time, and nothing here is cyclic
    packer = fork_packer(packer_inlet, packer_outlet)
    channel = ParentChannel(os.fdopen(0, "rb"), os.fdopen(1, "wb"))
    channel.start()
    try:
        work(channel, packer)
        packer.wait()
    except BrokenPipeError:
        wait_for_the_end()  # the packer failed, and reports that itself
    except BaseException as error:  # noqa: BLE001 - the process's last word; the parent raises it
        channel.send(protocol.describe(error))
        wait_for_the_end()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
    os._exit(0)  # the listening thread is inside a read, which an ordinary exit would wait for
