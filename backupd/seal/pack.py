"""Packs, FORMAT.md §6: an immutable clear header that lists sections, and a map of those that are still there. Pure.

A pack's name is the SHA-256 of its header. So the name, the records that hold it and what the header promises of every
other section stay true when a section is taken out: only the map, and with it the places of what follows, change.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Final, NamedTuple

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import RUN_FORM, GenerationId, ObjectHash, Pseudonym, RepositoryId, RunId
from backupd.model.text import UnreadableError, from_json
from backupd.seal.documents import FORMAT, check_features, check_format
from backupd.seal.section_format import SECTION_LIMIT, SMALLEST_SECTION

MAGIC: Final = b"BKPDPACK"
CLEAR_START: Final = 12
"""Bytes of the magic and of the header's length."""
HEADER_LIMIT: Final = 8 << 20
"""Bytes of a header at most: parsed, it takes five times as many, and nobody signed it."""
PACK_LIMIT: Final = 1 << 30
_ROW: Final = struct.Struct("<16sHIIQ32s")
ROW_SIZE: Final = _ROW.size
"""Bytes of one section's row in the header's table."""


class SectionRow(NamedTuple):
    """One row of a pack's header: everything that it says of one section."""

    segment: Pseudonym
    keyring: RunId
    """The id of the keyring that has the section's key."""
    place: int
    """The key's place in that keyring."""
    number: int
    """The section's number among those of its segment in its generation, from 1: manifests refer to it by this."""
    length: int
    """Bytes of the section."""
    sha256: bytes
    """SHA-256 of the section, 32 bytes."""


@dataclass(frozen=True, slots=True)
class PackContext:
    """The repository and the generation that a pack belongs to."""

    repository: RepositoryId
    generation: GenerationId


@dataclass(frozen=True)
class PackHeader:
    """The immutable part of a pack, readable without a key."""

    context: PackContext
    rows: Sequence[SectionRow]
    raw: bytes
    """Magic, length and header as they stand in the file."""

    @cached_property
    def sha256(self) -> ObjectHash:
        """Return the SHA-256 of the header, which is the pack's name."""
        return ObjectHash(hashlib.sha256(self.raw).hexdigest())

    @property
    def map_size(self) -> int:
        """Return the size of the presence map, which follows the header, in bytes."""
        return (len(self.rows) + 7) // 8


_Stamped = Annotated[str, msgspec.Meta(pattern=rf"\A{RUN_FORM}\Z")]


class _Head(msgspec.Struct, frozen=True):
    features: list[str]
    format: int
    generation: _Stamped
    keyrings: list[_Stamped]
    repository: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]


def make_header(context: PackContext, rows: Iterable[SectionRow]) -> PackHeader:
    """Make the header of a pack with these sections, sorted by segment and number.

    Raises ValueError for a pack without sections, one that is larger than allowed, and one section listed twice.
    """
    listed = sorted(rows, key=_order)
    if not listed or any(_order(before) == _order(after) for before, after in pairwise(listed)):
        raise ValueError("a pack lists no section, or one section twice")
    keyrings = sorted({row.keyring for row in listed})
    numbers = {keyring: number for number, keyring in enumerate(keyrings)}
    head = msgspec.json.encode(_Head([], FORMAT, context.generation, list(keyrings), context.repository))
    table = b"".join(
        _ROW.pack(bytes.fromhex(row.segment), numbers[row.keyring], row.place, row.number, row.length, row.sha256)
        for row in listed
    )
    text = head + b"\n" + table
    header = PackHeader(context, listed, MAGIC + len(text).to_bytes(4, "little") + text)
    if len(text) > HEADER_LIMIT or PresenceMap.full(header).pack_size > PACK_LIMIT:
        raise ValueError("a pack is too large")
    return header


def header_length(prefix: bytes, where: str) -> int:
    """Return the size of a pack's header in bytes, with magic and length, read from its first `CLEAR_START` bytes.

    Raises DamageError.
    """
    if prefix[:8] != MAGIC:
        raise DamageError(f"'{where}' is not a pack")
    if len(prefix) < CLEAR_START:
        raise DamageError(f"'{where}' is cut short")
    length = int.from_bytes(prefix[8:CLEAR_START], "little")
    if length > HEADER_LIMIT:
        raise DamageError(f"the header of '{where}' is larger than allowed")
    return CLEAR_START + length


