"""Packs on a store: their headers and maps, read and compared with their names; and the sections of a snapshot.

Everything that a restore uses is compared with a hash that the signed record vouches for: the record names a pack by
the SHA-256 of its header, and the header holds that of each section.

`backupd manual trust`, row *packs*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from backupd.errors import DamageError, ObjectMissingError
from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RepositoryId
from backupd.model.ranges import from_ranges
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.seal.pack import (
    CLEAR_START,
    ROW_SIZE,
    PackContext,
    PackHeader,
    PresenceMap,
    SectionRow,
    header_length,
    read_header,
)
from backupd.seal.section_format import SectionContext
from backupd.store.base import StoreView

FIRST_READ = 16 << 10
"""Bytes read first of a pack: the whole header of most."""
_PIECE = 4 << 20
"""Bytes of a section requested at once: all of those that our writer makes."""
_READERS = 8
"""Headers under way at once: each is a round trip."""


@dataclass(frozen=True)
class OpenPack:
    """A pack whose header was read and has the SHA-256 that its name says."""

    name: ObjectName
    header: PackHeader
    there: PresenceMap
    """Which sections were there when the header was read."""

    def section(self, index: int) -> Section:
        return Section(self, index)

    def sections(self) -> Iterator[Section]:
        """Yield all sections that are there."""
        return (Section(self, index) for index in self.there.there)


class Section(NamedTuple):
    """One section of a pack."""

    pack: OpenPack
    at: int
    """The section's place in the header, from 0."""

    @property
    def row(self) -> SectionRow:
        return self.pack.header.rows[self.at]

    @property
    def place(self) -> tuple[str, int]:
        """Return the pack's name and the place in it, which no other section has."""
        return self.pack.name, self.at

    @property
    def is_there(self) -> bool:
        return self.at in self.pack.there

    @property
    def offset(self) -> int:
        """Return the section's place in the pack, in bytes, as it was when the header was read."""
        return self.pack.there.offsets[self.at]

    @property
    def where(self) -> str:
        """The section's name for messages."""
        return f"{self.pack.name}, section {self.at}"

    @property
    def context(self) -> SectionContext:
        pack = self.pack.header.context
        return SectionContext(pack.repository, pack.generation, self.row.segment, self.row.number)


def open_pack(store: StoreView, repository: RepositoryId, generation: GenerationId, sha256: ObjectHash) -> OpenPack:
    """Read a pack's header and map.

    Raises ObjectMissingError, RefusedError, and DamageError for a header that is not the one its name says, or that is
    of another repository or generation.
    """
    name = layout.pack_name(generation, sha256)
    return parse_pack(fetch_head(store, name), PackContext(repository, generation), sha256)


def fetch_head(store: StoreView, name: ObjectName) -> bytes:
    """Read the start of a pack, with at least its header and map; parsed, they take five times the memory.

    Raises ObjectMissingError, and DamageError for what is no pack.
    """
    return read_head(lambda length: store.get(name, 0, length), name)


def read_head(read: Callable[[int], bytes], name: ObjectName) -> bytes:
    """Return the start of a pack as `fetch_head` does; `read` returns that many bytes of it from the first on."""
    data = read(FIRST_READ)
    length = header_length(data[:CLEAR_START], name)
    whole = length + length // (8 * ROW_SIZE) + 1
    return read(whole) if whole > len(data) == FIRST_READ else data[:whole]


def parse_pack(head: bytes, context: PackContext, sha256: ObjectHash) -> OpenPack:
    """Parse what `fetch_head` returned of the pack with this name. Raises DamageError and RefusedError."""
    name = layout.pack_name(context.generation, sha256)
    length = header_length(head[:CLEAR_START], name)
    if hashlib.sha256(head[:length]).hexdigest() != sha256:
        raise DamageError(f"the header of '{name}' does not have the hash its name says")
    header = read_header(head, name)
    if header.context != context:
        raise DamageError(f"'{name}' belongs to another generation or repository")
    return OpenPack(name, header, PresenceMap.read(header, head[length : length + header.map_size], name))


def fetch_section(store: StoreView, section: Section) -> bytes:
    """Read a whole section and compare it with the SHA-256 in its pack's header.

    A section may have moved or gone since the header was read, when a keeper took another one out of the pack: the map
    is then read again. Raises DamageError, and ObjectMissingError when pack or section are gone.
    """
    out = io.BytesIO()
    copy_section(store, section, out)
    return out.getvalue()


