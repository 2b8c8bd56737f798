"""Segments written by hand: packs and parts with exactly the blocks, runs and faults a test wants."""

from __future__ import annotations

import hashlib
import io
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RepositoryId
from backupd.model.manifest import Entry, FileEntry, SegmentEntry, TableEntry
from backupd.model.tenancy import SegmentName
from backupd.repository import layout
from backupd.repository.containers import ContainerRef
from backupd.repository.parts import encode_entries
from backupd.seal import suite
from backupd.seal.container_format import DATA, MANIFEST, ContainerContext
from backupd.seal.container_writer import ContainerWriter, FinishedContainer
from backupd.seal.zstd import Compressor
from backupd.store.base import Store

SHARED = SegmentName("shop", "uploaded", None)
REPOSITORY = RepositoryId("ab" * 16)
GENERATION = GenerationId("20260102T030405Z-0a0b0c0d")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class HandmadeSegment:
    """One segment of one generation, whose objects go to `store`."""

    store: Store
    name: SegmentName = SHARED
    pair: suite.KeyPair = field(default_factory=suite.generate)
    context: ContainerContext = field(
        default_factory=lambda: ContainerContext(REPOSITORY, GENERATION, Pseudonym(secrets.token_hex(16)))
    )

    def pack(self, *blocks: Sequence[bytes]) -> ContainerRef:
        """A pack of data blocks, each a list of chunks."""
        out = io.BytesIO()
        writer = self._writer(out, "pack")
        for chunks in blocks:
            _add(writer, chunks)
        return self.publish(writer.finish(), out, "pack")

    def part(
        self,
        entries: Iterable[Entry],
        packs: Sequence[ContainerRef] = (),
        blocks: Sequence[Sequence[bytes]] = (),
        manifest_block: int = 1 << 20,
    ) -> ContainerRef:
        """A part whose manifest is the segment's line and `entries`, cut into blocks at any place."""
        out = io.BytesIO()
        writer = self._writer(out, "part", packs)
        for chunks in blocks:
            _add(writer, chunks)
        first = SegmentEntry(self.name.database, self.name.data_class, self.name.tenant)
        manifest = b"".join(encode_entries([first, *entries]))
        for at in range(0, len(manifest), manifest_block):
            writer.add(MANIFEST, manifest[at : at + manifest_block])
        return self.publish(writer.finish(), out, "part")

    def raw_part(self, manifest: bytes) -> ContainerRef:
        """A part with any bytes for a manifest."""
        out = io.BytesIO()
        writer = self._writer(out, "part")
        writer.add(MANIFEST, manifest)
        return self.publish(writer.finish(), out, "part")

    def publish(self, finished: FinishedContainer, out: io.BytesIO, kind: str) -> ContainerRef:
        ref = ContainerRef(self.context, finished.sha256, finished.size)
        self.store.put_new(self.object_name(ref, kind), io.BytesIO(out.getvalue()), finished.size, finished.sha256)
        return ref

    def object_name(self, ref: ContainerRef, kind: str) -> ObjectName:
        name = layout.pack_name if kind == "pack" else layout.part_name
        return name(self.context, ref.sha256)

    def _writer(self, out: io.BytesIO, kind: str, packs: Sequence[ContainerRef] = ()) -> ContainerWriter:
        listed = [(ObjectHash(ref.sha256), ref.size) for ref in packs]
        return ContainerWriter(out, kind, self.context, self.pair.public, compressor=Compressor(1), packs=listed)


def _add(writer: ContainerWriter, chunks: Sequence[bytes]) -> None:
    ids = b"".join(hashlib.sha256(chunk).digest()[:16] for chunk in chunks)
    writer.add(DATA, b"".join(chunks), [len(chunk) for chunk in chunks], ids)


def table_entry(
    rows: bytes, runs: Sequence[int], *, cut: int | None = None, columns: Sequence[str] = ("a",), table: str = "t"
) -> TableEntry:
    """An entry for these rows of COPY text, with spans of `cut` rows."""
    lines = rows.splitlines(keepends=True) if b"\r" not in rows else rows.replace(b"\n", b"\n\0").split(b"\0")[:-1]
    step = cut or max(len(lines), 1)
    stretches = [lines[at : at + step] for at in range(0, len(lines), step)]
    spans = [(len(part), len(b"".join(part)), sha256(b"".join(part))) for part in stretches]
    return TableEntry("public", table, list(columns), len(lines), len(rows), spans, list(runs))


def file_entry(name: str, data: bytes, runs: Sequence[int]) -> FileEntry:
    return FileEntry(name, len(data), sha256(data), list(runs))
