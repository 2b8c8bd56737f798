"""End a run's segments: each gets a manifest, or keeps the one it has, and the record names what it needs."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from backupd.errors import DamageError
from backupd.model.ids import Pseudonym
from backupd.model.manifest import Entry, FileEntry, RowsEntry
from backupd.model.tenancy import STRUCTURE
from backupd.operations.backup.generation import digest
from backupd.operations.backup.needed import SectionsNeeded, remembered
from backupd.repository.manifests import encode_entries
from backupd.rows.protocol import Closing, MeetTask, Setup

if TYPE_CHECKING:
    from backupd.operations.backup.collect import Collector, RunTarget
    from backupd.operations.backup.entries import SegmentEntries
    from backupd.operations.backup.tasks import TableTask
    from backupd.repository.state.extents import RememberedSnapshot
    from backupd.repository.state.index import Index, IndexedSection

_PAGE = 512
"""Segments for which the index is asked together."""
_BEHIND_ALL = Pseudonym(chr(0x10FFFF))
"""Text that stands behind every pseudonym."""


class _Wanted(NamedTuple):
    """A segment's manifest as it has to be."""

    manifest: bytes
    says: bytes
    """The keyed digest of that."""
    numbers: set[int]
    """The sections that it refers to."""


class SegmentClosing:
    """The last step of reading: from what was read to manifests, and from these to the sections of the snapshot."""

    def __init__(
        self,
        contents: SegmentEntries,
        collector: Collector,
        target: RunTarget,
        setup: Setup,
        unchanged: RememberedSnapshot | None = None,
    ) -> None:
        """`setup` is that of any worker.

        `unchanged` is what the last snapshot needs of everything but structure, where all of that is as it was.
        """
        self._contents = contents
        self._unchanged = unchanged
        self._collector = collector
        self._target = target
        self._workers = setup.workers
        self._last = setup.last_section
        """The last section of earlier runs; the index may know some of this run by now."""
        self._needs: dict[Pseudonym, array[int]] = {}

    def unmet(self) -> Iterator[Collection[int]]:
        """Yield the tasks that would read some of a segment, for each that needs a manifest that no worker can write.

        Its rows of one part were all deleted, say, or a table was dropped, and all others were taken over unread: whose
        they are, nobody in this run knows, as a node keeps no names. May be called once, before `closings`.
        """
        contents, collector = self._contents, self._collector
        if self._unchanged is not None or collector.spans.segments <= collector.met.keys() | contents.named.keys():
            return
        known = _KnownManifests(self._target.index)
        for segment in sorted(collector.spans.segments):
            read = collector.spans.of(segment)
            if segment in collector.met or segment in contents.named:
                continue
            entries = contents.entries(segment, read)
            if entries and not self._keeps(segment, known, self._wanted(entries)):
                yield [task for task, _ in read]
        collector.spans.rewind()

    def closings(self) -> Iterator[tuple[int, Closing]]:
        """Yield what the workers have to end, each with the worker's number. May be called once.

        Raises DamageError where rows that were not read are not what the index remembers of them.
        """
        contents, collector = self._contents, self._collector
        known = _KnownManifests(self._target.index)
        segments: Iterable[Pseudonym] = collector.spans.segments | contents.named.keys()
        if self._unchanged is not None:
            segments = filter(self._is_structure, segments)
        for segment in sorted(segments):
            read = collector.spans.of(segment)
            if segment in self._needs:
                continue
            entries = contents.entries(segment, read)
            if entries:
                wanted = self._wanted(entries)
                if not self._keeps(segment, known, wanted):
                    yield from self._closing(segment, wanted)

    def _wanted(self, entries: Sequence[Entry]) -> _Wanted:
        manifest = b"".join(encode_entries(entries))
        return _Wanted(manifest, digest(self._target.generation.chunk_key, manifest), _referred(entries))

    def _keeps(self, segment: Pseudonym, manifests: _KnownManifests, wanted: _Wanted) -> bool:
        """Check whether the manifest that a segment has will do, and have it needed if so."""
        known = manifests.of(segment)
        if known is None or known[1] != wanted.says or any(number > self._last for number in wanted.numbers):
            return False
        self._needs[segment] = array("q", [known[0], *(wanted.numbers - {known[0]})])
        return True

    def _closing(self, segment: Pseudonym, wanted: _Wanted) -> Iterator[tuple[int, Closing]]:
        manifest, says, numbers = wanted
        added = {(number - self._last - 1) % self._workers for number in numbers if number > self._last}
        self._needs[segment] = array("q", [0, *numbers])
        self._collector.digests[segment] = says
        owner = max(added) if added else self._collector.met.get(segment)
        if owner is None and segment not in self._contents.named:
            raise DamageError(
                "the node's index remembers other rows of a part that was not read than it holds",
                hint="`backupd backup --audit` reads everything, and compares.",
            )
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
        segments = sorted(self._needs)
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


def meetings(unmet: Iterable[Collection[int]], tables: Iterable[TableTask]) -> list[MeetTask]:
    """Return tasks of which every segment has one that would read some of it: few, small ones without joins if can be.

    `unmet` has each segment's tasks, of which at least one is a table's.
    """
    by_number = {task.copy.task: task for task in tables}
    found: dict[int, MeetTask] = {}
    for numbers in unmet:
        if found.keys().isdisjoint(numbers):
            some = [by_number[number] for number in numbers if number in by_number]
            best = min(some, key=lambda task: (len(task.joined), task.blocks, task.copy.task))
            found[best.copy.task] = MeetTask(best.copy)
    return list(found.values())


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
