"""Sections of packs, fetched whole and opened ahead of their readers by a few threads that all readers share.

Every section is compared with the SHA-256 in its pack's header before anything of it is used. Sections that lie side by
side in a pack are fetched with one request; those that were used last are kept in memory.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import IO, NamedTuple, TypeAlias

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError, ObjectMissingError, SpoolFullError
from backupd.repository.packs import Section, copy_section, fetch_neighbours, fetch_section
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


_Fetched: TypeAlias = "bytes | _LargeSection"
"""Sections that lie side by side, or a large one."""
_Opener: TypeAlias = "Callable[[Section, Future[_Fetched], int], OpenSection]"


class ComingSection:
    """A section that is being fetched, with its neighbours; it is compared and opened by who asks for it first."""

    __slots__ = ("_at", "_fetched", "_open", "_opened", "section", "weight")

    def __init__(self, section: Section, fetched: Future[_Fetched], at: int, opener: _Opener) -> None:
        """Say that the section begins `at` so many bytes in what is `fetched`."""
        self.section = section
        self.weight = weight_of(section)
        """The bytes it takes in memory, roughly."""
        self._at = at
        self._fetched: Future[_Fetched] | None = fetched
        self._open = opener
        self._opened: OpenSection | None = None

    def opened(self) -> OpenSection:
        """Wait for the section. Raises the error of fetching or opening it."""
        fetched, opened = self._fetched, self._opened
        if opened is None and fetched is not None:
            # Not on the threads that fetch: hashing lets go of the interpreter's lock for every section, and they
            # would wait for it as often. Of two readers that come at once, both open it.
            opened = self._opened = self._open(self.section, fetched, self._at)
            self._fetched = None
        assert opened is not None  # noqa: S101 - it was opened before it let go of what was fetched
        return opened


_Place = tuple[str, int]


class Sections:
    """The sections that were used last, up to `kept` bytes; it fetches others, and compares and opens them."""

    def __init__(
        self, store: StoreView, key_of: Callable[[SectionRow], SegmentKey], *, threads: int = 6, kept: int = 8 << 20
    ) -> None:
        """Start the pool. Its threads only wait for the store, so their number is that of requests in flight.

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
                fetched = self._pool.submit(self._fetch, group)
                start = group[0].offset
                for section in group:
                    found = ComingSection(section, fetched, section.offset - start, self._opened)
                    self._coming[section.place] = found
                    self._weight += found.weight
            wanted = [self._coming[place] for place in places]
            for place in places:
                self._coming.move_to_end(place)
            while self._weight > self._kept and self._coming:
                self._weight -= self._coming.popitem(last=False)[1].weight
        return wanted

    def _fetch(self, group: Sequence[Section]) -> _Fetched:
        if group[0].row.length > _LARGE:
            return _LargeSection(self._store, group[0])
        held = self._held.get(group)
        if held:
            return held
        data = fetch_neighbours(self._store, group)
        if self.holding:
            self._held.put(group, data)
        return data

    def _opened(self, section: Section, fetched: Future[_Fetched], at: int) -> OpenSection:
        row = section.row
        try:
            found = fetched.result()
            if isinstance(found, bytes):
                data = found[at : at + row.length]
                if hashlib.sha256(data).digest() != row.sha256:
                    data = fetch_section(self._store, section)
                read_at = _in_memory(data)
            else:
                read_at = found.read_at
        except ObjectMissingError as error:
            raise DamageError(
                f"{error.message}, and no ledger says why",
                hint="A purge may have begun since: then try again. Otherwise fetch the pack from another store.",
            ) from error
        key = self._key_of(row).key
        return OpenSection(SectionReader(read_at, row.length, key=key, context=section.context, where=section.where))


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

    They are as sealed there as on the store, and compared with their hashes like those. For several threads at once;
    where there is no room, nothing is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[_Place, int] = {}
        self._file: IO[bytes] | None = None
        self._size = 0

    def put(self, group: Sequence[Section], data: bytes) -> None:
        """Hold the bytes of sections that lie side by side."""
        with self._lock:
            if self._size + len(data) > _HELD:
                return
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="backupd-", buffering=0)  # noqa: SIM115 - see `close`
                write_all(self._file.fileno(), data, self._size)
            except OSError:
                self._size = _HELD
                return
            start = group[0].offset
            self._places |= {section.place: self._size + section.offset - start for section in group}
            self._size += len(data)

    def get(self, group: Sequence[Section]) -> bytes:
        """Return the bytes of these sections if all are held, one behind the other; otherwise none."""
        first = self._places.get(group[0].place)
        if self._file is None or first is None:
            return b""
        start = group[0].offset
        if any(self._places.get(section.place) != first + section.offset - start for section in group):
            return b""
        length = group[-1].offset + group[-1].row.length - start
        with suppress(OSError):
            return os.pread(self._file.fileno(), length, first)
        return b""

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