def fetch_neighbours(store: StoreView, sections: Sequence[Section]) -> bytes:
    """Read sections that lay side by side in one pack, with one request; the caller compares each with its hash.

    One that differs may have moved since the pack's header was read: `fetch_section` finds it. Raises
    ObjectMissingError.
    """
    first, last = sections[0], sections[-1]
    return store.get(first.pack.name, first.offset, last.offset + last.row.length - first.offset)


def copy_section(store: StoreView, section: Section, out: BinaryIO) -> None:
    """Read a section as `fetch_section` does into a seekable file, piece by piece: it is right once this returns."""
    for attempt in (1, 2):
        if section.is_there and _copied(store, section, out):
            return
        if attempt == 1:
            fresh = reopened(store, section.pack)
            if fresh.there.raw == section.pack.there.raw:
                break
            section = fresh.section(section.at)
    if not section.is_there:
        raise ObjectMissingError(f"'{section.where}' is missing")
    raise DamageError(f"'{section.where}' does not have the hash its header says")


def _copied(store: StoreView, section: Section, out: BinaryIO) -> bool:
    row, digest = section.row, hashlib.sha256()
    out.seek(0)
    for at in range(0, row.length, _PIECE):
        piece = store.get(section.pack.name, section.offset + at, min(_PIECE, row.length - at))
        digest.update(piece)
        out.write(piece)
    out.truncate()
    return out.tell() == row.length and digest.digest() == row.sha256


def reopened(store: StoreView, pack: OpenPack) -> OpenPack:
    """Read a pack's map again; its header cannot have changed. Raises DamageError, ObjectMissingError."""
    raw = store.get(pack.name, len(pack.header.raw), pack.header.map_size)
    return OpenPack(pack.name, pack.header, PresenceMap.read(pack.header, raw, pack.name))


def open_packs(
    store: StoreView, repository: RepositoryId, generation: GenerationId, wanted: Iterable[ObjectHash]
) -> Iterator[tuple[ObjectHash, OpenPack | DamageError | ObjectMissingError]]:
    """Open packs, several at once, in the order given; a pack that is missing or damaged yields its error instead."""

    def opened(sha256: ObjectHash) -> tuple[ObjectHash, OpenPack | DamageError | ObjectMissingError]:
        try:
            return sha256, open_pack(store, repository, generation, sha256)
        except (DamageError, ObjectMissingError) as error:
            return sha256, error

    return (done.result() for _, done in in_parallel(opened, wanted, _READERS))


@dataclass(frozen=True)
class SnapshotSections:
    """The sections of one snapshot, as its record and the headers of its packs list them, there or not."""

    manifests: Mapping[Pseudonym, Section]
    """By segment, the section whose manifest says what the snapshot has of it."""
    sections: Mapping[tuple[Pseudonym, int], Section]
    """Every section that the record names, by segment and number."""

    @property
    def size(self) -> int:
        """Bytes of all sections."""
        return sum(section.row.length for section in self.sections.values())


def list_sections(record: Record, packs: Mapping[ObjectHash, OpenPack]) -> SnapshotSections:
    """Return a snapshot's sections; `packs` must have every pack that the record names.

    Raises DamageError when the record names sections that its packs do not list, two of one number, or not exactly one
    manifest of each segment.
    """
    manifests: dict[Pseudonym, Section] = {}
    sections: dict[tuple[Pseudonym, int], Section] = {}
    for sha256, of_manifests, others in record.packs:
        pack = packs[sha256]
        limit = len(pack.header.rows)
        try:
            numbers = [*from_ranges(of_manifests, limit), *from_ranges(others, limit)]
        except ValueError as error:
            raise DamageError(f"a record names sections that '{pack.name}' does not list") from error
        first_other = len(numbers) - sum(others[1::2])
        for place, index in enumerate(numbers):
            section = pack.section(index)
            key = section.row.segment, section.row.number
            if sections.setdefault(key, section) is not section or (
                place < first_other and manifests.setdefault(section.row.segment, section) is not section
            ):
                raise DamageError(f"a record names segment {section.row.segment} twice in '{pack.name}'")
    for segment, _ in sections:
        if segment not in manifests:
            raise DamageError(f"a record names sections of segment {segment}, and no manifest of it")
    return SnapshotSections(manifests, sections)


def read_sections(store: StoreView, record: Record) -> SnapshotSections:
    """Read the headers of a snapshot's packs, and return its sections.

    Raises ObjectMissingError when a pack is missing, DamageError, RefusedError, and the store's errors.
    """
    found: dict[ObjectHash, OpenPack] = {}
    names = [sha256 for sha256, _, _ in record.packs]
    for sha256, pack in open_packs(store, record.repository, record.generation, names):
        if not isinstance(pack, OpenPack):
            raise pack
        found[sha256] = pack
    return list_sections(record, found)
