"""The deduplicator: from cut rows to sections. Each chunk is hashed; a known one is referred to, a new one is kept.

New chunks wait in memory for their block, those of all segments together up to a limit: then the fullest are sealed in
blocks smaller than usual. So every chunk is compressed once, however many segments there are.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from backupd.rows.packer import RunKey, SectionJob
from backupd.rows.protocol import Span
from backupd.seal import suite

if TYPE_CHECKING:
    from backupd.model.ids import Pseudonym
    from backupd.rows.known_chunks import KnownChunks
    from backupd.rows.segment_names import NamedSegment

CHUNK_ID_SIZE: Final = 16
BLOCK_SIZE: Final = 512 << 10
"""Plain bytes compressed and sealed together: large enough to compress well, small enough to read one tenant by."""
SMALLEST_SECTION: Final = 384 << 10
"""Plain bytes after which a section may end before the run does, so that it is shipped while reading goes on."""
LARGEST_SECTION: Final = 12 << 20
"""Plain bytes after which a section ends: about a third of it once compressed, which a restore keeps in memory."""
OPEN_SECTIONS: Final = 48 << 20
"""Plain bytes of unfinished sections to aim at: with many segments, each section ends the earlier."""
MANIFEST_PIECE: Final = 1 << 20
"""Bytes of a manifest that are sealed together."""
SEGMENT_SIZE: Final = 3_500
"""Bytes of memory, about, that a segment takes in the worker, beside its rows (measured)."""
SMALL_CHUNK: Final = 512
"""Bytes of a chunk that may be kept until a span has another."""
LEAST_PART: Final = 3
"""However many segments there are, this part of the memory is left to what waits."""
JOBS_SIZE: Final = 1 << 20
"""Plain bytes of jobs that are passed to the packer together."""


@dataclass(slots=True)
class Segment:
    """A worker's state of one segment between tasks."""

    data_class: str
    tenant: str | None
    names: NamedSegment | None
    """Nothing is kept of a segment without names: its rows are counted only."""
    key: RunKey | None = None
    """The key of what this worker adds; None while it has added nothing."""
    section: int = 0
    """Number of the section being filled; 0 while there is none."""
    begun: int = 0
    """Sections begun so far."""
    chunks: int = 0
    """Number of chunks already assigned to that section."""
    pending: list[bytes] = field(default_factory=list)
    """New chunks that are not yet sealed."""
    pending_size: int = 0
    ids: bytearray = field(default_factory=bytearray)
    """Ids of the pending chunks, 16 bytes each, joined."""
    packed: int = 0
    """Plain bytes already passed to the packer as blocks of that section."""


class OpenSpan:
    """One task's reading of one segment, which grows with each chunk."""

    __slots__ = ("_digest", "_first", "rows", "runs", "segment", "size")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.rows = 0
        self.size = 0
        self.runs = array("q")
        self._first = b""
        """The only chunk so far, if it is small: the state of a hash takes 450 bytes, and a tenant may have a row."""
        self._digest: hashlib._Hash | None = None

    def add(self, data: bytes) -> None:
        """Add a chunk's bytes to the size and the digest."""
        if self._digest is None:
            if not self.size and len(data) <= SMALL_CHUNK:
                self._first = data
                self.size = len(data)
                return
            self._digest, self._first = hashlib.sha256(self._first), b""
        self._digest.update(data)
        self.size += len(data)

    def refer(self, section: int, chunk: int) -> None:
        """Add a reference to one chunk of a section; it extends the last run where it follows on."""
        runs = self.runs
        if len(runs) and runs[-3] == section and runs[-2] + runs[-1] == chunk:
            runs[-1] += 1
        else:
            runs.extend((section, chunk, 1))

    def close(self) -> tuple[str, bytes]:
        """Return the segment's pseudonym, empty when nothing of it is kept, and the packed span."""
        names = self.segment.names
        digest = self._digest or hashlib.sha256(self._first)
        span = Span(self.rows, self.size, digest.digest(), self.runs)
        return "" if names is None else names.pseudonym, span.packed()


@dataclass(frozen=True, slots=True)
class DedupSettings:
    """Keys, numbers and limits of one worker's deduplicator."""

    chunk_key: bytes = field(repr=False)
    first: int
    """The first section's number."""
    step: int
    """From one section of a segment to the next: the number of workers, so that none is given twice."""
    pending: int
    """Plain bytes that wait in memory for their block, over all segments."""
    open: int
    """Plain bytes in unfinished sections over all segments, at most."""
    random: Callable[[int], bytes] = os.urandom


class SectionSink(Protocol):
    """The taker of jobs: the packer, or the worker's end of the pipe to it."""

    def add(self, jobs: Sequence[SectionJob]) -> None:
        """Take jobs, in order; may wait."""
        ...

    def close(self) -> None:
        """Take note that every section was ended and nothing more comes."""
        ...


