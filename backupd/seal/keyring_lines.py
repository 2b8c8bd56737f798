"""The index and the sealed lines of a keyring, FORMAT.md §5, in little memory or elsewhere."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Protocol, overload

from backupd.model.ids import ClassTag, DatabaseTag, Pseudonym, SegmentTags, TenantTag

ENTRY: Final = struct.Struct("<16s16sHH16s")
"""Of the index: pseudonym, tenant's tag, places of the class's and the database's, start of the sealed line's hash."""

Listed = tuple[Pseudonym, SegmentTags]
"""A segment that a keyring was made for, and whose it is."""


class SlicedBytes(Protocol):
    """Bytes that may lie elsewhere than in memory, and are given out by slices."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...


class KeyringIndex(Sequence[Listed]):
    """The index of a keyring: every segment by its place, also shredded ones.

    It stays as it stands in the file, 52 bytes for a segment, and is taken apart where it is asked: as values it would
    take ten times as much.
    """

    __slots__ = ("_classes", "_databases", "_table")

    def __init__(self, table: SlicedBytes, classes: Sequence[str], databases: Sequence[str]) -> None:
        """Take a table whose length and places were checked."""
        self._table = table
        self._classes = tuple(map(ClassTag, classes))
        self._databases = tuple(map(DatabaseTag, databases))

    def __len__(self) -> int:
        return len(self._table) // ENTRY.size

    @overload
    def __getitem__(self, place: int) -> Listed: ...
    @overload
    def __getitem__(self, place: slice) -> list[Listed]: ...
    def __getitem__(self, place: int | slice) -> Listed | list[Listed]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError("a keyring has no such place")
        start = place % len(self) * ENTRY.size
        return self._listed(ENTRY.unpack(self._table[start : start + ENTRY.size]))

    def __iter__(self) -> Iterator[Listed]:
        return map(self._listed, ENTRY.iter_unpack(self._table[:]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(self._table[:])

    @property
    def size(self) -> int:
        """Bytes of the table."""
        return len(self._table)

    def moved(self, keep: Callable[[bytes], SlicedBytes]) -> KeyringIndex:
        """Return the same index, whose table lies where `keep` puts it."""
        return KeyringIndex(keep(self._table[:]), self._classes, self._databases)

    def _listed(self, values: tuple[bytes, bytes, int, int, bytes]) -> Listed:
        segment, tenant, data_class, database, _ = values
        tags = SegmentTags(TenantTag(tenant.hex()), self._classes[data_class], self._databases[database])
        return Pseudonym(segment.hex()), tags


class SealedLines(Mapping[int, bytes]):
    """The sealed lines of a keyring by their places, one behind the other in memory."""

    __slots__ = ("_data", "_ends", "_places")

    def __init__(self, lines: Iterable[tuple[int, bytes]]) -> None:
        """Take lines in the order of their places."""
        data = bytearray()
        self._places, self._ends = array("I"), array("I", [0])
        for place, sealed in lines:
            data += sealed
            self._places.append(place)
            self._ends.append(len(data))
        self._data: SlicedBytes = bytes(data)

    @property
    def size(self) -> int:
        """Bytes of all lines."""
        return len(self._data)

    def moved(self, keep: Callable[[bytes], SlicedBytes]) -> SealedLines:
        """Return the same lines, where `keep` puts them."""
        other = SealedLines(())
        other._places, other._ends, other._data = self._places, self._ends, keep(self._data[:])
        return other

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __getitem__(self, place: int) -> bytes:
        at = self._at(place)
        return self._data[self._ends[at] : self._ends[at + 1]]

    def __contains__(self, place: object) -> bool:
        try:
            return isinstance(place, int) and self._at(place) >= 0
        except KeyError:
            return False

    def _at(self, place: int) -> int:
        at = bisect_left(self._places, place)
        if at == len(self._places) or self._places[at] != place:
            raise KeyError(place)
        return at
