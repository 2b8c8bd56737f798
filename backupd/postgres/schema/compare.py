"""Comparison of two schema archives, entry by entry, and of the content of archives of large objects.

Large objects are compared by digests, as the numbers in an archive differ from dump to dump. The layout of their data
is that of `_StartLO` to `_EndLOs` in PostgreSQL's pg_backup_custom.c, uncompressed.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from backupd.errors import SourceError
from backupd.postgres.schema.archive import ArchiveReader, join_archive, unpack_entries
from backupd.postgres.schema.statements import renamed

_DUMPED_BY = re.compile(rb"\0(\d+)[\x20-\x7e]*\Z")
"""The last text of an archive's head: the version of the pg_dump that wrote it."""
_NOT_VALID = (" NOT VALID", " NOT ENFORCED")


class _Named(NamedTuple):
    kind: str
    namespace: str
    tag: str


@dataclass(frozen=True, slots=True)
class ComparedSchema:
    """A schema as its archive describes it. It holds names, which are data."""

    program: int
    """Major version of the pg_dump that wrote it; 0 when the head does not say."""
    entries: dict[_Named, Counter[str]] = field(repr=False)
    """Definitions and owners by name; a few kinds have several of one name."""


class Difference(NamedTuple):
    """One entry that differs between the two archives."""

    kind: str
    """Kind of object, as archives call it: `FK CONSTRAINT`, `INDEX`."""
    how: str
    """One of `missing`, `added` or `changed`."""


def read_schema(head: bytes, files: Iterable[bytes]) -> ComparedSchema:
    """Read the schema in a `ddl-head` and `ddl` files.

    Raises DamageError, SourceError for files that make no archive.
    """
    archive = join_archive(head, [entry for file in files for entry in unpack_entries(file)])
    found: dict[_Named, Counter[str]] = {}
    for entry in ArchiveReader(io.BytesIO(archive).read).entries():
        tag, definition = entry.tag, entry.definition
        if entry.description.startswith("DATABASE") or tag.startswith("DATABASE "):
            # What a database is called is no part of its schema: a copy of it has another name.
            tag, definition = "DATABASE", renamed(definition, "database")
        name = _Named(entry.description, entry.namespace, tag)
        found.setdefault(name, Counter())[f"{entry.owner}\0{definition}"] += 1
    version = _DUMPED_BY.search(head)
    return ComparedSchema(int(version[1]) if version else 0, found)


def differences(expected: ComparedSchema, found: ComparedSchema) -> list[Difference]:
    """List the entries that differ; definitions count only where the same major version of pg_dump wrote both."""
    wording = expected.program == found.program
    result: list[Difference] = []
    for name in expected.entries.keys() | found.entries.keys():
        one, other = expected.entries.get(name, Counter()), found.entries.get(name, Counter())
        more = other.total() - one.total()
        result += [Difference(name.kind, "added" if more > 0 else "missing")] * abs(more)
        if wording and not more:
            result += [Difference(name.kind, "changed")] * (one - other).total()
    return result


def not_valid(schema: ComparedSchema) -> int:
    """Count at most how many constraints were never validated, as the schema itself says."""
    return sum(
        count * sum(map(definition.count, _NOT_VALID))
        for definitions in schema.entries.values()
        for definition, count in definitions.items()
    )


_OBJECTS = 3
"""The byte that begins a block of large objects."""
_FRAME = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOBS", "BLOB DATA", "LARGE OBJECTS"})
"""Kinds of entries that describe no large object."""


def object_digests(read: Callable[[int], bytes]) -> Counter[str]:
    """Return one text for each object's content, and one for each of its owner, privileges and comment, with counts.

    Raises SourceError for anything but an archive of large objects.
    """
    reader = ArchiveReader(read)
    found = Counter(
        f"{entry.description} {entry.tag} {entry.owner} {entry.definition}"
        for entry in reader.entries()
        if entry.description not in _FRAME and not entry.description.startswith("BLOB METADATA")
    )
    width = reader.shape.integer
    while kind := read(1):
        if kind[0] != _OBJECTS:
            raise _strange()
        _integer(read, width)
        while number := _integer(read, width):
            found[f"{number} {_digest(read, width)}"] += 1
    return found


def reader_of(pieces: Iterable[bytes | memoryview]) -> Callable[[int], bytes]:
    """Return a function that reads from pieces as from a file: as many bytes as requested, fewer only at the end."""
    coming, held = iter(pieces), bytearray()

    def read(count: int) -> bytes:
        while len(held) < count:
            piece = next(coming, None)
            if piece is None:
                break
            held.extend(piece)
        data = bytes(held[:count])
        del held[:count]
        return data

    return read


def _digest(read: Callable[[int], bytes], width: int) -> str:
    digest = hashlib.sha256()
    while length := _integer(read, width):
        data = read(length)
        if len(data) != length:
            raise _strange()
        digest.update(data)
    return digest.hexdigest()


def _integer(read: Callable[[int], bytes], width: int) -> int:
    data = read(1 + width)
    if len(data) != 1 + width or data[0]:
        raise _strange()
    return int.from_bytes(data[1:], "little")


def _strange() -> SourceError:
    return SourceError(
        "an archive of large objects holds something else", hint="Use client programs of PostgreSQL 13 to 18."
    )
