"""Sections and packs written by hand: exactly the blocks, runs and faults a test wants."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from doubles.stores.objects import put, replace

from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    Pseudonym,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.model.manifest import Entry, FileEntry, RowsEntry
from backupd.model.tenancy import SegmentName
from backupd.repository import layout
from backupd.repository.manifests import encode_entries
from backupd.repository.packs import OpenPack, Section, open_pack
from backupd.seal.keyring import SegmentKey
from backupd.seal.pack import PackContext, PresenceMap, SectionRow, make_header
from backupd.seal.section_format import SectionContext
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor
from backupd.store.base import Store

SHARED = SegmentName("shop", "uploaded", None)
REPOSITORY = RepositoryId("ab" * 16)
GENERATION = GenerationId("20260102T030405Z-0a0b0c0d")
CONTEXT = PackContext(REPOSITORY, GENERATION)
TAGS = SegmentTags(TenantTag("7a" * 16), ClassTag("c1" * 8), DatabaseTag("db" * 8))
"""Tags of no particular segment, for tests in which nobody compares a pseudonym with its tags."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@dataclass(frozen=True)
class SealedSection:
    """A section and its row in the header of the pack to be."""

    row: SectionRow
    data: bytes


def seal_section(
    context: SectionContext,
    key: SegmentKey,
    place: tuple[RunId, int],
    blocks: Iterable[Sequence[bytes]],
    manifest: Iterable[bytes] = (),
) -> SealedSection:
    """A section of blocks, each a list of chunks, and then of blocks with these pieces of its manifest.

    `place` is the keyring with the key, and the key's place in it.
    """
    writer, compressor = SectionWriter(context, key.key), Compressor(1)
    sealed = [writer.add(chunks, compressor) for chunks in blocks]
    sealed += [writer.add((), compressor, piece) for piece in manifest]
    data = b"".join((*sealed, writer.finish()))
    return SealedSection(SectionRow(context.segment, *place, context.number, len(data), writer.sha256()), data)


def publish_pack(store: Store, context: PackContext, sections: Iterable[SealedSection]) -> OpenPack:
    """Put these sections into one pack, and that onto the store."""
    ordered = sorted(sections, key=lambda section: (section.row.segment, section.row.number))
    header = make_header(context, [section.row for section in ordered])
    data = b"".join((header.raw, PresenceMap.full(header).raw, *(section.data for section in ordered)))
    name = layout.pack_name(context.generation, header.sha256)
    put(store, name, data)
    return open_pack(store, context.repository, context.generation, header.sha256)


def take_out(store: Store, pack: OpenPack, sections: Collection[int]) -> None:
    """Put a pack anew without these sections; its header and map stay, if no section does."""
    data = store.get(pack.name)
    there = pack.there.without(sections)
    kept = [data[pack.there.offsets[at] : pack.there.offsets[at + 1]] for at in there.there]
    fresh = b"".join((pack.header.raw, there.raw, *kept))
    replace(store, pack.name, fresh)


@dataclass
class HandmadeSegment:
    """One segment of one generation, whose sections go to `store`, each in a pack of its own."""

    store: Store
    name: SegmentName = SHARED
    segment: Pseudonym = field(default_factory=lambda: Pseudonym(secrets.token_hex(16)))
    key: SegmentKey = field(init=False)
    context: PackContext = CONTEXT
    place: tuple[RunId, int] = (RunId(GENERATION), 0)
    """The keyring that has the key, and where."""
    sections: dict[tuple[Pseudonym, int], Section] = field(default_factory=dict)
    """Every section published so far, by segment and number, as in `SnapshotSections`."""
    sealed_so_far: int = 0

    def __post_init__(self) -> None:
        self.key = SegmentKey(secrets.token_bytes(32), self.name)

    def section(
        self,
        entries: Iterable[Entry] = (),
        blocks: Iterable[Sequence[bytes]] = (),
        manifest_block: int = 1 << 20,
    ) -> Section:
        """A section of data blocks, each a list of chunks, and a manifest of `entries` cut into blocks anywhere."""
        manifest = b"".join(encode_entries(entries))
        pieces = [manifest[at : at + manifest_block] for at in range(0, len(manifest), manifest_block)]
        return self.publish(self.sealed(blocks, pieces))

    def data(self, *blocks: Sequence[bytes]) -> int:
        """A section of data blocks, each a list of chunks; returns its number, by which runs refer to it."""
        return self.section(blocks=blocks).row.number

    def raw_manifest(self, *pieces: bytes) -> Section:
        """A section with any bytes for a manifest."""
        return self.publish(self.sealed((), pieces))

    def sealed(self, blocks: Iterable[Sequence[bytes]], manifest: Iterable[bytes] = ()) -> SealedSection:
        """The segment's next section, on no store."""
        self.sealed_so_far += 1
        context = SectionContext(self.context.repository, self.context.generation, self.segment, self.sealed_so_far)
        return seal_section(context, self.key, self.place, blocks, manifest)

    def publish(self, *sections: SealedSection) -> Section:
        """Put sections into one pack; returns the last of them."""
        pack = publish_pack(self.store, self.context, sections)
        for at, row in enumerate(pack.header.rows):
            self.sections[row.segment, row.number] = pack.section(at)
        return self.sections[sections[-1].row.segment, sections[-1].row.number]


@dataclass(frozen=True)
class HandmadeKeys:
    """The keys of handmade segments, as `SecretKeys` has those of a repository."""

    keys: Mapping[Pseudonym, SegmentKey]

    @classmethod
    def of_segments(cls, *segments: HandmadeSegment) -> HandmadeKeys:
        return cls({one.segment: one.key for one in segments})

    def of(self, row: SectionRow) -> SegmentKey:
        return self.keys[row.segment]


def rows_entry(rows: bytes, runs: Sequence[int], *, cut: int | None = None, table: int = 1) -> RowsEntry:
    """An entry for these rows of COPY text of the table with this number, with spans of `cut` rows."""
    lines = rows.splitlines(keepends=True) if b"\r" not in rows else rows.replace(b"\n", b"\n\0").split(b"\0")[:-1]
    step = cut or max(len(lines), 1)
    stretches = [lines[at : at + step] for at in range(0, len(lines), step)]
    spans = [(len(part), len(b"".join(part)), sha256(b"".join(part))) for part in stretches]
    return RowsEntry(table, spans, list(runs))


def file_entry(name: str, data: bytes, runs: Sequence[int]) -> FileEntry:
    return FileEntry(name, len(data), sha256(data), list(runs))
