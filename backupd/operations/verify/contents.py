"""Compare, with an identity, what the newest snapshots' manifests refer to with what the manifests say of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, DamageError, ObjectMissingError
from backupd.model.ids import ClassTag, ObjectHash, ObjectName, Pseudonym, SnapshotName
from backupd.model.manifest import FileEntry, RowsEntry, TableEntry
from backupd.operations.verify.absences import Absence
from backupd.planning.selection import STRUCTURE
from backupd.planning.verify import Mismatch, ReadCandidate, choose
from backupd.repository import layout
from backupd.repository.content import Content, ContentReader, file_content, rows_content
from backupd.repository.manifests import read_entries
from backupd.repository.packs import reopened
from backupd.repository.sections import GAP, Sections
from backupd.repository.state.checked import CONTENT

if TYPE_CHECKING:
    from backupd.operations.verify.documents import Documents, RecordClaims
    from backupd.operations.verify.packs import SoundKeys
    from backupd.operations.verify.types import CheckedGeneration
    from backupd.repository.packs import Section, SnapshotSections
    from backupd.store.base import StoreView

_TOGETHER = 256
"""Segments whose sections are fetched in one go; when one of them is wrong, each is read again on its own."""


@dataclass(slots=True)
class CheckedContents:
    """The result of comparing contents with manifests."""

    segments: int = 0
    """Segments that are right."""
    findings: list[Mismatch] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    """What went while it was to be read."""
    unfit: set[SnapshotName] = field(default_factory=set)
    """Snapshots of which something is not as they say."""


@dataclass(frozen=True, slots=True)
class KnownTroubles:
    """The segments and packs of which other checks report damage: their content is not read."""

    gone: Collection[Pseudonym]
    """Segments that purges list."""
    segments: Collection[Pseudonym]
    packs: Collection[ObjectName]


class ContentChecker:
    """Checks the content of one generation's newest snapshots, as a restore would read it. For one thread."""

    def __init__(self, checked: CheckedGeneration) -> None:
        self._of = checked
        self._done = CheckedContents()

    def check(self, documents: Documents, keys: SoundKeys, troubles: KnownTroubles) -> CheckedContents:
        """Check as much as asked for of the newest snapshot of each database. Raises the store's errors."""
        for name in _newest(documents.claims) if self._of.scope.share else ():
            try:
                listed = self._of.repository.sections(self._of.repository.record(name, self._of.id))
            except UNSOUND:
                continue  # other checks report it
            self._check(name, documents.claims[name], listed, (keys, troubles))
        return self._done

    def _check(
        self,
        name: SnapshotName,
        claims: RecordClaims,
        listed: SnapshotSections,
        known: tuple[SoundKeys, KnownTroubles],
    ) -> None:
        keys, troubles = known
        sizes = _sound(listed, keys, troubles)
        chosen = self._choose(listed, sizes)
        reading = _Reading(self._of.repository.store, listed, keys, self._of.tools.threads)
        reading.define(sizes, complete=all(one in sizes or one in troubles.gone for one in listed.manifests))
        for at in range(0, len(chosen), _TOGETHER):
            self._read(name, reading, chosen[at : at + _TOGETHER])
        self._done.segments += len(reading.amounts)
        if claims.totals is not None and reading.amounts.keys() == listed.manifests.keys():
            rows, size = (sum(amount[at] for amount in reading.amounts.values()) for at in (0, 1))
            if (rows, size) != (claims.totals.rows, claims.totals.bytes):
                where = layout.record_name(self._of.id, name)
                self._found(name, Mismatch(where, "does not have as many rows in its sections as it says"))

    def _choose(self, listed: SnapshotSections, sizes: Mapping[Pseudonym, int]) -> list[Pseudonym]:
        times = self._of.state.times(CONTENT, self._of.id)
        by_manifest = {_called(listed.manifests[segment]): segment for segment in sizes}
        candidates = [ReadCandidate(key, sizes[segment], times.get(key)) for key, segment in by_manifest.items()]
        return sorted(by_manifest[candidate.key] for candidate in choose(candidates, self._of.scope.share))

    def _read(self, name: SnapshotName, reading: _Reading, group: Sequence[Pseudonym]) -> None:
        try:
            reading.read(group)
            right = list(group)
        except UNSOUND:
            right = [segment for segment in group if self._alone(name, reading, segment)]
        now = self._of.tools.clock.now().timestamp()
        for segment in right:
            self._of.state.remember(CONTENT, self._of.id, _called(reading.listed.manifests[segment]), now)

    def _alone(self, name: SnapshotName, reading: _Reading, segment: Pseudonym) -> bool:
        try:
            reading.read([segment])
        except UNSOUND as error:
            manifest = reading.listed.manifests[segment]
            finding = Mismatch(manifest.pack.name, error.message, segment)
            if reading.went(segment):
                self._done.absences.append(Absence(finding, (name,), segment, reading.class_of(segment)))
            else:
                self._found(name, finding)
            self._of.state.forget(CONTENT, self._of.id, _called(manifest))
            return False
        return True

    def _found(self, name: SnapshotName, finding: Mismatch) -> None:
        self._done.findings.append(finding)
        self._done.unfit.add(name)


