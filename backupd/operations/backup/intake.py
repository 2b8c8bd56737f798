"""What comes back from the workers, gathered: packs go to the shipper, spans to their segment and table."""

from __future__ import annotations

import struct
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.catalog.layout import pack_name
from backupd.catalog.memory.index import Container
from backupd.catalog.sending.shipping import Parcel, Shipper
from backupd.model.ids import ObjectHash, Pseudonym
from backupd.model.tenancy import SegmentName
from backupd.rows.protocol import KeyReply, SegmentReply, unpacked
from backupd.seal.containers.layout import Context
from backupd.trace import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.catalog.memory.index import Generation, Index
    from backupd.operations.backup.generation import Keyed, Segments
    from backupd.rows.protocol import Advanced, PackDone, Span, Spilled, TaskDone
    from backupd.trace import Trace

READING = "reading"
_PLACE = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Onto:
    """What a run adds to."""

    generation: Generation
    index: Index
    segments: Segments
    shipper: Shipper


class Spans:
    """What tasks read for one segment. There may be hundreds of thousands, so they stand packed in one buffer."""

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed = bytearray()

    def add(self, task: int, span: bytes) -> None:
        """The packed span of a task that was not added before."""
        self._packed += _PLACE.pack(task, len(span)) + span

    def items(self) -> Iterator[tuple[int, bytes]]:
        """Tasks with their packed spans, as they were added."""
        at = 0
        while at < len(self._packed):
            task, size = _PLACE.unpack_from(self._packed, at)
            at += _PLACE.size + size
            yield task, bytes(self._packed[at - size : at])


@dataclass(slots=True)
class Gathered:
    """What one segment got in this snapshot."""

    keyed: Keyed
    spans: Spans = field(default_factory=Spans)


class Intake:
    """The pool's listener. Called from one thread, except for what the shipper calls back."""

    def __init__(self, database: str, onto: Onto, spool_size: int) -> None:
        self._database = database
        self._generation = onto.generation
        self._index = onto.index
        self._segments = onto.segments
        self._shipper = onto.shipper
        self._spool_size = spool_size
        self._next = onto.index.last_number()
        self.numbers: dict[int, int] = {}
        """From the workers' numbers of containers to the index's."""
        self.gathered: dict[Pseudonym, Gathered] = {}
        self.rows: dict[int, int] = {}
        """By task, as PostgreSQL counted them."""
        self.left_out: dict[int, int] = {}
        """Of these, rows of purged tenants that the application still has."""
        self.spills: list[Spilled] = []
        """New chunks to put into parts."""
        self._counted: dict[int, int] = {}
        self.read = 0
        self.read_rows = 0
        self.new = 0
        self.watch: tuple[Trace, str] | None = None

    def of(self, data_class: str, tenant: str | None) -> Gathered:
        """The segment's gathering, begun if need be."""
        keyed = self._segments.of(SegmentName(self._database, data_class, tenant))
        pseudonym = keyed.segment.pseudonym
        if pseudonym not in self.gathered:
            self.gathered[pseudonym] = Gathered(keyed)
        return self.gathered[pseudonym]

    def excluded(self, data_class: str, tenant: str | None) -> bool:
        """Whether nothing of the segment may be kept: its tenant was purged, and did not come back."""
        return self._segments.excluded(SegmentName(self._database, data_class, tenant))

    def segment(self, data_class: str, tenant: str | None) -> SegmentReply:
        if self.excluded(data_class, tenant):
            return SegmentReply("")
        return SegmentReply(self.of(data_class, tenant).keyed.segment.pseudonym)

    def key(self, pseudonym: str) -> KeyReply:
        return KeyReply(self._index.public(Pseudonym(pseudonym)))

    def pack(self, done: PackDone) -> None:
        pseudonym = Pseudonym(done.pseudonym)
        number = self.numbers[done.container] = self.number()
        container = Container(number, pseudonym, ObjectHash(done.sha256), done.size)
        context = Context(self._generation.repository, self._generation.id, pseudonym)
        self._shipper.ship(
            Parcel(
                pack_name(context, container.sha256),
                Path(done.path),
                container.sha256,
                done.size,
                lambda: self._index.add_container(container, done.ids),
            )
        )

    def number(self) -> int:
        """A number no container of this generation has."""
        self._next += 1
        return self._next

    def has_room(self) -> bool:
        self._shipper.check()
        return self._shipper.spooled <= self._spool_size

    def spilled(self, spilled: Spilled) -> None:
        self.spills.append(spilled)

    def done(self, done: TaskDone) -> None:
        self.rows[done.task] = done.rows
        stored: dict[str, bytes] = {}
        for pseudonym, span in done.spans:
            if not pseudonym:
                self.left_out[done.task] = self.left_out.get(done.task, 0) + unpacked(span).rows
                continue
            stored[pseudonym] = span
        for pseudonym, span in stored.items():
            self.gathered[Pseudonym(pseudonym)].spans.add(done.task, span)
        self._counted[done.task] = sum(unpacked(span).rows for span in stored.values())

    def advanced(self, counters: Advanced) -> None:
        self.read += counters.read
        self.read_rows += counters.rows
        self.new += counters.added
        if self.watch is not None:
            trace, subject = self.watch
            trace.emit(
                Progress(
                    READING,
                    subject,
                    bytes_in=self.read,
                    bytes_out=self._shipper.sent,
                    rows=self.read_rows,
                    objects=self._shipper.objects,
                )
            )

    def counted(self, task: int) -> int:
        """Rows of a task summed over the segments that got them, and those left out."""
        return self._counted.get(task, 0) + self.left_out.get(task, 0)

    def kept(self, task: int) -> int:
        """Rows of a task, less those left out."""
        return self.rows[task] - self.left_out.get(task, 0)


def by_table(spans: Spans, places: dict[int, tuple[int, int]]) -> dict[int, list[Span]]:
    """Spans by table, in the order of the table's ranges; `places` says table and place of each task."""
    found: dict[int, list[tuple[int, Span]]] = defaultdict(list)
    for task, span in spans.items():
        if task in places:
            table, place = places[task]
            found[table].append((place, unpacked(span)))
    return {table: [span for _, span in sorted(some, key=lambda pair: pair[0])] for table, some in found.items()}
