"""End a run's segments: each gets a manifest, or keeps the one it has, and the record names what it needs."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from backupd.model.ids import Pseudonym
from backupd.model.manifest import Entry, FileEntry, RowsEntry
from backupd.model.tenancy import STRUCTURE
from backupd.operations.backup.generation import digest
from backupd.operations.backup.needed import SectionsNeeded, remembered
from backupd.repository.manifests import encode_entries
from backupd.rows.protocol import Closing

if TYPE_CHECKING:
    from backupd.operations.backup.collect import Collector, RunTarget
    from backupd.operations.backup.entries import SegmentEntries
    from backupd.repository.state.extents import RememberedSnapshot
    from backupd.repository.state.index import Index, IndexedSection

_PAGE = 512
"""Segments for which the index is asked together."""
_BEHIND_ALL = Pseudonym(chr(0x10FFFF))
"""Text that stands behind every pseudonym."""


class UnmetSegmentError(Exception):
    """A segment is another than before, although nothing of it was read: who it belongs to is known to nobody here.

    All of a tenant's rows in one part were deleted, say, or a table was dropped, and the tenant's other rows were taken
    over unread.
    """


class SegmentClosing:
    """The last step of reading: from what was read to manifests, and from these to the sections of the snapshot."""

    def __init__(
        self,
        contents: SegmentEntries,
        collector: Collector,
        target: RunTarget,
        workers: int,
        unchanged: RememberedSnapshot | None = None,
    ) -> None:
        """`unchanged` is what the last snapshot needs of everything but structure, where all of that is as it was."""
        self._contents = contents
        self._unchanged = unchanged
        self._collector = collector
        self._target = target
        self._workers = workers
        self._last = target.index.last_number()
        """The last section of earlier runs; to be asked before anything of this run is published."""
        self._needs: dict[Pseudonym, array[int]] = {}
        self._known = _KnownManifests(target.index)

    def closings(self) -> Iterator[tuple[int, Closing]]:
        """Yield what the workers have to end, each with the worker's number. May be called once.

        Raises UnmetSegmentError.
        """
        contents, collector = self._contents, self._collector
        segments: Iterable[Pseudonym] = collector.spans.segments | contents.named.keys()
        if self._unchanged is not None:
            segments = filter(self._is_structure, segments)
        for segment in sorted(segments):
            read = collector.spans.of(segment)
            entries = contents.entries(segment, read)
            if entries:
                yield from self._closing(segment, entries)

    def _closing(self, segment: Pseudonym, entries: Sequence[Entry]) -> Iterator[tuple[int, Closing]]:
        manifest = b"".join(encode_entries(entries))
        says = digest(self._target.generation.chunk_key, manifest)
        numbers = _referred(entries)
        added = {(number - self._last - 1) % self._workers for number in numbers if number > self._last}
        known = self._known.of(segment)
        if known is not None and known[1] == says and not added:
            self._needs[segment] = array("q", [known[0], *(numbers - {known[0]})])
            return
        self._needs[segment] = array("q", [0, *numbers])
        self._collector.digests[segment] = says
        owner = max(added) if added else self._collector.met.get(segment)
        if owner is None and segment not in self._contents.named:
            raise UnmetSegmentError
        owner = owner or 0
        data_class, tenant = self._contents.named.get(segment, ("", None))
        yield owner, Closing(segment, manifest, data_class, tenant)
        for worker in added - {owner}:
            yield worker, Closing(segment, b"", data_class, tenant)

    def _is_structure(self, segment: Pseudonym) -> bool:
        data_class, _ = self._contents.named.get(segment, ("", None))
        return data_class == STRUCTURE

    def needed(self) -> tuple[SectionsNeeded, SectionsNeeded]:
        """Return what the snapshot needs, once all packs of the run are published: all but structure, and structure.

        Raises LookupError when a manifest refers to a section that was never published.
        """
        rows = SectionsNeeded() if self._unchanged is None else remembered(self._unchanged)
        structure = SectionsNeeded()
        segments = list(self._needs)
        for at in range(0, len(segments), _PAGE):
            page = segments[at : at + _PAGE]
            known = self._target.index.sections(page[0], page[-1])
            for segment in page:
                self._add(structure if self._is_structure(segment) else rows, segment, known.get(segment, {}))
        return rows, structure

    def _add(self, found: SectionsNeeded, segment: Pseudonym, rows: Mapping[int, IndexedSection]) -> None:
        numbers = self._needs[segment]
        found.segments += 1
        own = numbers[0] or self._collector.manifests[segment]
        for number in {own, *numbers[1:]}:
            row = rows[number]
            found.add(row.pack, row.place, row.length, manifest=number == own)


class _KnownManifests:
    """The manifests of earlier runs, asked for in the order of pseudonyms; the index is read page by page."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._page: dict[Pseudonym, tuple[int, bytes]] = {}
        self._last = Pseudonym("")
        """The segment up to which the page has every manifest."""

    def of(self, segment: Pseudonym) -> tuple[int, bytes] | None:
        if segment > self._last:
            self._page = self._index.manifests(segment, _PAGE)
            self._last = max(self._page) if len(self._page) == _PAGE else _BEHIND_ALL
        return self._page.get(segment)


def _referred(entries: Sequence[Entry]) -> set[int]:
    found: set[int] = set()
    for entry in entries:
        if isinstance(entry, RowsEntry | FileEntry):
            found.update(entry.runs[::3])
    return found
