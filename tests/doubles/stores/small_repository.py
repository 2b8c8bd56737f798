"""Repositories of any content, written with the production writers but without PostgreSQL."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from backupd.model.documents import Record, RepositoryInfo, Totals
from backupd.model.ids import (
    ClassTag,
    GenerationId,
    ObjectHash,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SnapshotName,
    TenantId,
    TenantTag,
)
from backupd.model.ledger import Event, PurgeBegan
from backupd.model.manifest import Entry, FactsEntry, FileEntry, SegmentEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import SegmentName
from backupd.model.text import compact, stamp
from backupd.repository import layout
from backupd.repository.ledger import Chain, next_document, put_entry
from backupd.repository.parts import encode_entries
from backupd.repository.repository import Repository, signed_record
from backupd.seal import suite
from backupd.seal.container_format import DATA, MANIFEST, ContainerContext
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringIds, KeyringWriter, Tags, render_keyring, without_lines
from backupd.seal.zstd import Compressor
from backupd.store.base import Store

TAGS = Tags(TenantTag("7a" * 16), ClassTag("c1" * 8))
START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rows:
    """One table's rows of one segment; each row ends with a newline."""

    schema: str
    table: str
    columns: tuple[str, ...]
    rows: tuple[bytes, ...]


@dataclass(frozen=True)
class Content:
    """What a segment holds."""

    tables: tuple[Rows, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    sequences: tuple[tuple[str, str, int, bool], ...] = ()
    facts: dict[str, Any] | None = None
    in_pack: bool = True
    """Data in a pack of its own; else in the part."""
    chunk: int = 40
    """Bytes of a chunk; rows are cut anywhere."""
    block: int = 3
    """Chunks of a block."""


def facts(database: str = "app", **more: Any) -> dict[str, Any]:
    return {
        "server_version": 170000,
        "encoding": "UTF8",
        "settings": {"client_encoding": "UTF8"},
        "extensions": [],
        "collations": [],
        "database": {"name": database},
        "refresh": [],
        **more,
    }


class SmallRepository:
    """One region's repository with one identity and one signer. Every run is a minute after the one before."""

    def __init__(self, store: Store, region: str = "be") -> None:
        self.store = store
        self.identity = suite.generate()
        self.signer = Signer(os.urandom(32))
        self.repository = Repository(store, [self.signer.public])
        self.info = RepositoryInfo(
            repository=RepositoryId(os.urandom(16).hex()),
            region=RegionName(region),
            created=stamp(START),
            signers=[self.signer.public],
        )
        self.repository.put_info(self.info, self.signer)
        self.previous: SnapshotName | None = None
        self.chain = Chain(self.info.region, self.info.repository)
        self.pseudonyms: dict[tuple[str, SegmentName], Pseudonym] = {}
        self._runs = 0
        self._pairs: dict[Pseudonym, suite.KeyPair] = {}
        self._chunk_keys: dict[str, bytes] = {}
        self.start_generation()

    def start_generation(self) -> None:
        self.generation = GenerationId(f"{compact(self._now())}-{os.urandom(4).hex()}")

    def snapshot(
        self, segments: dict[SegmentName, Content], *, label: str = "app", member: str | None = None
    ) -> SnapshotName:
        """One run: packs, keyring, parts, record, in FORMAT.md's order."""
        self._runs += 1
        run = RunId(f"{compact(self._now())}-{os.urandom(4).hex()}")
        self._write_keyring(run, [name for name in segments if (self.generation, name) not in self.pseudonyms])
        parts = {name: self.write_part(name, content) for name, content in segments.items()}
        record = Record(
            repository=self.info.repository,
            region=self.info.region,
            generation=self.generation,
            run=run,
            database=label,
            member=member,
            exported=stamp(self._now()),
            published=stamp(self._now() + timedelta(seconds=5)),
            server=170000,
            previous=self.previous,
            ledger=self.chain.head,
            parts=sorted((self.pseudonyms[self.generation, name], *part) for name, part in parts.items()),
            totals=_totals(segments.values(), sum(size for _, size in parts.values())),
        )
        return self.publish(record)

    def publish(self, record: Record) -> SnapshotName:
        """Sign and publish a record."""
        self.previous, signed = signed_record(record, self.signer)
        self.repository.put_record(record, signed)
        return self.previous

    def tell(self, *events: Event) -> None:
        """Append an entry to the ledger; the writer is its keeper, too."""
        document = next_document(self.chain, stamp(self._now()), list(events), self.signer)
        self.chain = self.chain.extended(document, {self.signer.public})
        put_entry(self.store, len(self.chain.links), document)

    def purge_began(self, *names: SegmentName) -> PurgeBegan:
        """The intent to purge these segments of the present generation."""
        segments = [(self.generation, self.pseudonyms[self.generation, name]) for name in names]
        return PurgeBegan(tenant=TenantId("ab" * 16), incarnation=1, segments=segments, stores=["disk"])

    def take_out(self, name: SegmentName, *, keys: bool = True, objects: bool = True) -> None:
        """Remove a segment of the present generation as a purge does."""
        segment = self.pseudonyms[self.generation, name]
        for keyring in self.repository.keyrings(self.generation) if keys else ():
            where = layout.ObjectName(keyring.where)
            if segment in {one for one, _ in keyring.index}:
                data = without_lines(self.repository.read(where, "keyring"), {segment}, where)
                self.store.replace(where, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
        for info in self.repository.contents(self.generation, segment).values() if objects else ():
            self.store.remove(info.name)

    def context(self, name: SegmentName) -> ContainerContext:
        return ContainerContext(self.info.repository, self.generation, self.pseudonyms[self.generation, name])

    def write_part(self, name: SegmentName, content: Content) -> tuple[ObjectHash, int]:
        """Publish a segment's part, after its pack when it has one."""
        context = self.context(name)
        public = self._pairs[context.segment].public
        streams = [b"".join(table.rows) for table in content.tables] + list(content.files.values())
        chunks = [[data[i : i + content.chunk] for i in range(0, len(data), content.chunk)] for data in streams]
        packs: list[tuple[ObjectHash, int]] = []
        if content.in_pack and any(streams):
            out = io.BytesIO()
            writer = ContainerWriter(out, "pack", context, public, compressor=Compressor(1))
            _add_chunks(writer, chunks, content.block, self._id_of(context.segment))
            finished = writer.finish()
            self.put(layout.pack_name(context, finished.sha256), out.getvalue())
            packs = [(finished.sha256, finished.size)]
        out = io.BytesIO()
        writer = ContainerWriter(out, "part", context, public, compressor=Compressor(1), packs=packs)
        if not packs:
            _add_chunks(writer, chunks, content.block, self._id_of(context.segment))
        lines = b"".join(encode_entries(_entries(name, content, chunks, container=len(packs))))
        for at in range(0, len(lines), 100):
            writer.add(MANIFEST, lines[at : at + 100])
        finished = writer.finish()
        self.put(layout.part_name(context, finished.sha256), out.getvalue())
        return finished.sha256, finished.size

    def put(self, name: str, data: bytes) -> None:
        digest = ObjectHash(hashlib.sha256(data).hexdigest())
        self.store.put_new(layout.ObjectName(name), io.BytesIO(data), len(data), digest)

    def _id_of(self, segment: Pseudonym) -> Callable[[bytes], bytes]:
        return lambda chunk: suite.chunk_id(self._chunk_keys[self.generation], segment.encode(), chunk)

    def _write_keyring(self, run: RunId, names: list[SegmentName]) -> None:
        ids = KeyringIds(self.info.repository, self.info.region, self.generation, run)
        chunk_key = self._chunk_keys.setdefault(self.generation, os.urandom(32))
        writer = KeyringWriter(ids, [self.identity.public], chunk_key)
        entries = []
        for name in names:
            pseudonym, pair = Pseudonym(os.urandom(16).hex()), suite.generate()
            self.pseudonyms[self.generation, name] = pseudonym
            self._pairs[pseudonym] = pair
            entries.append(writer.add(pseudonym, pair, name, TAGS))
        if names:
            data = render_keyring(ids, stamp(self._now()), writer.pieces, entries, self.signer)
            self.repository.put_keyring(ids, data)

    def _now(self) -> datetime:
        return START + timedelta(minutes=self._runs)


def _add_chunks(
    writer: ContainerWriter, streams: list[list[bytes]], width: int, id_of: Callable[[bytes], bytes]
) -> None:
    chunks = [chunk for stream in streams for chunk in stream]
    for at in range(0, len(chunks), width):
        piece = chunks[at : at + width]
        writer.add(DATA, b"".join(piece), [len(chunk) for chunk in piece], b"".join(map(id_of, piece)))


def _entries(name: SegmentName, content: Content, chunks: list[list[bytes]], container: int) -> Iterable[Entry]:
    yield SegmentEntry(name.database, name.data_class, name.tenant)
    first = 0
    described = [*content.tables, *content.files.items()]
    for thing, pieces in zip(described, chunks, strict=True):
        # Two runs where there can be: the second continues the first.
        half = len(pieces) // 2
        runs = [n for at, length in ((0, half), (half, len(pieces) - half)) if length for n in (first + at, length)]
        triples = [n for at in range(0, len(runs), 2) for n in (container, *runs[at : at + 2])]
        data = b"".join(pieces)
        if isinstance(thing, Rows):
            yield TableEntry(
                thing.schema, thing.table, list(thing.columns), len(thing.rows), len(data), _spans(thing.rows), triples
            )
        else:
            yield FileEntry(thing[0], len(data), hashlib.sha256(data).hexdigest(), triples)
        first += len(pieces)
    if content.sequences:
        yield SequencesEntry(list(content.sequences))
    if content.facts is not None:
        yield FactsEntry(content.facts)


def _spans(rows: tuple[bytes, ...]) -> list[tuple[int, int, str]]:
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    joined = [(len(half), b"".join(half)) for half in halves if half]
    return [(number, len(data), hashlib.sha256(data).hexdigest()) for number, data in joined]


def _totals(contents: Iterable[Content], stored: int) -> Totals:
    tables = [table for content in contents for table in content.tables]
    size = sum(len(row) for table in tables for row in table.rows)
    rows = sum(len(table.rows) for table in tables)
    return Totals(tables=len(tables), rows=rows, bytes=size, stored=stored, added=stored)
