"""A writer that backs up content out of memory: PostgreSQL apart, everything it does is done by production code.

A run stops at every stage and can be left there, so that others may act in between, or so that it dies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from backupd.clock import Clock
from backupd.model.documents import HANDED, MARK, Record, Totals
from backupd.model.ids import Pseudonym, RegionName, RunId, SnapshotName
from backupd.model.manifest import Entry, RowsEntry, TableEntry
from backupd.model.tenancy import STRUCTURE, SegmentName, Tenancy, TenancyKind
from backupd.model.text import stamp
from backupd.operations.backup import BackupJob, Node
from backupd.operations.backup.closing import SegmentClosing
from backupd.operations.backup.collect import Collector, RunTarget, SpanLog
from backupd.operations.backup.generation import current_generation, keyed_tag, new_id
from backupd.operations.backup.needed import SectionsNeeded
from backupd.operations.backup.read import PACK_SIZE
from backupd.operations.backup.run import _previous, _publish_record, _Run, _target, begin_run
from backupd.operations.backup.stored_objects import Ground, HoldingsWatch
from backupd.postgres.connect import Source
from backupd.repository.marks import RunMark
from backupd.repository.repository import Repository
from backupd.repository.state.index import Index
from backupd.repository.uploader import Uploader, run_folder
from backupd.rows import protocol
from backupd.rows.dedup import OpenSpan
from backupd.rows.known_chunks import IndexedChunks
from backupd.rows.packer_process import make_packer
from backupd.rows.worker import Worker
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.store.base import Store
from backupd.trace import NoTrace

DATABASE = "app"
Content = Mapping[SegmentName, Sequence[bytes]]
"""The chunks of each segment's one table."""


def segment(data_class: str, tenant: str | None) -> SegmentName:
    return SegmentName(DATABASE, data_class, tenant)


@dataclass
class Made:
    """A run as far as it came. `snapshot` and `record` are there when it came to its end."""

    exported: str = ""
    snapshot: SnapshotName | None = None
    record: Record | None = None


@dataclass
class _Channel:
    """What a worker process reports to its parent; here its packs wait until the run goes on."""

    collector: Collector
    packs: list[protocol.PackDone] = field(default_factory=list)

    def places(self, keys: list[protocol.NewKey]) -> list[tuple[str, int]]:
        return self.collector.places(0, keys).places

    def pack_done(self, pack: protocol.PackDone) -> None:
        self.packs.append(pack)

    def count(self, *_: int) -> None:
        pass

    def report(self) -> None:
        pass

    def send(self, _: protocol.Event) -> None:
        pass


@dataclass
class _Entries:
    """The manifest of each segment: its rows; with the structure, the table's definition, too."""

    definition: TableEntry
    structure: Pseudonym
    named: dict[Pseudonym, tuple[str, str | None]]

    def entries(self, segment: Pseudonym, read: Sequence[tuple[int, bytes]]) -> list[Entry]:
        spans = [protocol.unpack_span(packed) for _, packed in read]
        found: list[Entry] = [self.definition] if segment == self.structure else []
        if spans:
            promised = [(span.rows, span.size, span.sha256) for span in spans]
            found.append(RowsEntry(self.definition.number, promised, [n for span in spans for n in span.runs]))
        return found


