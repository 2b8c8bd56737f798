"""The deduplicator: from cut rows to sealed packs. Each chunk is hashed; a known one is referred to, a new one is kept.

New chunks are collected into blocks, sealed and written. The deduplicator hashes on the row loop's own thread: it
releases the interpreter's lock for each hash, which lets the packer's thread compress and seal beside it. (A third
thread only made the lock's changes of hands costlier.)
"""

from __future__ import annotations

import hashlib
import hmac
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

from backupd.rows.packer import Packer, PendingBlock
from backupd.rows.protocol import Span, Spilled
from backupd.rows.spill import Residue, Spill, grouped, joined, merged
from backupd.seal.container_format import CHUNK_ID_SIZE

if TYPE_CHECKING:
    from backupd.rows.known_chunks import KnownChunks

BLOCK_SIZE = 512 << 10
"""Plain bytes compressed and sealed together: large enough to compress well, small enough to read one tenant by."""
SMALL_BLOCK = BLOCK_SIZE // 4
"""Plain bytes that a block should have at least where memory does not suffice for whole ones."""
MOST_SPILLED = 4 << 20
"""Plain bytes of one segment that are spilled at most: its part is built in memory."""
MOST_RUNS = 256
"""Runs in the spill at most: while they are merged, one block of each run is in memory."""
_CONTAINER_KEY = ("pseudonym", "container")


@dataclass(slots=True)
class Segment:
    """A worker's state of one segment between tasks."""

    pseudonym: str
    container: int = 0
    """The worker's number of the container being filled; 0 while there is none."""
    chunks: int = 0
    """Number of chunks already assigned to that container."""
    pending: list[bytes] = field(default_factory=list)
    """New chunks that are not yet sealed."""
    pending_size: int = 0
    ids: bytearray = field(default_factory=bytearray)
    """Ids of the pending chunks, 16 bytes each, joined."""
    packed: int = 0
    """Plain bytes already passed to the packer as blocks of that container."""
    spilled: int = 0
    """Plain bytes of that container that were spilled instead."""
    large: bool = False
    """Whether the segment has spilled enough for one part; from then on it gets packs."""


class OpenSpan:
    """One task's reading of one segment, which grows with each chunk."""

    __slots__ = ("digest", "rows", "runs", "segment", "size")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.rows = 0
        self.size = 0
        self.digest = hashlib.sha256()
        self.runs = array("q")

    def refer(self, container: int, chunk: int) -> None:
        """Add a reference to one chunk of a container; it extends the last run where it follows on."""
        runs = self.runs
        if len(runs) and runs[-3] == container and runs[-2] + runs[-1] == chunk:
            runs[-1] += 1
        else:
            runs.extend((container, chunk, 1))

    def close(self) -> tuple[str, bytes]:
        """Return the segment's pseudonym and the packed span."""
        return self.segment.pseudonym, Span(self.rows, self.size, self.digest.hexdigest(), self.runs).packed()


@dataclass(frozen=True, slots=True)
class ContainerSettings:
    """Keys and numbers for new containers."""

    chunk_key: bytes = field(repr=False)
    number: Callable[[], int]
    """Draws the number of the next container."""
    public: Callable[[str], bytes]
    """Returns the public half of a segment's key, by the segment's pseudonym."""


@dataclass(frozen=True, slots=True)
class PendingLimits:
    """Limits of new chunks, in plain bytes; the sealed chunks are smaller."""

    pending: int
    """Bytes that wait in memory for their block, over all segments."""
    pack: int
    """Bytes after which a pack is finished."""
    open: int
    """Bytes in unfinished packs over all segments, and sealed bytes in the spill."""


@dataclass(frozen=True, slots=True)
class ChunkSinks:
    """The packer and the spill that take new chunks, with their limits."""

    packer: Packer
    spill: Spill
    limits: PendingLimits


