"""pg_dump's custom archive, divided into its head and raw TOC entries, and joined again (FORMAT.md §7).

The layout is that of `WriteHead` and `WriteToc` in PostgreSQL's pg_backup_archiver.c, versions 1.14 (PostgreSQL 12 to
15), 1.15 (16) and 1.16 (17 and 18). Reading is streamed: an archive of many schemas is large.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from backupd.errors import DamageError, SourceError

_KNOWN = {(1, 14), (1, 15), (1, 16)}
_CUSTOM = 1
_PLACE = struct.Struct("<II")
_LONGEST = 1 << 30
_MAGIC = b"PGDMP"
_SHAPE_END = 11
"""Bytes of an archive before its first number: the magic, the version, and the widths of numbers."""
_NARROWEST = 4
"""Bytes of an integer at least: of a C `int`, so that every count and length fits."""
_NUMBER = re.compile(r"[0-9]{1,10}")
_MADE = (0, 0, 12, 1, 0, 100, 0)
"""The time that every archive gets, as C's tm: noon of 2000-01-01, so that the same schema is the same bytes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One TOC entry: its place, its bytes, and its decoded fields."""

    ordinal: int
    raw: bytes
    dump_id: int
    description: str
    """Kind of object: TABLE, ACL, SCHEMA…"""
    tag: str
    namespace: str
    owner: str
    definition: str
    definition_at: int
    """Offset in `raw` at which the definition's length stands."""
    dependencies: tuple[int, ...]
    """Dump ids of the objects that must exist before."""
    dependencies_at: int
    """Offset in `raw` at which they stand, as texts."""
    tablespace: str
    tablespace_at: int
    owner_at: int
    """Offsets in `raw` at which the lengths of tablespace and owner stand."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of an archive's numbers, and its version."""

    version: tuple[int, int]
    integer: int
    """Bytes of an integer, without its sign byte."""
    offset: int


class _Source:
    """A reader of fields that remembers their bytes."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._taken: list[bytes] = []

    def take(self, count: int) -> bytes:
        data = self._read(count)
        if len(data) != count:
            raise SourceError(
                "pg_dump's archive ends too early", hint="Look into the server's log; the next run tries again."
            )
        self._taken.append(data)
        return data

    def integer(self, shape: Shape) -> int:
        data = self.take(1 + shape.integer)
        value = int.from_bytes(data[1:], "little")
        return -value if data[0] else value

    def text(self, shape: Shape) -> str | None:
        """Read a string; None is an absent string, unlike an empty one."""
        length = self.integer(shape)
        if length > _LONGEST:
            raise _strange()
        return None if length < 0 else self.take(length).decode(errors="surrogateescape")

    def position(self) -> int:
        """Return the number of bytes since the last `taken`."""
        return sum(map(len, self._taken))

    def taken(self) -> bytes:
        """Return all bytes read since the last call."""
        data, self._taken = b"".join(self._taken), []
        return data


class ArchiveReader:
    """An archive that is read from a stream, once, in order."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Read the head. `read` must return as many bytes as requested, fewer only at the end.

        Raises SourceError for anything but an archive of a known version.
        """
        self._source = _Source(read)
        self.shape, self.head = _read_head(self._source)
        """`head` is everything before the number of entries, with the archive's time replaced by a fixed one."""
        self.count = self._source.integer(self.shape)
        if self.count < 0:
            raise _strange()
        self._source.taken()

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the archive's order. Raises SourceError when the archive is cut or makes no sense."""
        for ordinal in range(self.count):
            yield self._entry(ordinal)

    def _entry(self, ordinal: int) -> Entry:
        source, shape = self._source, self.shape
        dump_id = source.integer(shape)
        source.integer(shape)
        source.text(shape), source.text(shape)
        tag, description = source.text(shape), source.text(shape)
        source.integer(shape)
        definition_at = source.position()
        definition = source.text(shape)
        source.text(shape), source.text(shape)
        namespace = source.text(shape)
        tablespace_at = source.position()
        tablespace = source.text(shape)
        source.text(shape)
        if shape.version >= (1, 16):
            source.integer(shape)
        owner_at = source.position()
        owner = source.text(shape)
        source.text(shape)
        dependencies_at = source.position()
        dependencies = tuple(_dump_id(text) for text in iter(lambda: source.text(shape), None))
        source.take(1 + shape.offset)
        texts = (description or "", tag or "", namespace or "", owner or "", definition or "")
        places = (tablespace or "", tablespace_at, owner_at)
        return Entry(ordinal, source.taken(), dump_id, *texts, definition_at, dependencies, dependencies_at, *places)