def read_header(prefix: bytes, where: str) -> PackHeader:
    """Parse a pack's header, from at least its first `header_length` bytes; this needs no key.

    The caller compares its `sha256` with the pack's name. Raises DamageError, and RefusedError for a format or feature
    this program does not know.
    """
    raw = prefix[: header_length(prefix, where)]
    if len(raw) < header_length(prefix, where):
        raise DamageError(f"'{where}' is cut short")
    text, newline, table = raw[CLEAR_START:].partition(b"\n")
    try:
        head = from_json(text, _Head)
    except UnreadableError as error:
        raise DamageError(f"the header of '{where}' cannot be read") from error
    check_format(head.format, where)
    check_features(head.features, where)
    if not newline or not table or len(table) % ROW_SIZE or msgspec.json.encode(head) != text:
        raise DamageError(f"the header of '{where}' cannot be read")
    rows = [_row(values, head.keyrings, where) for values in _ROW.iter_unpack(table)]
    if any(_order(before) >= _order(after) for before, after in pairwise(rows)):
        raise DamageError(f"the header of '{where}' does not list its sections in order")
    context = PackContext(RepositoryId(head.repository), GenerationId(head.generation))
    header = PackHeader(context, rows, raw)
    if PresenceMap.full(header).pack_size > PACK_LIMIT:
        raise DamageError(f"the header of '{where}' promises more than a pack may hold")
    return header


def _order(row: SectionRow) -> tuple[Pseudonym, int]:
    return row.segment, row.number


def _row(values: tuple[bytes, int, int, int, int, bytes], keyrings: Sequence[str], where: str) -> SectionRow:
    segment, keyring, place, number, length, sha256 = values
    if keyring >= len(keyrings) or not number or not SMALLEST_SECTION <= length <= SECTION_LIMIT:
        raise DamageError(f"the header of '{where}' lists an impossible section")
    return SectionRow(Pseudonym(segment.hex()), RunId(keyrings[keyring]), place, number, length, sha256)


@dataclass(frozen=True)
class PresenceMap:
    """The list of those sections of a pack that are there, which also says at which place each of them is."""

    header: PackHeader
    raw: bytes
    """The map as it stands in the file: bit `i & 7` of byte `i >> 3` is set while section `i` is there."""

    @classmethod
    def full(cls, header: PackHeader) -> PresenceMap:
        """Return the map of a new pack."""
        return cls.of(header, range(len(header.rows)))

    @classmethod
    def of(cls, header: PackHeader, there: Iterable[int]) -> PresenceMap:
        """Return the map in which these sections are there."""
        raw = bytearray(header.map_size)
        for index in there:
            raw[index >> 3] |= 1 << (index & 7)
        return cls(header, bytes(raw))

    @classmethod
    def read(cls, header: PackHeader, raw: bytes, where: str) -> PresenceMap:
        """Take a map as it was read. Raises DamageError when it is cut short, or speaks of sections that are none."""
        if len(raw) != header.map_size or (len(header.rows) & 7 and raw[-1] >> (len(header.rows) & 7)):
            raise DamageError(f"the presence map of '{where}' cannot be read")
        return cls(header, raw)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and bool(self.raw[index >> 3] >> (index & 7) & 1)

    @cached_property
    def offsets(self) -> Sequence[int]:
        """Return the place in bytes at which each section begins, or would; then, as one more, the pack's size."""
        offset = len(self.header.raw) + len(self.raw)
        found = [offset]
        for index, row in enumerate(self.header.rows):
            if self.raw[index >> 3] >> (index & 7) & 1:
                offset += row.length
            found.append(offset)
        return found

    @property
    def pack_size(self) -> int:
        """Return the size of the pack with these sections, in bytes."""
        return self.offsets[-1]

    @property
    def there(self) -> list[int]:
        """Return the indexes of the sections that are there, in order."""
        return [index for index in range(len(self.header.rows)) if index in self]

    def without(self, indexes: Collection[int]) -> PresenceMap:
        """Return the map after these sections are taken out."""
        return PresenceMap.of(self.header, (index for index in self.there if index not in indexes))
