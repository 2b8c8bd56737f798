"""What an archive of large objects holds, as values to compare: the numbers in it differ from dump to dump.

The layout of the data is that of `_StartLO` to `_EndLOs` in PostgreSQL's pg_backup_custom.c, uncompressed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable

from backupd.errors import SourceError
from backupd.postgres.schema.archive import ArchiveReader

_OBJECTS = 3
"""Begins a block of large objects."""
_FRAME = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOBS", "BLOB DATA", "LARGE OBJECTS"})
"""Entries that say nothing of an object itself."""


def object_digests(read: Callable[[int], bytes]) -> Counter[str]:
    """One text for each object's content, and one for each thing said of it: owner, privileges, comment.

    Raises SourceError for anything else than an archive of large objects.
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
    """Reads from pieces as from a file: as many bytes as asked for, fewer only at the end."""
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
