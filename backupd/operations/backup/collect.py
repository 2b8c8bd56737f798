"""Collect what the workers send back: packs go to the uploader, spans of rows to their segment and table.

There is a span for every task and segment, which for a large database of many tenants is more than memory should hold.
So more than a few megabytes of spans go into the spool, sealed and sorted.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backupd.model.ids import ObjectHash, Pseudonym, RunId
from backupd.operations.backup.keyrings import RunKeyrings
from backupd.repository.layout import pack_name
from backupd.repository.state.index import Generation, Index, NewSection
from backupd.repository.uploader import Upload, Uploader
from backupd.rows.protocol import Advanced, Met, NewKey, PackDone, PlacesReply, Span, TaskDone, span_counts, unpack_span
from backupd.rows.segment_names import SegmentNames
from backupd.rows.spill import Residue, ResiduesBySegment, Spill
from backupd.trace import Progress, Trace

READING = "reading"


@dataclass(frozen=True, slots=True)
class RunTarget:
    """The generation that a run adds to, with its index, names, keyrings, and the uploader to the store."""

    generation: Generation
    index: Index
    names: SegmentNames
    keyrings: RunKeyrings
    uploader: Uploader
    still_marked: Callable[[], None]
    """Raises BusyError when keepers will soon count the run as killed."""


@dataclass(frozen=True, slots=True)
class TaskTally:
    """The rows and bytes that one task read."""

    rows: int
    """Rows as PostgreSQL counted them."""
    placed: int
    """Rows summed over the segments that got them."""
    left_out: int
    """Rows of purged tenants that the application still has."""
    size: int
    """Bytes kept, without tenants' prefixes."""

    @property
    def kept(self) -> int:
        """Rows without those left out."""
        return self.rows - self.left_out

    @property
    def complete(self) -> bool:
        """True when every row that PostgreSQL sent is in exactly one segment or left out."""
        return self.placed + self.left_out == self.rows


class Collector:
    """The worker pool's listener. For one thread, except for what the uploader calls back."""

    def __init__(self, target: RunTarget, spool_size: int, spans: SpanLog) -> None:
        self._target = target
        self._spool_size = spool_size
        self.spans = spans
        self.tallies: dict[int, TaskTally] = {}
        """Rows and bytes of each task that is done, by its number."""
        self.met: dict[Pseudonym, int] = {}
        """A worker that knows whose a segment is, as it has read something of it."""
        self.digests: dict[Pseudonym, bytes] = {}
        """Keyed digests of the manifests that are being written."""
        self.manifests: dict[Pseudonym, int] = {}
        """Numbers of the sections with this run's manifests."""
        self.listener: Callable[[TaskDone], None] | None = None
        """Called with each task that a worker has done."""
        self.read = 0
        self.read_rows = 0
        self.new = 0
        self._watch: tuple[Trace, str] | None = None
        self._check: Callable[[], None] | None = None

    def begin(self, trace: Trace, subject: str, check: Callable[[], None]) -> None:
        """Report progress to `trace` from now on; `check` raises the error that stops the reading."""
        self._watch, self._check = (trace, subject), check

    def unlocked(self) -> None:
        """Stop calling `check`: no table is locked any more."""
        self._check = None

    def places(self, worker: int, keys: Sequence[NewKey]) -> PlacesReply:
        return PlacesReply(self._target.keyrings.place(worker, keys))

    def pack(self, worker: int, done: PackDone) -> None:
        target, name = self._target, ObjectHash(done.name)
        target.keyrings.end(worker)
        keyrings = [RunId(keyring) for keyring in done.keyrings]
        sections = [self._section(*section) for section in done.sections]
        target.uploader.submit(
            Upload(
                pack_name(target.generation.id, name),
                Path(done.path),
                ObjectHash(done.sha256),
                done.size,
                before=lambda: target.keyrings.publish(keyrings),
                published=lambda: target.index.add_pack(name, done.size, keyrings, sections),
            )
        )

    def _section(self, pseudonym: str, number: int, length: int, ids: bytes, manifest: bool) -> NewSection:
        segment = Pseudonym(pseudonym)
        if manifest:
            self.manifests[segment] = number
        return NewSection(segment, number, length, ids, self.digests.pop(segment) if manifest else b"")

    def has_space(self) -> bool:
        self._target.uploader.check()
        self._target.still_marked()
        if self._check is not None:
            self._check()
        return self._target.uploader.spooled <= self._spool_size

    def done(self, done: TaskDone) -> None:
        if self.listener is not None:
            self.listener(done)
        self.met.update((Pseudonym(pseudonym), done.worker) for pseudonym, _ in done.spans)
        self.taken_over(done)

    def meet(self, met: Met) -> None:
        self.met.update((Pseudonym(pseudonym), met.worker) for pseudonym in met.segments)

    def taken_over(self, done: TaskDone) -> None:
        """Take a task over that no worker has done, as an earlier run has it."""
        placed = left_out = size = 0
        for pseudonym, packed in done.spans:
            rows, count = span_counts(packed)
            if not pseudonym:
                left_out += rows
                continue
            self.spans.add(Pseudonym(pseudonym), done.task, packed)
            placed += rows
            size += count
        self.tallies[done.task] = TaskTally(done.rows, placed, left_out, size)

    def as_before(self, tallies: Mapping[int, TaskTally]) -> None:
        """Take tasks over whose segments are all as an earlier snapshot has them: nobody asks for their spans."""
        self.tallies |= tallies

    def advanced(self, counters: Advanced) -> None:
        self.read += counters.read
        self.read_rows += counters.rows
        self.new += counters.added
        if self._watch is not None:
            trace, subject = self._watch
            trace.emit(
                Progress(
                    READING,
                    subject,
                    bytes_in=self.read,
                    new=self.new,
                    sent=self._target.uploader.sent,
                    rows=self.read_rows,
                    objects=self._target.uploader.objects,
                )
            )