class Deduplicator:
    """The decision for each chunk, in order, whether it is new or known. For one thread."""

    def __init__(self, settings: DedupSettings, known: KnownChunks, packer: SectionSink) -> None:
        self._settings = settings
        self._key = settings.chunk_key
        self._known = known
        self._packer = packer
        self._pending = 0
        self._enough = settings.pending
        """Plain bytes that may wait now: less with each segment, which takes memory itself."""
        self._packed = 0
        self._waiting: dict[Pseudonym, Segment] = {}
        self._open: dict[Pseudonym, Segment] = {}
        self._fuller = self._fuller_ones()
        self.added = 0
        """Plain bytes of new chunks so far."""

    def take(self, span: OpenSpan, data: bytes, rows: int) -> None:
        """Take the next chunk of a span, in which `rows` rows end. A segment without names is counted only."""
        segment = span.segment
        span.rows += rows
        if segment.names is None:
            return
        span.add(data)
        # The key comes first, which is as good as HMAC where the end of the hash is cut off and nobody sees an id.
        chunk_id = hashlib.sha256(self._key + segment.names.pseudonym.encode() + data).digest()[:CHUNK_ID_SIZE]
        place = self._known.find(chunk_id)
        if place is None:
            place = self._collect(segment, segment.names.pseudonym, data, chunk_id)
        span.refer(*place)

    def close_section(self, segment: Segment, manifest: bytes) -> list[SectionJob]:
        """Return the jobs that end the segment's section with this manifest, which may be empty."""
        if segment.names is None or not (segment.section or manifest):
            return []
        if not segment.section:
            self._begin(segment, segment.names)
        pieces = [manifest[at : at + MANIFEST_PIECE] for at in range(0, len(manifest), MANIFEST_PIECE)] or [b""]
        first = [self._job(segment, pieces[0], last=len(pieces) == 1)]
        rest = [self._job(segment, piece, last=piece is pieces[-1]) for piece in pieces[1:]]
        self._end(segment)
        return first + rest

    def close(self) -> None:
        """End every section that is still open; nothing may be taken afterwards."""
        self.pass_on(job for segment in list(self._open.values()) for job in self.close_section(segment, b""))
        self._packer.close()

    def pass_on(self, jobs: Iterable[SectionJob]) -> None:
        """Pass jobs to the packer, many small ones together."""
        held: list[SectionJob] = []
        size = 0
        for job in jobs:
            held.append(job)
            size += 256 + len(job.manifest) + sum(map(len, job.chunks))
            if size >= JOBS_SIZE:
                self._packer.add(held)
                held, size = [], 0
        if held:
            self._packer.add(held)

    def _collect(self, segment: Segment, pseudonym: Pseudonym, data: bytes, chunk_id: bytes) -> tuple[int, int]:
        if not segment.section and segment.names is not None:
            self._begin(segment, segment.names)
        place = segment.section, segment.chunks
        segment.chunks += 1
        segment.pending.append(data)
        segment.pending_size += len(data)
        segment.ids += chunk_id
        self._waiting[pseudonym] = segment
        self._pending += len(data)
        self.added += len(data)
        if segment.pending_size >= BLOCK_SIZE:
            self._packer.add([self._flush(segment)])
        if self._pending > self._enough:
            self.pass_on(self._relieve_memory())
        if self._packed > self._settings.open:
            self.pass_on(job for one in list(self._open.values()) for job in self.close_section(one, b""))
        return place

    def _begin(self, segment: Segment, names: NamedSegment) -> None:
        if segment.key is None:
            key = self._settings.random(suite.KEY_SIZE)
            segment.key = RunKey(names.pseudonym, names.tags, segment.data_class, segment.tenant, key)
            self._enough = max(self._enough - SEGMENT_SIZE, self._settings.pending // LEAST_PART)
        segment.section = self._settings.first + segment.begun * self._settings.step
        segment.begun += 1
        segment.chunks = 0
        self._open[names.pseudonym] = segment

    def _relieve_memory(self) -> Iterator[SectionJob]:
        """Yield blocks of the fuller segments, until an eighth of what may wait is free again.

        A little at a time: PostgreSQL would wait while much is sealed, and the packer while memory fills again.
        """
        enough = self._enough - self._enough // 8
        while self._pending > enough:
            yield self._flush(next(self._fuller))

    def _fuller_ones(self) -> Iterator[Segment]:
        """Yield segments that are fuller than others, while any wait. They are looked through again only when all that
        were found have had their turn: there may be tens of thousands.
        """
        while True:
            mean = self._pending // len(self._waiting)
            for least in (2 * mean, mean):  # sorting takes longer
                for segment in [one for one in self._waiting.values() if one.pending_size >= least]:
                    if segment.pending_size >= max(least, 1):
                        yield segment

    def _flush(self, segment: Segment) -> SectionJob:
        """Return the pending chunks as one block, which ends the section when that is large enough."""
        size = segment.packed + segment.pending_size
        enough = min(max(OPEN_SECTIONS // len(self._open), SMALLEST_SECTION), LARGEST_SECTION)
        job = self._job(segment, b"", last=size >= enough)
        if job.last:
            self._end(segment)
        return job

    def _job(self, segment: Segment, manifest: bytes, *, last: bool) -> SectionJob:
        key = segment.key
        assert key is not None  # noqa: S101 - said to the type checker: a section was begun
        # The lists are given away.
        job = SectionJob(key, segment.section, segment.pending, bytes(segment.ids), manifest, last)
        segment.pending, segment.ids = [], bytearray()
        if segment.pending_size:
            del self._waiting[key.pseudonym]
            self._pending -= segment.pending_size
            segment.packed += segment.pending_size
            self._packed += segment.pending_size
            segment.pending_size = 0
        return job

    def _end(self, segment: Segment) -> None:
        if segment.key is not None:
            del self._open[segment.key.pseudonym]
        self._packed -= segment.packed
        segment.section = segment.packed = 0
