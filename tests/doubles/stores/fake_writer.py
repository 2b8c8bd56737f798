"""A writer that backs up content out of memory: PostgreSQL apart, everything it does is done by production code.

A run stops at every stage and can be left there, so that others may act in between, or so that it dies.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from backupd.clock import Clock
from backupd.model.documents import Record, Totals
from backupd.model.ids import Pseudonym, RegionName, RunId, SnapshotName
from backupd.model.manifest import TableEntry
from backupd.model.tenancy import SegmentName, Tenancy, TenancyKind
from backupd.model.text import stamp
from backupd.operations.backup import BackupJob, Node
from backupd.operations.backup.collect import Collector, RunTarget, SpanLog
from backupd.operations.backup.generation import KeyedSegment, Segments, current_generation, new_id, publish_keyrings
from backupd.operations.backup.parts import PartBuilder
from backupd.operations.backup.run import _previous, _publish_record, _Run, begin_run
from backupd.operations.backup.stored_objects import Ground, HoldingsWatch
from backupd.postgres.connect import Source
from backupd.repository.layout import pack_name
from backupd.repository.repository import Repository
from backupd.repository.state.index import Index, IndexedContainer
from backupd.repository.uploader import Upload, Uploader
from backupd.seal import suite
from backupd.seal.container_format import DATA, ContainerContext
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.documents import Signer
from backupd.seal.tags import TenantTags
from backupd.seal.zstd import Compressor
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
    """Told of every segment a run adds to, before anything of it is on the store."""

    def node(self, name: str, ledger: Store | None = None) -> Node:
        return Node(
            state=self.folder / name,
            spool=self.folder / "spool",
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
        )

    def run(self, name: str, store: Store, content: Content, made: Made, ledger: Store | None = None) -> Iterator[str]:
        """Back up onto one store, stopping at each stage, whose name is given."""
        node = self.node(name, ledger)
        repository = Repository(store, [self.signer.public, *self.others], self.keepers)
        job = BackupJob(self.region, DATABASE, Source("", client_folders=()), Tenancy(kind=TenancyKind.NONE))
        with ExitStack() as stack:
            index = stack.enter_context(Index.locked(node.state))
            run = RunId(new_id(node.clock.now(), node.random))
            ground = Ground(index, repository, current_generation(index, repository, node), node)
            ground, standing, missing = begin_run(ground, self.region, run, stack)
            generation = ground.generation
            uploader = stack.enter_context(Uploader(store, 1))
            context = _Run(job, ground, run, uploader, standing, missing)
            segments = Segments(index, generation, standing, node)
            watch = stack.enter_context(HoldingsWatch(ground, standing))
            watch.wait()
            made.exported = stamp(node.clock.now())
            yield "begun"
            intake = Collector(
                DATABASE, RunTarget(generation, index, segments, uploader), 1 << 30, SpanLog(node.spool / run)
            )
            entries = [
                (keyed, self._pack(context, intake, keyed, chunks)) for keyed, chunks in self._gathered(intake, content)
            ]
            uploader.drain()
            yield "packs"
            publish_keyrings(index, repository, generation, node.signer)
            yield "keyrings"
            builder = PartBuilder(generation, index, Compressor(1), intake)
            placed = []
            for keyed, table in sorted(entries, key=lambda pair: pair[0].segment.pseudonym):
                one = builder.place(keyed, [table], ())
                placed.append(replace(one, upload=None))
                if one.upload is not None:
                    uploader.submit(one.upload)
            uploader.drain()
            yield "parts"
            watch.check({number for one in placed for number in (*one.needs, one.part.number)})
            record = Record(
                repository=generation.repository,
                region=self.region,
                generation=generation.id,
                run=run,
                database=DATABASE,
                exported=made.exported,
                published=stamp(node.clock.now()),
                server=170000,
                previous=_previous(context),
                ledger=standing.head,
                parts=[(one.part.pseudonym, one.part.sha256, one.part.size) for one in placed],
                totals=Totals(tables=1, rows=0, bytes=0, stored=0, added=uploader.sent),
            )
            made.snapshot, made.record = _publish_record(context, record), record

    def _gathered(self, intake: Collector, content: Content) -> Iterator[tuple[KeyedSegment, Sequence[bytes]]]:
        for name, chunks in content.items():
            if chunks and not intake.excluded(name.data_class, name.tenant):
                keyed = intake.of(name.data_class, name.tenant)
                self.met(keyed.segment.pseudonym, name)
                yield keyed, chunks

    def _pack(self, context: _Run, intake: Collector, keyed: KeyedSegment, chunks: Sequence[bytes]) -> TableEntry:
        """Ship what is new of a table in one pack; answer with the table, its runs by the index's numbers."""
        index, pseudonym = context.ground.index, keyed.segment.pseudonym
        ids = [suite.chunk_id(context.ground.generation.chunk_key, pseudonym.encode(), chunk) for chunk in chunks]
        places = {one: index._file.row("SELECT container, chunk FROM chunks WHERE id = ?", one) for one in ids}
        fresh = [place for place, one in enumerate(ids) if places[one] is None]
        if fresh:
            number = intake.number()
            places |= {ids[place]: (number, at) for at, place in enumerate(fresh)}
            self._upload(context, number, pseudonym, [(ids[place], chunks[place]) for place in fresh])
        data = b"".join(chunks)
        spans = [(len(chunks), len(data), hashlib.sha256(data).hexdigest())]
        runs = [n for one in ids for n in (*(places[one] or ()), 1)]
        return TableEntry("public", "note", ["said"], len(chunks), len(data), spans, runs)

    @staticmethod
    def _upload(context: _Run, number: int, pseudonym: Pseudonym, chunks: list[tuple[bytes, bytes]]) -> None:
        index, generation = context.ground.index, context.ground.generation
        sealed = ContainerContext(generation.repository, generation.id, pseudonym)
        out = io.BytesIO()
        writer = ContainerWriter(out, "pack", sealed, index.public(pseudonym), compressor=Compressor(1))
        ids = b"".join(one for one, _ in chunks)
        writer.add(DATA, b"".join(chunk for _, chunk in chunks), [len(chunk) for _, chunk in chunks], ids)
        done = writer.finish()
        container = IndexedContainer(number, pseudonym, done.sha256, done.size)
        context.uploader.submit(
            Upload(
                pack_name(sealed, done.sha256),
                out.getvalue(),
                done.sha256,
                done.size,
                lambda: index.add_container(container, ids),
            )
        )
