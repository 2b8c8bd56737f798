"""Sections of packs, fetched whole and opened ahead of their readers by a few threads that all readers share.

Every section is compared with the SHA-256 in its pack's header before anything of it is used. Sections that lie side by
side in a pack are fetched with one request; those that were used last are kept in memory. Who reads many tenants'
manifests and then their rows has all that fits held in a temporary file meanwhile: each section is then fetched once,
however the days' changes are spread over the packs.
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
GAP = 32 << 10
"""Bytes between two sections that are worth fetching with them: a request of its own costs a round trip."""
_LARGE = 16 << 20
"""Bytes from which a section lies in a temporary file while it is open; our own writer makes none as large."""
_HELD = 256 << 20
"""Bytes that the temporary file for sections that will be wanted takes at most."""
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


_Fetched: TypeAlias = "bytes | _LargeSection | _HeldSections"
"""Sections that lie side by side, or a large one; or where they are held."""
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
        self,
        store: StoreView,
        key_of: Callable[[SectionRow], SegmentKey],
        *,
        threads: int = 6,
        kept: int = 8 << 20,
        gap: int = 0,
    ) -> None:
        """Start the pool. Its threads only wait for the store, so their number is that of requests in flight.

        `key_of` returns a section's key, or raises why there is none. Gaps of up to `gap` bytes are fetched along,
        with the sections that nobody wants there: where others' are to stay unread, there must be none.
        """
        self._store = store
        self._key_of = key_of
        self._gap = gap
        self._pool = ThreadPoolExecutor(threads, "sections")
        self._held = _HeldSections()
        self._groups: dict[_Place, _Group] = {}
        """The groups that are held once they are fetched, by each of their sections' places."""
        self._kept = kept
        self._lock = threading.Lock()
        self._coming: OrderedDict[_Place, ComingSection] = OrderedDict()
        self._weight = 0

    def close(self) -> None:
        """End the threads; requests that were not begun are dropped, so nobody may be waiting for them."""
        self._pool.shutdown(cancel_futures=True)
        self._held.close()
        self._coming.clear()

    def hold(self, first: Iterable[Section], later: Iterable[Section]) -> None:
        """Hold these sections from when one of them or of its neighbours is fetched, as far as there is room.

        Those that are wanted `first` bring their neighbours along, so that these need no request of their own `later`.
        """
        soon = {section.place: section for section in first}
        every = soon | {section.place: section for section in later}
        groups = [_Group(group) for group in _side_by_side(every.values(), self._gap) if group[0].row.length <= _LARGE]
        size = 0
        for group in sorted(groups, key=lambda group: soon.keys().isdisjoint(one.place for one in group.sections)):
            size += group.size
            if size > _HELD:
                return
            self._groups |= dict.fromkeys((section.place for section in group.sections), group)

    def request(self, sections: Sequence[Section]) -> list[ComingSection]:
        """Return each of these sections as it arrives.

        Raises nothing itself; `opened` raises DamageError naming the section, the errors of its key, and the store's.
        """
        with self._lock:
            places = [section.place for section in sections]
            missing = {
                place: section for place, section in zip(places, sections, strict=True) if place not in self._coming
            }
            apart = []
            for place, section in missing.items():
                held = self._groups.get(place)
                if held is None:
                    apart.append(section)
                else:
                    held.fetched = held.fetched or self._pool.submit(self._fetch_held, held)
                    self._expect([section], held.fetched, held.sections[0].offset)
            for group in _side_by_side(apart, self._gap):
                self._expect(group, self._pool.submit(self._fetch, group), group[0].offset)
            wanted = [self._coming[place] for place in places]
            for place in places:
                self._coming.move_to_end(place)
            while self._weight > self._kept and self._coming:
                self._weight -= self._coming.popitem(last=False)[1].weight
        return wanted

    def _expect(self, sections: Iterable[Section], fetched: Future[_Fetched], start: int) -> None:
        for section in sections:
            found = ComingSection(section, fetched, section.offset - start, self._opened)
            self._coming[section.place] = found
            self._weight += found.weight

    def _fetch(self, group: Sequence[Section]) -> _Fetched:
        if group[0].row.length > _LARGE:
            return _LargeSection(self._store, group[0])
        return fetch_neighbours(self._store, group)

    def _fetch_held(self, group: _Group) -> _Fetched:
        data = fetch_neighbours(self._store, group.sections)
        if self._held.put(group.sections, data):
            return self._held
        with self._lock:
            for section in group.sections:
                del self._groups[section.place]
        return data

    def _opened(self, section: Section, fetched: Future[_Fetched], at: int) -> OpenSection:
        row = section.row
        try:
            found = fetched.result()
            if not isinstance(found, _LargeSection):
                data = found[at : at + row.length] if isinstance(found, bytes) else found.get(section)
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


def _side_by_side(sections: Iterable[Section], most: int) -> Iterator[list[Section]]:
    group: list[Section] = []
    size = end = 0
    for section in sorted(sections, key=lambda section: (section.pack.name, section.at)):
        length, gap = section.row.length, section.offset - end
        follows = group and section.pack.name == group[-1].pack.name and 0 <= gap <= most
        if group and (not follows or size + gap + length > _REQUEST):
            yield group
            group, size, gap = [], 0, 0
        group.append(section)
        size += length + (gap if len(group) > 1 else 0)
        end = section.offset + length
    if group:
        yield group


def _in_memory(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


class _Group:
    """Sections that lie side by side, and are fetched and held together."""

    __slots__ = ("fetched", "sections", "size")

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections = sections
        self.size = sections[-1].offset + sections[-1].row.length - sections[0].offset
        self.fetched: Future[_Fetched] | None = None


class _HeldSections:
    """Sections that will be wanted, in a temporary file, as sealed there as on the store.

    For several threads at once; where there is no room, nothing is held.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[_Place, int] = {}
        self._file: IO[bytes] | None = None
        self._size = 0

    def put(self, group: Sequence[Section], data: bytes) -> bool:
        """Hold the bytes of sections that lie side by side; returns whether there was room."""
        with self._lock:
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(prefix="backupd-", buffering=0)  # noqa: SIM115 - see `close`
                write_all(self._file.fileno(), data, self._size)
            except OSError:
                return False
            start = self._size - group[0].offset
            self._places |= {section.place: start + section.offset for section in group}
            self._size += len(data)
            return True

    def get(self, section: Section) -> bytes:
        """Return the bytes of a section that is held, to be compared with its hash; fewer where they cannot be read."""
        with suppress(OSError):
            if self._file is not None:
                return os.pread(self._file.fileno(), section.row.length, self._places[section.place])
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
