"""Comparison of schema archives, entry by entry, and of the content of archives of large objects.

An archive and the dump of what was loaded from it list the same objects, but need not describe them in the same words:
PostgreSQL prints some expressions differently once they were loaded, and whose an extension is, no dump says. So words
are compared between two databases that were loaded once, and with the archive itself only the list of objects.

Large objects are compared by digests, as the numbers in an archive differ from dump to dump. The layout of their data
is that of `_StartLO` to `_EndLOs` in PostgreSQL's pg_backup_custom.c, uncompressed.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from difflib import ndiff
from typing import NamedTuple

from backupd.errors import SourceError
from backupd.postgres.schema.archive import ArchiveReader, join_archive, unpack_entries
from backupd.postgres.schema.statements import renamed

_OWNED = frozenset(
    {
        "AGGREGATE", "COLLATION", "CONVERSION", "DATABASE", "DOMAIN", "EVENT TRIGGER", "FOREIGN DATA WRAPPER",
        "FOREIGN TABLE", "FUNCTION", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE", "PROCEDURE", "PUBLICATION", "SCHEMA", "SEQUENCE", "SERVER", "STATISTICS", "SUBSCRIPTION",
        "TABLE", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW",
    }
)  # fmt: skip
"""Kinds that pg_restore gives their owner (`_printTocEntry` in pg_backup_archiver.c); others have that of something
else, maybe of an extension."""


class _Named(NamedTuple):
    kind: str
    namespace: str
    tag: str


class _Stated(NamedTuple):
    owner: str
    definition: str


@dataclass(frozen=True, slots=True)
class ComparedSchema:
    """A schema as its archive describes it. It holds names, which are data."""

    entries: dict[_Named, Counter[_Stated]] = field(repr=False)
    """Definitions and owners by name; a few kinds have several of one name."""


class Difference(NamedTuple):
    """One entry that differs between the two archives."""

    kind: str
    """Kind of object, as archives call it: `FK CONSTRAINT`, `INDEX`."""
    how: str
    """One of `missing`, `added` or `changed`."""
    namespace: str
    tag: str

    def __repr__(self) -> str:
        return f"Difference({self.kind}, {self.how})"

    def __str__(self) -> str:
        """Return the object by name, which is data."""
        return " ".join(part for part in (self.kind, self.namespace, self.tag) if part)


def read_schema(head: bytes, files: Iterable[bytes]) -> ComparedSchema:
    """Read the schema in a `ddl-head` and `ddl` files.

    Raises DamageError, SourceError for files that make no archive.
    """
    archive = join_archive(head, [entry for file in files for entry in unpack_entries(file)])
    found: dict[_Named, Counter[_Stated]] = {}
    for entry in ArchiveReader(io.BytesIO(archive).read).entries():
        tag, definition = entry.tag, entry.definition
        if entry.description.startswith("DATABASE") or tag.startswith("DATABASE "):
            # What a database is called is no part of its schema: a copy of it has another name.
            tag, definition = "DATABASE", renamed(definition, "database")
        name = _Named(entry.description, entry.namespace, tag)
        found.setdefault(name, Counter())[_Stated(entry.owner, definition)] += 1
    return ComparedSchema(found)


def outline(schema: ComparedSchema) -> ComparedSchema:
    """Return what any load of the schema must have: every object by kind, schema and name, with its owner.

    Extensions are left out: a new server has some of its own, which no dump of it lists. The catalogs list them.
    """
    return ComparedSchema(
        {
            name: Counter(_Stated(one.owner if name.kind in _OWNED else "", "") for one in stated.elements())
            for name, stated in schema.entries.items()
            if name.kind != "EXTENSION" and not (name.kind == "COMMENT" and name.tag.startswith("EXTENSION "))
        }
    )


def differences(expected: ComparedSchema, found: ComparedSchema) -> Counter[Difference]:
    """Count the entries that differ, by name."""
    result: Counter[Difference] = Counter()
    for name in expected.entries.keys() | found.entries.keys():
        one, other = expected.entries.get(name, Counter()), found.entries.get(name, Counter())
        more = other.total() - one.total()
        result[Difference(name.kind, "added" if more > 0 else "missing", name.namespace, name.tag)] += abs(more)
        if not more:
            result[Difference(name.kind, "changed", name.namespace, name.tag)] += (one - other).total()
    return +result


_SECRETIVE = frozenset({"USER MAPPING", "SERVER", "SUBSCRIPTION", "FOREIGN TABLE", "FOREIGN DATA WRAPPER"})
"""Kinds whose definitions may hold passwords."""
_SHOWN = 12
"""Lines of two definitions that are shown of one object."""
_WIDE = 300
"""Characters of a line that are shown."""


def changed_lines(one: Difference, expected: ComparedSchema, found: ComparedSchema) -> list[str]:
    """Return the lines of an object's owner and definition that differ, `- ` before those expected, `+ ` before others.

    None where there is nothing to compare, or where they may hold a password.
    """
    name = _Named(one.kind, one.namespace, one.tag)
    wanted, there = (schema.entries.get(name, Counter[_Stated]()) for schema in (expected, found))
    if one.how != "changed" or one.kind in _SECRETIVE:
        return []
    before, after = (_as_lines(left) for left in (wanted - there, there - wanted))
    changes = [line for line in ndiff(before, after) if line[:2] in {"- ", "+ "}]
    return [line[:_WIDE] for line in changes[:_SHOWN]]


def _as_lines(stated: Counter[_Stated]) -> list[str]:
    return [
        line
        for one in sorted(stated.elements())
        for line in (f"owner {one.owner}", *one.definition.splitlines())
        if line
    ]


_OBJECTS = 3
"""The byte that begins a block of large objects."""
_METADATA = "BLOB METADATA"
"""Kind of an entry by which pg_dump 17 and newer make objects of one owner: its definition lists their numbers."""
_FRAME = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOBS", "BLOB DATA", "LARGE OBJECTS"})
"""Kinds of entries that describe no large object."""


def object_digests(read: Callable[[int], bytes]) -> Counter[str]:
    """Return one text for each object's content, and one for each of its owner, privileges and comment, with counts.

    Raises SourceError for anything but an archive of large objects.
    """
    reader = ArchiveReader(read)
    found: Counter[str] = Counter()
    for entry in reader.entries():
        if entry.description == _METADATA:
            found.update(f"{number} {entry.owner}" for number in entry.definition.split())
        elif entry.description not in _FRAME:
            found[f"{entry.description} {entry.tag} {entry.owner} {entry.definition}"] += 1
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
