"""Sections of packs, fetched whole and opened ahead of their readers by a few threads that all readers share.

Every section is compared with the SHA-256 in its pack's header before anything of it is used. Sections that lie side by
side in a pack are fetched with one request; those that were used last are kept in memory.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, NamedTuple

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError, ObjectMissingError, SpoolFullError
from backupd.repository.packs import Section, copy_section, fetch_neighbours
from backupd.seal.keyring import SegmentKey
from backupd.seal.pack import SectionRow
from backupd.seal.section_reader import SectionReader
from backupd.store.base import StoreView

_REQUEST = 2 << 20
"""Sealed bytes of neighbours requested at once: what an SSH channel has in flight at most."""
_LARGE = 16 << 20
"""Bytes from which a section lies in a temporary file while it is open; our own writer makes none as large."""
_HELD = 256 << 20
"""Bytes that the temporary file for sections that are wanted twice takes at most."""
_LARGE_WEIGHT = 8
"""A large section counts as a part of its size, so that few of them are open at once."""


class Slice(NamedTuple):
    """Bytes `start` to `end` of one block's content."""

    block: int
    start: int
    end: int


class OpenSection:
    """An opened section, whose chunks can be read. For several threads at once."""

    __slots__ = ("_starts", "reader", "where")

    def __init__(self, reader: SectionReader) -> None:
        self.reader = reader
        self.where = reader.where
        """The section's name for messages."""
        self._starts = [block.first_chunk for block in reader.blocks]

    def slice(self, first: int, number: int) -> Slice | None:
        """Return where the content of some chunks stands, if that is in one block; None otherwise."""
        at = bisect_right(self._starts, first) - 1
        if at < 0:
            return None
        block = self.reader.blocks[at]
        skipped = first - block.first_chunk
        end, lengths = skipped + number, block.chunk_lengths
        if end > len(lengths):
            return None
        start = sum(lengths[:skipped])
        return Slice(at, start, start + sum(lengths[skipped:end]))

    def slices(self, first: int, number: int) -> Iterator[Slice]:
        """Yield where the content of `number` chunks from chunk `first` on stands, block by block.

        Raises DamageError when the section does not have them.
        """
        end = first + number
        if end > self.reader.chunks:
            raise DamageError(f"'{self.where}' does not hold all the chunks that a manifest asks for")
        at = bisect_right(self._starts, first) - 1
        while first < end:
            block = self.reader.blocks[at]
            lengths, skipped = block.chunk_lengths, first - block.first_chunk
            here = min(end - block.first_chunk, len(lengths))
            if here > skipped:
                start = sum(lengths[:skipped])
                yield Slice(at, start, start + sum(lengths[skipped:here]))
                first = block.first_chunk + here
            at += 1


class ComingSection:
    """A section that is being fetched and opened, with its neighbours."""

    __slots__ = ("_group", "_place", "weight")

    def __init__(self, group: Future[list[OpenSection]], place: int, weight: int) -> None:
        self._group = group
        self._place = place
        self.weight = weight
        """The bytes it takes in memory, roughly."""

    def opened(self) -> OpenSection:
        """Wait for the section. Raises the error of fetching or opening it, or a neighbour that came with it."""
        return self._group.result()[self._place]


_Place = tuple[str, int]


