"""A worker process: `python -m backupd.rows.worker`, controlled through its standard input and output only."""

from __future__ import annotations

import gc
import os
import queue
import signal
import sqlite3
import subprocess
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from backupd import errors
from backupd.allocator import restrain
from backupd.errors import BackupdError, SourceError, UnmappedError
from backupd.model.ids import GenerationId, RegionName, RepositoryId, RunId
from backupd.rows import protocol
from backupd.rows.copytext import NULL, unescape
from backupd.rows.dedup import Deduplicator, DedupSettings, OpenSpan, Segment
from backupd.rows.known_chunks import IndexedChunks, NothingKnown
from backupd.rows.packer import Pack, Packer, PackerPorts, PackerSettings, RunKey, SectionJob
from backupd.rows.protocol import BytesTask, CloseSegments, CommandTask, CopyTask, PlacesReply, Proceed, Setup
from backupd.rows.psql import BLOCK, Psql
from backupd.rows.segment_names import Life, SegmentNames
from backupd.rows.tenant_chunker import Chunker, Cut, contents, pieces
from backupd.seal.pack import PackContext
from backupd.seal.tags import TenantTags
from backupd.seal.zstd import Compressor

FILE_CHUNK = 64 << 10
"""Bytes of a chunk of a file (schema, large objects), which has no rows to cut at."""