class _Reading:
    """The reading of one snapshot's segments."""

    def __init__(self, store: StoreView, listed: SnapshotSections, keys: SoundKeys, threads: int) -> None:
        self.listed = listed
        self.amounts: dict[Pseudonym, tuple[int, int]] = {}
        """Rows and bytes of COPY text of each segment that is right."""
        self._store = store
        self._keys = keys
        self._threads = threads
        self._defined: set[int] | None = None
        self._by_segment: defaultdict[Pseudonym, list[Section]] = defaultdict(list)
        for (segment, _), section in listed.sections.items():
            self._by_segment[segment].append(section)

    def define(self, segments: Collection[Pseudonym], *, complete: bool) -> None:
        """Read which tables the snapshot defines, if these segments are all that it has."""
        manifests = [self.listed.manifests[segment] for segment in segments]
        defining = [one for one in manifests if self._keys.require(one.row).name.data_class == STRUCTURE]
        try:
            with self._opened() as reader:
                opened = [list(read_entries(one.reader)) for one in reader.in_order(defining if complete else ())]
        except UNSOUND:
            return  # reading that segment reports it
        if complete:
            self._defined = {one.number for entries in opened for one in entries if isinstance(one, TableEntry)}

    def went(self, segment: Pseudonym) -> bool:
        """Look whether a section of a segment is gone by now."""
        try:
            return any(one.at not in reopened(self._store, one.pack).there for one in self._by_segment[segment])
        except ObjectMissingError:
            return True

    def class_of(self, segment: Pseudonym) -> ClassTag:
        """Return the tag of a segment's data class."""
        row = self.listed.manifests[segment].row
        return self._keys.listings[row.keyring].class_of(row.place)

    def read(self, segments: Sequence[Pseudonym]) -> None:
        """Compare all content of these segments with their manifests. Raises DamageError for one that is wrong."""
        amounts: dict[Pseudonym, tuple[int, int]] = {}
        # A reader of its own for each call: sections are fetched with their neighbours, and one that is wrong must not
        # stay in memory as the fault of another segment.
        with self._opened(segments) as reader:
            for _ in reader.read(self._contents(reader, segments, amounts)):
                pass
        self.amounts |= amounts

    @contextmanager
    def _opened(self, segments: Collection[Pseudonym] = ()) -> Iterator[ContentReader]:
        """Open a reader, which fetches all sections of these segments once."""
        manifests = [self.listed.manifests[segment] for segment in segments]
        later = chain.from_iterable(self._by_segment[segment] for segment in segments)
        with closing(Sections(self._store, self._keys.require, threads=self._threads, gap=GAP)) as sections:
            sections.hold(manifests, later)
            yield ContentReader(self.listed.sections, sections)

    def _contents(
        self, reader: ContentReader, segments: Sequence[Pseudonym], amounts: dict[Pseudonym, tuple[int, int]]
    ) -> Iterator[tuple[None, Content]]:
        manifests = [self.listed.manifests[segment] for segment in segments]
        for segment, opened in zip(segments, reader.in_order(manifests), strict=True):
            rows = size = 0
            for entry in read_entries(opened.reader):
                if isinstance(entry, RowsEntry):
                    if self._defined is not None and entry.table not in self._defined:
                        raise DamageError(f"'{opened.where}' has rows of a table that the snapshot does not define")
                    rows, size = rows + entry.rows, size + entry.bytes
                    yield None, rows_content(segment, entry)
                elif isinstance(entry, FileEntry):
                    yield None, file_content(segment, entry)
            amounts[segment] = rows, size


def _newest(claims: Mapping[SnapshotName, RecordClaims]) -> list[SnapshotName]:
    """Return the newest snapshot of each database."""
    newest: dict[tuple[str, str | None], SnapshotName] = {}
    for name in sorted(claims):
        newest[claims[name].source] = name
    return sorted(newest.values())


def _sound(listed: SnapshotSections, keys: SoundKeys, troubles: KnownTroubles) -> dict[Pseudonym, int]:
    """Return the segments with a manifest of which everything is there, with the bytes of their sections."""
    sizes = dict.fromkeys(listed.manifests, 0)
    for (segment, _), section in listed.sections.items():
        if segment not in sizes:
            continue
        known = segment in troubles.gone or segment in troubles.segments or section.pack.name in troubles.packs
        if known or not section.is_there or keys.of(section.row) is None:
            del sizes[segment]
        else:
            sizes[segment] += section.row.length
    return sizes


def _called(manifest: Section) -> ObjectHash:
    """Return the name under which it is remembered that a segment was checked."""
    return ObjectHash(manifest.row.sha256.hex())