def _read_head(source: _Source) -> tuple[Shape, bytes]:
    if source.take(len(_MAGIC)) != _MAGIC:
        raise _strange()
    major, minor, _, integer, offset, format_ = source.take(6)
    shape = Shape((major, minor), integer, offset)
    if shape.version not in _KNOWN or format_ != _CUSTOM or not _NARROWEST <= integer <= 8 or offset > 8:
        raise _strange()
    if shape.version >= (1, 15):
        source.take(1)  # compression, a byte
    else:
        source.integer(shape)  # compression, a level
    before = source.taken()
    for _ in _MADE:
        source.integer(shape)
    source.taken()
    for _ in range(3):
        source.text(shape)  # database, versions of server and pg_dump
    made = b"".join(b"\0" + number.to_bytes(integer, "little") for number in _MADE)
    return shape, before + made + source.taken()


def _dump_id(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _strange()
    return int(text)


def _strange() -> SourceError:
    return SourceError(
        "pg_dump wrote an archive this version does not know",
        hint="Use client programs of PostgreSQL 13 to 18, or a newer backupd.",
    )


def with_definition(entry: Entry, shape: Shape, dump_id: int, definition: str) -> bytes:
    """Return the raw entry with another definition, under another dump id."""
    changed = rewritten(entry, shape, definition=definition, owner=entry.owner, tablespace=entry.tablespace)
    return _integer(dump_id, shape) + changed[1 + shape.integer :]


def renumbered(raw: bytes, shape: Shape, at: int, dump_id: int, dependencies: Iterable[int]) -> bytes:
    """Return a raw entry under another dump id, with other dependencies; `at` is where they stand in it."""
    texts = [_encoded(str(needed)) for needed in dependencies]
    needs = b"".join(_integer(len(text), shape) + text for text in texts)
    # Behind them stand the absent text that ends them, and the offset of the entry's data.
    end = len(raw) - (1 + shape.integer) - (1 + shape.offset)
    return _integer(dump_id, shape) + raw[1 + shape.integer : at] + needs + raw[end:]


def rewritten(entry: Entry, shape: Shape, *, definition: str, owner: str, tablespace: str) -> bytes:
    """Return the raw entry with another definition, owner and tablespace."""
    pieces: list[bytes] = []
    position = 0
    for at, old, new in (
        (entry.definition_at, entry.definition, definition),
        (entry.tablespace_at, entry.tablespace, tablespace),
        (entry.owner_at, entry.owner, owner),
    ):
        if old != new:
            text = _encoded(new)
            pieces += [entry.raw[position:at], _integer(len(text), shape), text]
            position = at + 1 + shape.integer + len(_encoded(old))
    return b"".join([*pieces, entry.raw[position:]])


def _integer(value: int, shape: Shape) -> bytes:
    return bytes([0]) + value.to_bytes(shape.integer, "little")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def pack_entry(ordinal: int, raw: bytes) -> bytes:
    """Encode an entry for a `ddl` file."""
    return _PLACE.pack(ordinal, len(raw)) + raw


def unpack_entries(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield ordinals and raw entries of a `ddl` file.

    Raises DamageError when it is cut.
    """
    position = 0
    while position < len(data):
        if position + _PLACE.size > len(data):
            raise DamageError("a 'ddl' file is cut", hint="Run `backupd verify --read-data all`.")
        ordinal, length = _PLACE.unpack_from(data, position)
        position += _PLACE.size
        raw = data[position : position + length]
        if len(raw) != length:
            raise DamageError("a 'ddl' file is cut", hint="Run `backupd verify --read-data all`.")
        yield ordinal, raw
        position += length


def join_archive(head: bytes, entries: Iterable[tuple[int, bytes]]) -> bytes:
    """Make an archive of these entries, which pg_restore can read; all entries give the original, byte for byte.

    Raises DamageError for a head that is none.
    """
    if len(head) < _SHAPE_END or not head.startswith(_MAGIC) or not _NARROWEST <= head[8] <= 8:
        raise DamageError("a 'ddl-head' file is no beginning of an archive", hint="Run `backupd verify`.")
    ordered = sorted(entries, key=lambda entry: entry[0])
    count = bytes([0]) + len(ordered).to_bytes(head[8], "little")
    return b"".join([head, count, *(raw for _, raw in ordered)])


def divide_by_needs(head: bytes, files: Iterable[bytes]) -> tuple[list[bytes], list[Entry]]:
    """Divide the entries of `ddl` files into those that have all that they depend on, as one file, and the others.

    Of a whole schema these are none: pg_dump lists as dependencies only what is in the archive. A view over several
    tenants' schemas belongs to none of them, and cannot be made without one of them. Raises what `join_archive` and
    `ArchiveReader` do.
    """
    archive = join_archive(head, [entry for file in files for entry in unpack_entries(file)])
    entries = list(ArchiveReader(io.BytesIO(archive).read).entries())
    left: list[Entry] = []
    while True:
        known = {entry.dump_id for entry in entries}
        lacking = [entry for entry in entries if not known.issuperset(entry.dependencies)]
        if not lacking:
            return [b"".join(pack_entry(entry.ordinal, entry.raw) for entry in entries)], left
        left += lacking
        gone = {entry.ordinal for entry in lacking}
        entries = [entry for entry in entries if entry.ordinal not in gone]
