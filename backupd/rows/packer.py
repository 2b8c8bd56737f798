"""The packer: turns blocks into sealed sections, and sections into packs in the spool.

Each block is compressed and sealed once, as soon as it is full. Sections wait in the spool until there are enough for a
pack; then the parent gives their keys their places in a keyring, which the pack's header names.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from backupd.model.ids import ObjectHash, Pseudonym, RunId, SegmentTags
from backupd.rows.block_spool import BlockSpool, Extent, spool_full
from backupd.rows.loose_chunks import Loose, LooseChunks
from backupd.seal.pack import PackContext, PackHeader, PresenceMap, SectionRow, make_header
from backupd.seal.section_format import SectionContext
from backupd.seal.section_writer import SectionWriter
from backupd.seal.suite import Buffer
from backupd.seal.zstd import Compressor

WORTHWHILE = 32 << 10
"""Plain bytes from which something is compressed and sealed before its section ends. With 10,000 tenants of 70 KB each,
a tenth less is stored than where each addition is, in as much time (measured)."""
MOST_ROWS = 8_192
"""Sections that make a pack, however small they are. Until then each takes 1.6 KB here (measured), and
about as much in the parent when it hears of the pack: four times as many are too much with 50,000 tenants of a row."""


@dataclass(slots=True)
class RunKey:
    """The key that seals all that this worker adds of one segment; it is forgotten with the process."""

    pseudonym: Pseudonym
    tags: SegmentTags
    data_class: str
    tenant: str | None = field(repr=False)
    key: bytes = field(repr=False)
    keyring: RunId | None = None
    """The keyring that has the key; None until the parent gave it a place."""
    place: int = 0


class SectionJob(NamedTuple):
    """An addition to a section; a job without content only ends one."""

    key: RunKey
    number: int
    """The number of the section, among those of its segment."""
    chunks: Sequence[Buffer]
    ids: bytes
    """16 bytes for each chunk."""
    manifest: bytes
    last: bool
    """Whether the section ends here."""


class PackedSection(NamedTuple):
    """One section of a finished pack, as the node's index remembers it."""

    pseudonym: Pseudonym
    number: int
    length: int
    ids: bytes
    manifest: bool
    """Whether the section has a manifest."""


class Pack(NamedTuple):
    """A finished pack in the spool."""

    path: Path
    name: ObjectHash
    """SHA-256 of the header."""
    sha256: ObjectHash
    """SHA-256 of the whole file."""
    size: int
    keyrings: list[RunId]
    """The keyrings that must be on the store before it."""
    sections: list[PackedSection]
    """In the header's order."""


@dataclass(slots=True)
class _Open:
    key: RunKey
    number: int
    writer: SectionWriter | None = None
    """Made when there is something to seal: with its cipher it takes two kilobytes, and a tenant may have a row."""
    extents: array[int] = field(default_factory=lambda: array("q"))
    """The three numbers of each extent in turn: a section of a small tenant may have a hundred blocks."""
    ids: bytearray = field(default_factory=bytearray)
    manifest: bool = False
    loose: Loose | None = None
    """What is not in a block yet."""


class _Finished(NamedTuple):
    """A section that waits for its pack, in little memory: there may be tens of thousands."""

    key: RunKey
    number: int
    length: int
    sha256: bytes
    extents: array[int]
    ids: bytes
    manifest: bool


@dataclass(frozen=True, slots=True)
class PackerSettings:
    """The place of one worker's packs, while they are made and afterwards."""

    context: PackContext
    spool: Path
    worker: int
    """The worker's number, by which its files differ from those of others."""
    pack_size: int
    """Bytes of finished sections that make a pack, which so has less than twice as many."""


@dataclass(frozen=True, slots=True)
class PackerPorts:
    """The packer's way to the parent; both calls may wait."""

    place: Callable[[list[RunKey]], None]
    """Gives each key its place in a keyring."""
    done: Callable[[Pack], None]
    """Takes a finished pack; returns when the spool has space for more."""