class Worker:
    """The tasks of one snapshot, done one after another."""

    def __init__(self, setup: Setup, channel: ParentChannel) -> None:
        self._setup = setup
        self._channel = channel
        self._names = _names(setup)
        self._segments: dict[tuple[str, str | None], Segment] = {}
        self._by_pseudonym: dict[str, Segment] = {}
        known = NothingKnown() if setup.index is None else IndexedChunks(Path(setup.index))
        packer_settings = PackerSettings(
            PackContext(RepositoryId(setup.repository), GenerationId(setup.generation)),
            Path(setup.spool),
            setup.number,
            setup.pack_size,
        )
        ports = PackerPorts(self._place, self._pack_done)
        packer = Packer(packer_settings, Compressor(setup.compression_level), ports)
        settings = DedupSettings(
            chunk_key=setup.chunk_key,
            first=setup.last_section + 1 + setup.number,
            step=setup.workers,
            pending=setup.pending_limit * 3 // 4,
            open=setup.open_limit,
        )
        self._dedup = Deduplicator(settings, known, packer)
        self._seed = zlib.crc32(b"backupd chunk boundary" + setup.chunk_key)
        self._psql: Psql | None = None

    def copy(self, task: CopyTask) -> protocol.TaskDone:
        """Read the rows of one table, or of a part of it. Raises SourceError, UnmappedError, SpoolFullError."""
        if self._psql is None:
            self._psql = Psql(self._setup.psql, self._setup.environment, self._setup.preamble)
        self._psql.lock(task.locks)
        chunker = Chunker(routed=task.routed, mask=task.mask, seed=self._seed, limit=self._setup.pending_limit // 4)
        spans = Spans(self, task)
        rows, added = chunker.rows, self._dedup.added
        for block in self._psql.copy(task.sql):
            self._take(chunker.feed(block), spans)
            self._channel.count(len(block), chunker.rows - rows, self._dedup.added - added)
            rows, added = chunker.rows, self._dedup.added
        self._take(chunker.finish(), spans)
        self._channel.count(0, chunker.rows - rows, self._dedup.added - added)
        if chunker.rows != self._psql.rows:
            raise SourceError("the rows received are not as many as PostgreSQL says it sent")
        return protocol.TaskDone(task.task, chunker.rows, spans.close(), self._setup.number)

    def file(self, task: BytesTask | CommandTask) -> protocol.TaskDone:
        """Store one file as chunks. Raises SourceError, SpoolFullError."""
        span = OpenSpan(self.segment(task.data_class, task.tenant))
        blocks = [task.data] if isinstance(task, BytesTask) else self._run(task.command)
        for piece in pieces(blocks, FILE_CHUNK):
            self._dedup.take(span, piece, 0)
        return protocol.TaskDone(task.task, 0, [span.close()], self._setup.number)

    def segment(self, data_class: str, tenant: str | None) -> Segment:
        """Return the segment of a data class and tenant."""
        segment = self._segments.get((data_class, tenant))
        if segment is None:
            names = self._names.of(data_class, tenant)
            segment = self._segments[data_class, tenant] = Segment(data_class, tenant, names)
            if names is not None:
                self._by_pseudonym[names.pseudonym] = segment
        return segment

    def close_segments(self, command: CloseSegments) -> protocol.SegmentsClosed:
        """End the sections of these segments, with their manifests."""
        self._dedup.pass_on(job for one in command.segments for job in self._closed(one))
        return protocol.SegmentsClosed()

    def _closed(self, closing: protocol.Closing) -> list[SectionJob]:
        segment = self._by_pseudonym.get(closing.pseudonym) or self.segment(closing.data_class, closing.tenant)
        return self._dedup.close_section(segment, closing.manifest)

    def release(self) -> None:
        """End psql's transaction, and report that the exported snapshot is released. Raises SourceError."""
        if self._psql is not None:
            self._psql.check()
            self._psql.close()
            self._psql = None
        self._channel.send(protocol.SnapshotReleased())

    def finish(self) -> None:
        """Finish all packs, and report the last counters and the end."""
        self._dedup.close()
        self._channel.report()
        self._channel.send(protocol.WorkerFinished())

    def _take(self, cuts: Iterable[Cut], spans: Spans) -> None:
        of, take = spans.of, self._dedup.take
        for cut in cuts:
            span = of(cut.tenant)
            for piece, rows in contents(cut):
                take(span, piece, rows)

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

    def _place(self, keys: list[RunKey]) -> None:
        wanted = [protocol.NewKey(one.pseudonym, one.tags, one.data_class, one.tenant, one.key) for one in keys]
        for key, (keyring, place) in zip(keys, self._channel.places(wanted), strict=True):
            key.keyring, key.place = RunId(keyring), place

    def _pack_done(self, pack: Pack) -> None:
        sections = [(one.pseudonym, one.number, one.length, one.ids, one.manifest) for one in pack.sections]
        self._channel.pack_done(
            protocol.PackDone(str(pack.path), pack.name, pack.sha256, pack.size, list(pack.keyrings), list(sections))
        )


def _names(setup: Setup) -> SegmentNames:
    return SegmentNames(
        tags=TenantTags(setup.tenant_key, RegionName(setup.region)),
        generation=GenerationId(setup.generation),
        database=setup.database,
        own_clocks=setup.own_clocks,
        lives={key: Life(*life) for key, life in setup.lives.items()},
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
            return unescape(tenant)
        if self._task.null_to_shared:
            return None
        raise UnmappedError(
            f"task {self._task.task}: a row has no tenant (its tenant column or path is NULL)",
            hint='Set null_tenant = "shared" for the table\'s rule, or give the rows a tenant.',
        )


class ParentChannel:
    """The worker's end of the channel. A thread of its own reads, so that the parent's death ends the process."""

    REPORT_EVERY = 8 << 20
    """Bytes read between two reports of progress."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink
        self._lock = threading.Lock()
        self.tasks: queue.Queue[protocol.Command] = queue.Queue()
        self._replies: queue.Queue[PlacesReply] = queue.Queue()
        self._proceed = threading.Semaphore(0)
        self._read = 0
        self._rows = 0
        self._added = 0

    def start(self) -> None:
        threading.Thread(target=self._listen, name="listener", daemon=True).start()

    def send(self, event: protocol.Event) -> None:
        with self._lock:
            protocol.send(self._sink, event)

    def places(self, keys: list[protocol.NewKey]) -> list[tuple[str, int]]:
        """Ask for places in a keyring, and wait for the answer. For one thread."""
        self.send(protocol.PlacesWanted(keys))
        return self._replies.get().places

    def pack_done(self, pack: protocol.PackDone) -> None:
        """Report a finished pack, and return when the spool has space for more."""
        self.send(pack)
        self._proceed.acquire()

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
            if isinstance(command, PlacesReply):
                self._replies.put(command)
            elif isinstance(command, Proceed):
                self._proceed.release()
            else:
                self.tasks.put(command)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with psql and pg_dump, which might not notice for long
        os._exit(1)


def work(channel: ParentChannel) -> None:
    """Do the parent's commands until `Finish`. Raises the errors of the tasks."""
    setup = channel.tasks.get()
    if not isinstance(setup, Setup):
        raise TypeError("the first message must be the set-up")
    worker = Worker(setup, channel)
    while not isinstance(command := channel.tasks.get(), protocol.Finish):
        if isinstance(command, CopyTask):
            channel.send(worker.copy(command))
        elif isinstance(command, BytesTask | CommandTask):
            channel.send(worker.file(command))
        elif isinstance(command, CloseSegments):
            channel.send(worker.close_segments(command))
        elif isinstance(command, protocol.Release):
            worker.release()
    worker.finish()


def describe(error: BaseException) -> protocol.Failed:
    """Encode an error for the pipe: ours completely, any other by its kind only, because it might quote a row."""
    if isinstance(error, BackupdError):
        return protocol.Failed(type(error).__name__, error.message, error.hint)
    if isinstance(error, sqlite3.DatabaseError):
        hint = "If it is damaged, the next run sets it aside and starts a new generation."
        return protocol.Failed(errors.BackupdError.__name__, "the node's index cannot be read", hint)
    return protocol.Failed(errors.BackupdError.__name__, f"a worker failed ({type(error).__name__})", "")


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop, and says so by closing the pipe
    restrain()
    channel = ParentChannel(os.fdopen(0, "rb"), os.fdopen(1, "wb"))
    channel.start()
    gc.disable()  # millions of short-lived rows would set the collector off all the time, and nothing here is cyclic
    try:
        work(channel)
    except BaseException as error:  # noqa: BLE001 - the process's last word; the parent raises it
        channel.send(describe(error))
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main())  # the listening thread is inside a read, which an ordinary exit would wait for