def by_table(spans: Iterable[tuple[int, bytes]], places: dict[int, tuple[int, int]]) -> dict[int, list[Span]]:
    """Return spans by table, in the order of the table's ranges; `places` has the table and range of each task."""
    found: dict[int, list[tuple[int, Span]]] = defaultdict(list)
    for task, span in spans:
        if task in places:
            table, place = places[task]
            found[table].append((place, unpack_span(span)))
    return {table: [span for _, span in sorted(some, key=lambda pair: pair[0])] for table, some in found.items()}


_PLACE: Final = struct.Struct("<II")
_MOST: Final = 2 << 20
"""Bytes of spans kept in memory before they are spooled."""
_PIECE: Final = 256 << 10
"""Bytes of one segment's spans that are written together."""


class SpanLog:
    """The packed spans of every segment: first all are added, then they are read, segment by segment, as often as
    `rewind` is called.
    """

    def __init__(self, path: Path) -> None:
        self._spill = Spill(path)
        self._held: dict[Pseudonym, bytearray] = {}
        self.segments: set[Pseudonym] = set()
        """Every segment of which something was added."""
        self._size = 0
        self._spilled: ResiduesBySegment | None = None

    def add(self, pseudonym: Pseudonym, task: int, span: bytes) -> None:
        """Add the packed span that a task read for a segment. Raises SpoolFullError."""
        self.segments.add(pseudonym)
        self._held.setdefault(pseudonym, bytearray()).extend(_PLACE.pack(task, len(span)) + span)
        self._size += _PLACE.size + len(span)
        if self._size > _MOST:
            self._flush()

    def of(self, pseudonym: Pseudonym) -> list[tuple[int, bytes]]:
        """Return a segment's tasks with their packed spans, in the order in which they were added.

        Must be called in the order of pseudonyms, for every segment that has any. Raises BackupdError, and DamageError
        when the spool cannot be read.
        """
        if self._spilled is None:
            if not self._spill.runs:
                return list(_records(self._held.get(pseudonym, bytearray())))
            self._flush()
            self._spilled = ResiduesBySegment([self._spill.written()])
        pieces = [residue.piece for residue in self._spilled.of(pseudonym)]
        return list(_records(b"".join(pieces)))

    def rewind(self) -> None:
        """Begin again with the first segment."""
        self._spilled = None

    def _flush(self) -> None:
        self._spill.add_run(residue for pseudonym in sorted(self._held) for residue in self._residues(pseudonym))
        self._held.clear()
        self._size = 0

    def _residues(self, pseudonym: Pseudonym) -> Iterator[Residue]:
        held = self._held[pseudonym]
        for start in range(0, len(held), _PIECE):
            yield Residue(pseudonym, bytes(held[start : start + _PIECE]))


def _records(packed: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(packed):
        task, size = _PLACE.unpack_from(packed, at)
        at += _PLACE.size + size
        yield task, bytes(packed[at - size : at])