class Sections:
    """The opened sections that were used last, up to `kept` bytes; it fetches and opens others."""

    def __init__(
        self, store: StoreView, key_of: Callable[[SectionRow], SegmentKey], *, threads: int = 6, kept: int = 8 << 20
    ) -> None:
        """Start the pool. Its threads mostly wait for the store, so their number is that of requests in flight.

        `key_of` returns a section's key, or raises why there is none.
        """
        self._store = store
        self._key_of = key_of
        self._pool = ThreadPoolExecutor(threads, "sections")
        self._held = _HeldSections()
        self.holding = False
        """Whether what is fetched now is wanted again soon, and held in a temporary file until then."""
        self._kept = kept
        self._lock = threading.Lock()
        self._coming: OrderedDict[_Place, ComingSection] = OrderedDict()
        self._weight = 0

    def close(self) -> None:
        """End the threads; requests that were not begun are dropped, so nobody may be waiting for them."""
        self._pool.shutdown(cancel_futures=True)
        self._held.close()
        self._coming.clear()

    def request(self, sections: Sequence[Section]) -> list[ComingSection]:
        """Return each of these sections as it arrives.

        Raises nothing itself; `opened` raises DamageError naming the section, the errors of its key, and the store's.
        """
        with self._lock:
            places = [section.place for section in sections]
            missing = {
                place: section for place, section in zip(places, sections, strict=True) if place not in self._coming
            }
            for group in _side_by_side(missing.values()):
                future = self._pool.submit(self._open, group)
                for number, section in enumerate(group):
                    found = ComingSection(future, number, weight_of(section))
                    self._coming[section.place] = found
                    self._weight += found.weight
            wanted = [self._coming[place] for place in places]
            for place in places:
                self._coming.move_to_end(place)
            while self._weight > self._kept and self._coming:
                self._weight -= self._coming.popitem(last=False)[1].weight
        return wanted

    def _open(self, group: Sequence[Section]) -> list[OpenSection]:
        try:
            if group[0].row.length > _LARGE:
                return [self._opened(section, _LargeSection(self._store, section).read_at) for section in group]
            found = self._held.get(group) or fetch_neighbours(self._store, group)
        except ObjectMissingError as error:
            raise DamageError(
                f"{error.message}, and no ledger says why",
                hint="A purge may have begun since: then try again. Otherwise fetch the pack from another store.",
            ) from error
        opened = [self._opened(section, _in_memory(data)) for section, data in zip(group, found, strict=True)]
        if self.holding:
            for section, data, one in zip(group, found, opened, strict=True):
                if one.reader.chunks:
                    self._held.put(section, data)
        return opened

    def _opened(self, section: Section, read_at: Callable[[int, int], bytes]) -> OpenSection:
        row = section.row
        return OpenSection(
            SectionReader(read_at, row.length, key=self._key_of(row).key, context=section.context, where=section.where)
        )


def weight_of(section: Section) -> int:
    """Return roughly how many bytes a section takes in memory while it is open."""
    length = section.row.length
    return 1024 + (length if length <= _LARGE else length // _LARGE_WEIGHT)


def _side_by_side(sections: Iterable[Section]) -> Iterator[list[Section]]:
    group: list[Section] = []
    size = end = 0
    for section in sorted(sections, key=lambda section: (section.pack.name, section.at)):
        length = section.row.length
        follows = group and section.pack.name == group[-1].pack.name and section.offset == end
        if group and (not follows or size + length > _REQUEST):
            yield group
            group, size = [], 0
        group.append(section)
        size += length
        end = section.offset + length
    if group:
        yield group


def _in_memory(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


class _HeldSections:
    """Sections that were fetched for their manifests, and whose rows are wanted next, in a temporary file.

    They are as sealed there as on the store. For several threads at once; where there is no room, nothing is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[_Place, int] = {}
        self._file: IO[bytes] | None = None
        self._size = 0

    def put(self, section: Section, data: bytes) -> None:
        """Hold a section that was compared with its hash."""
        with self._lock:
            if self._size + len(data) > _HELD or section.place in self._places:
                return
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="backupd-", buffering=0)  # noqa: SIM115 - see `close`
                write_all(self._file.fileno(), data, self._size)
            except OSError:
                self._size = _HELD
                return
            self._places[section.place] = self._size
            self._size += len(data)

    def get(self, group: Sequence[Section]) -> list[bytes]:
        """Return these sections if all of them are held; otherwise nothing."""
        if self._file is None or not all(section.place in self._places for section in group):
            return []
        descriptor = self._file.fileno()
        try:
            found = [os.pread(descriptor, section.row.length, self._places[section.place]) for section in group]
        except OSError:
            return []
        whole = all(len(data) == section.row.length for data, section in zip(found, group, strict=True))
        return found if whole else []

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _LargeSection:
    """A section in a temporary file, as sealed as it is on the store; the file is gone with this object."""

    def __init__(self, store: StoreView, section: Section) -> None:
        try:
            with tempfile.TemporaryFile(prefix="backupd-") as file:
                copy_section(store, section, file)
                file.flush()
                self._file = os.dup(file.fileno())
        except OSError as error:
            raise SpoolFullError(
                f"the folder for temporary files cannot be written: {os.strerror(error.errno or 0)}",
                hint="Make room there, or name another one with the environment variable TMPDIR.",
            ) from error
        weakref.finalize(self, os.close, self._file)

    def read_at(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._file, length, offset)
        except OSError as error:
            raise BackupdError(f"a temporary file cannot be read: {os.strerror(error.errno or 0)}") from error