@dataclass
class FakeWriter:
    """One node. Its stores' indexes lie in folders of `folder`, as a node's do."""

    folder: Path
    region: RegionName
    recipient: bytes
    signer: Signer
    keepers: frozenset[str]
    tags: TenantTags
    ledger: Store
    clock: Clock
    random: Callable[[int], bytes]
    own_clocks: frozenset[str] = frozenset()
    generation_length: timedelta = timedelta(days=28)
    others: tuple[str, ...] = ()
    """Signers this node trusts beside itself."""
    met: Callable[[Pseudonym, SegmentName], None] = field(default=lambda *_: None)
    """Told of every segment a run has something of, before anything of it is on the store."""

    def node(self, name: str, ledger: Store | None = None) -> Node:
        return Node(
            state=self.folder / name,
            spool=self.folder / "spool" / name,
            spool_size=1 << 30,
            workers=1,
            uploaders=1,
            compression_level=1,
            lock_timeout=1.0,
            generation_length=self.generation_length,
            recipients=(self.recipient,),
            tags=self.tags,
            own_clocks=self.own_clocks,
            ledger=ledger or self.ledger,
            signer=self.signer,
            clock=self.clock,
            random=self.random,
            environment={},
            trace=NoTrace(),
            clock_tolerance=timedelta(days=36500),
        )

    def run(self, name: str, store: Store, content: Content, made: Made, ledger: Store | None = None) -> Iterator[str]:
        """Back up onto one store, stopping at each stage, whose name is given: `begun`, `keyrings`, `packs`."""
        node = self.node(name, ledger)
        repository = Repository(store, [self.signer.public, *self.others], self.keepers)
        job = BackupJob(self.region, DATABASE, Source("", client_folders=()), Tenancy(kind=TenancyKind.NONE))
        with ExitStack() as stack:
            index = stack.enter_context(Index.locked(node.state))
            run = RunId(new_id(node.clock.now(), node.random))
            spool = stack.enter_context(run_folder(node.spool, run))
            ground = Ground(index, repository, current_generation(index, repository, node), node)
            mark = RunMark.drawn(run, node.random)
            ground, standing, missing, still_marked = begin_run(ground, self.region, mark, stack)
            uploader = stack.enter_context(Uploader(store, 1))
            context = _Run(job, ground, mark, uploader, standing, missing, still_marked)
            watch = stack.enter_context(HoldingsWatch(ground, standing))
            watch.wait()
            made.exported = stamp(node.clock.now())
            yield "begun"
            target = _target(context, DATABASE)
            collector = Collector(target, node.spool_size, SpanLog(spool / "spans"))
            packs, closing = self._read(node, target, collector, spool, content)
            target.keyrings.publish(dict.fromkeys(RunId(one) for pack in packs for one in pack.keyrings))
            yield "keyrings"
            for pack in packs:
                collector.pack(0, pack)
            uploader.drain()
            yield "packs"
            rows, structure = closing.needed()
            needed = rows.with_those(structure)
            watch.check(needed.packs_needed())
            record = self._record(context, made, needed)
            made.snapshot, made.record = _publish_record(context, record), record

    def _read(
        self, node: Node, target: RunTarget, collector: Collector, spool: Path, content: Content
    ) -> tuple[list[protocol.PackDone], SegmentClosing]:
        """Have a worker cut nothing, and deduplicate, compress and seal everything; return its packs."""
        channel = _Channel(collector)
        setup = _setup(node, target, spool)
        worker = Worker(setup, channel, make_packer(setup, channel))  # as far as it is used
        worker._dedup._settings = replace(worker._dedup._settings, random=node.random)
        for task, (name, chunks) in enumerate(content.items()):
            self._take(worker, collector, task, name, chunks)
        closing = SegmentClosing(self._entries(target), collector, target, setup)
        worker.close_segments(protocol.CloseSegments([one for _, one in closing.closings()]))
        worker.finish()
        if isinstance(worker._dedup._known, IndexedChunks):  # a process would end here
            worker._dedup._known.close()
        return channel.packs, closing

    def _take(
        self, worker: Worker, collector: Collector, task: int, name: SegmentName, chunks: Sequence[bytes]
    ) -> None:
        taken = worker.segment(name.data_class, name.tenant)
        if taken.names is None or not chunks:
            return
        self.met(taken.names.pseudonym, name)
        span = OpenSpan(taken)
        for chunk in chunks:
            worker._dedup.take(span, chunk, chunk.count(b"\n"))
        collector.done(protocol.TaskDone(task, span.rows, [span.close()], 0))

    def _entries(self, target: RunTarget) -> _Entries:
        structure = target.names.of(STRUCTURE, None)
        assert structure is not None
        self.met(structure.pseudonym, segment(STRUCTURE, None))
        number = target.index.definition(keyed_tag(target.generation, "definition", DATABASE, "public", "note"))
        definition = TableEntry(number, "public", "note", ["said"])
        return _Entries(definition, structure.pseudonym, {structure.pseudonym: (STRUCTURE, None)})

    def _record(self, context: _Run, made: Made, needed: SectionsNeeded) -> Record:
        generation = context.ground.generation
        previous, handed = _previous(context)
        return Record(
            repository=generation.repository,
            region=self.region,
            generation=generation.id,
            run=context.mark.run,
            database=DATABASE,
            exported=made.exported,
            published=stamp(context.ground.node.clock.now()),
            server=170000,
            previous=previous,
            ledger=context.standing.head,
            packs=needed.packs(context.ground.index),
            totals=Totals(tables=1, rows=0, bytes=0, stored=needed.size, added=context.uploader.sent),
            extra={MARK: context.mark.secret, **({HANDED: handed} if handed else {})},
        )


def _setup(node: Node, target: RunTarget, spool: Path) -> protocol.Setup:
    generation, names = target.generation, target.names
    return protocol.Setup(
        number=0,
        workers=node.workers,
        repository=generation.repository,
        region=names.tags.region,
        generation=generation.id,
        database=names.database,
        chunk_key=generation.chunk_key,
        tenant_key=names.tags.key,
        own_clocks=sorted(names.own_clocks),
        incarnations=dict(names.incarnations),
        last_section=target.index.last_number(),
        compression_level=node.compression_level,
        spool=str(spool),
        index=str(target.index.path) if target.index.has_chunks() else None,
        psql=[],
        environment={},
        preamble="",
        pending_limit=48 << 20,
        pack_size=PACK_SIZE,
        open_limit=node.spool_size,
    )