class Packer:
    """The maker of one worker's packs. For one thread."""

    def __init__(self, settings: PackerSettings, compressor: Compressor, ports: PackerPorts) -> None:
        self._settings = settings
        self._compressor = compressor
        self._ports = ports
        self._spool = BlockSpool(settings.spool, str(settings.worker))
        self._loose = LooseChunks(settings.spool, f"{settings.worker}-loose")
        self._open: dict[tuple[str, int], _Open] = {}
        self._finished: list[_Finished] = []
        self._ready = 0
        self._packs = 0

    def add(self, jobs: Sequence[SectionJob]) -> None:
        """Do jobs, in order. Raises SpoolFullError, DamageError when memory or the spool's disk is not sound."""
        for job in jobs:
            self._do(job)

    def close(self) -> None:
        """Pack what is finished; every section must have been ended. Raises SpoolFullError."""
        if self._finished:
            self._pack()
        self._loose.close()
        self._spool.close()

    def _do(self, job: SectionJob) -> None:
        at = job.key.pseudonym, job.number
        section = self._open.get(at)
        if section is None:
            section = self._open[at] = _Open(job.key, job.number)
        section.ids += job.ids
        size = sum(map(len, job.chunks))
        ends = job.last or bool(job.manifest)
        if size and not ends and size + (section.loose.size if section.loose else 0) < WORTHWHILE:
            section.loose = section.loose or Loose()
            self._loose.add(section.loose, job.chunks, size)
        elif job.chunks or job.manifest or section.loose:
            self._seal(section, job)
        if job.last:
            del self._open[at]
            self._finish(section)
            if self._ready >= self._settings.pack_size or len(self._finished) >= MOST_ROWS:
                self._pack()

    def _seal(self, section: _Open, job: SectionJob) -> None:
        """Make a block of what is loose in a section and of what comes now."""
        chunks = job.chunks
        if section.loose:
            chunks = [*self._loose.take(section.loose), *chunks]
            section.loose = None
        sealed = self._writer(section).add(chunks, self._compressor, job.manifest)
        section.extents.extend(self._spool.append(sealed))
        section.manifest = section.manifest or bool(job.manifest)

    def _writer(self, section: _Open) -> SectionWriter:
        if section.writer is None:
            place = self._settings.context
            context = SectionContext(place.repository, place.generation, section.key.pseudonym, section.number)
            section.writer = SectionWriter(context, section.key.key)
        return section.writer

    def _finish(self, section: _Open) -> None:
        writer = self._writer(section)
        section.extents.extend(self._spool.append(writer.finish()))
        self._ready += writer.size
        ids, sha256 = bytes(section.ids), writer.sha256()
        finished = _Finished(section.key, section.number, writer.size, sha256, section.extents, ids, section.manifest)
        self._finished.append(finished)

    def _pack(self) -> None:
        sections, self._finished, self._ready = self._finished, [], 0
        unplaced = {section.key.pseudonym: section.key for section in sections if section.key.keyring is None}
        if unplaced:
            self._ports.place(list(unplaced.values()))
        # By pseudonyms, and never by tenants: that two sections are neighbours tells nothing.
        sections.sort(key=lambda section: (section.key.pseudonym, section.number))
        header = make_header(self._settings.context, [_row(section) for section in sections])
        path, sha256 = self._written(header, sections)
        packed = [
            PackedSection(section.key.pseudonym, section.number, section.length, section.ids, section.manifest)
            for section in sections
        ]
        keyrings = sorted({row.keyring for row in header.rows})
        size = PresenceMap.full(header).pack_size
        self._ports.done(Pack(path, header.sha256, sha256, size, keyrings, packed))

    def _written(self, header: PackHeader, sections: Iterable[_Finished]) -> tuple[Path, ObjectHash]:
        """Write a pack into the spool; return its path and its SHA-256."""
        self._packs += 1
        path = self._settings.spool / f"{self._settings.worker}-{self._packs}.pack"
        digest = hashlib.sha256()
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
                start = header.raw + PresenceMap.full(header).raw
                digest.update(start)
                file.write(start)
                for section in sections:
                    numbers = iter(section.extents)
                    extents = map(Extent, numbers, numbers, numbers)
                    data = b"".join(map(self._spool.take, extents))
                    digest.update(data)
                    file.write(data)
        except OSError as error:
            raise spool_full(error) from error
        return path, ObjectHash(digest.hexdigest())


def _row(section: _Finished) -> SectionRow:
    key = section.key
    assert key.keyring is not None  # noqa: S101 - said to the type checker: it was placed
    return SectionRow(key.pseudonym, key.keyring, key.place, section.number, section.length, section.sha256)