class Deduplicator:
    """The decision for each chunk, in order, whether it is new or known. For one thread.

    A segment that fills a block gets packs. Where there are so many segments that memory is full before, the chunks of
    small ones are spilled and go into their parts: an object costs as much as a thousand rows.
    """

    def __init__(self, settings: ContainerSettings, known: KnownChunks, sinks: ChunkSinks) -> None:
        self._key = settings.chunk_key
        self._known = known
        self._packer = sinks.packer
        self._spill = sinks.spill
        self._number = settings.number
        self._public = settings.public
        self._limits = sinks.limits
        self._pending = 0
        self._open = 0
        self._waiting: dict[str, Segment] = {}
        self._packed: dict[str, Segment] = {}
        self._spilled: dict[str, Segment] = {}
        self.added = 0
        """Plain bytes of new chunks so far."""

    def take(self, span: OpenSpan, data: bytes, rows: int) -> None:
        """Take the next chunk of a span, in which `rows` rows end. A segment without a pseudonym is counted only."""
        segment = span.segment
        span.rows += rows
        if not segment.pseudonym:
            return
        span.size += len(data)
        span.digest.update(data)
        content = hashlib.sha256(segment.pseudonym.encode())
        content.update(data)
        chunk_id = hmac.digest(self._key, content.digest(), "sha256")[:CHUNK_ID_SIZE]
        place = self._known.find(chunk_id)
        if place is None:
            place = self._collect(segment, data, chunk_id)
        span.refer(*place)

    def close(self) -> Spilled:
        """Finish every pack, spill the remaining chunks, and return what is in the spill."""
        for segment in list(self._packed.values()):
            self._finish(segment)
        self._spill_all(self._waiting.values())
        self._packer.close()
        return self._spill.written()

    def _collect(self, segment: Segment, data: bytes, chunk_id: bytes) -> tuple[int, int]:
        if not segment.container:
            segment.container = self._number()
            segment.chunks = 0
        place = segment.container, segment.chunks
        segment.chunks += 1
        segment.pending.append(data)
        segment.pending_size += len(data)
        segment.ids += chunk_id
        self._waiting[segment.pseudonym] = segment
        self._pending += len(data)
        self.added += len(data)
        if segment.pending_size >= BLOCK_SIZE and not segment.spilled:
            self._flush(segment)
        if self._pending > self._limits.pending:
            self._relieve_memory()
        if segment.packed >= self._limits.pack:
            self._finish(segment)
        if self._open > self._limits.open:
            self._finish(max(self._packed.values(), key=lambda s: s.packed))
        return place

    def _relieve_memory(self) -> None:
        """Spill small segments; of segments that have packs, seal the fullest in blocks smaller than usual."""
        small = [segment for segment in self._waiting.values() if not (segment.packed or segment.large)]
        packing = [segment for segment in self._waiting.values() if segment.packed or segment.large]
        packing.sort(key=attrgetter("pending_size"), reverse=True)
        self._spill_all(small)
        if self._spill.size > self._limits.open or self._spill.runs >= MOST_RUNS:
            self._pack_spilled()
        for segment in packing:
            if self._pending <= self._limits.pending // 2 and segment.pending_size < SMALL_BLOCK:
                return
            self._flush(segment)

    def _spill_all(self, segments: Iterable[Segment]) -> None:
        """Spill the pending chunks of segments that have no unfinished pack."""
        chosen = sorted(segments, key=attrgetter("pseudonym"))
        self._spill.add_run(residue for one in chosen for residue in _residues(one))
        for segment in chosen:
            segment.spilled += segment.pending_size
            self._spilled[segment.pseudonym] = segment
            self._clear_pending(segment)
            if segment.spilled >= MOST_SPILLED:
                segment.large = True
                self._leave_container(segment)

    def _pack_spilled(self) -> None:
        """Make a pack for each segment in the spill, which is as large as it may be, and empty the spill."""
        for (pseudonym, container), residues in groupby(merged([self._spill.written()]), attrgetter(*_CONTAINER_KEY)):
            public = self._public(pseudonym)
            for chunks, ids in joined(residues, BLOCK_SIZE):
                self._packer.add(PendingBlock(container, pseudonym, public, chunks, ids))
            self._packer.finish(container)
        for segment in list(self._spilled.values()):
            self._leave_container(segment)
        self._spill.restart()

    def _leave_container(self, segment: Segment) -> None:
        """Give the segment's next chunks another container than the spilled ones."""
        del self._spilled[segment.pseudonym]
        segment.container, segment.spilled = 0, 0

    def _flush(self, segment: Segment) -> None:
        """Pass the pending chunks to the packer as one block."""
        public = b"" if segment.packed else self._public(segment.pseudonym)
        self._packer.add(
            PendingBlock(segment.container, segment.pseudonym, public, segment.pending, bytes(segment.ids))
        )
        self._packed[segment.pseudonym] = segment
        self._open += segment.pending_size
        segment.packed += segment.pending_size
        self._clear_pending(segment)

    def _clear_pending(self, segment: Segment) -> None:
        del self._waiting[segment.pseudonym]
        self._pending -= segment.pending_size
        segment.pending, segment.ids, segment.pending_size = [], bytearray(), 0

    def _finish(self, segment: Segment) -> None:
        if segment.pending:
            self._flush(segment)
        self._packer.finish(segment.container)
        del self._packed[segment.pseudonym]
        self._open -= segment.packed
        segment.container, segment.packed = 0, 0


def _residues(segment: Segment) -> Iterator[Residue]:
    """Divide a segment's pending chunks into residues small enough for hundreds to be in memory."""
    start = 0
    for chunks in grouped(segment.pending, BLOCK_SIZE):
        end = start + CHUNK_ID_SIZE * len(chunks)
        yield Residue(segment.pseudonym, segment.container, chunks, bytes(segment.ids[start:end]))
        start = end
