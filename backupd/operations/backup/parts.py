"""Build the part of each segment from what was read; when nothing changed since the last run, that run's part is
used.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from backupd.model.ids import ObjectHash
from backupd.model.inventory import TableName
from backupd.model.manifest import Entry, FactsEntry, FileEntry, SegmentEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import ClassPolicy, MappedTable, Shared, Tenant
from backupd.operations.backup.collect import by_table
from backupd.operations.backup.generation import digest
from backupd.operations.backup.read import STRUCTURE
from backupd.repository.layout import part_name
from backupd.repository.parts import encode_entries
from backupd.repository.state.index import Generation, Index, IndexedContainer
from backupd.repository.uploader import Upload
from backupd.rows.protocol import Span, unpack_span
from backupd.rows.spill import Residue, joined
from backupd.seal.container_format import DATA, MANIFEST, ContainerContext
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.zstd import Compressor

if TYPE_CHECKING:
    from backupd.operations.backup.collect import Collector
    from backupd.operations.backup.generation import KeyedSegment
    from backupd.operations.backup.read import Reading

MANIFEST_BLOCK = 1 << 20
"""Plain bytes of a block of manifest lines."""
DATA_BLOCK = 512 << 10
"""Plain bytes of a block of chunks."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A segment's part before it is sealed: entries whose runs name containers by the index's numbers."""

    keyed: KeyedSegment
    entries: list[Entry]
    residues: Sequence[Residue]


@dataclass(frozen=True, slots=True)
class Placed:
    """A segment's part, new or old, with the containers it needs."""

    part: IndexedContainer
    needs: frozenset[int]
    """Numbers of the containers it refers to, its own left out."""
    upload: Upload | None
    """The object to upload; None when the part is on the store already."""


class PartBuilder:
    """Builds the parts of one generation, one after another."""

    def __init__(self, generation: Generation, index: Index, compressor: Compressor, collector: Collector) -> None:
        self._generation = generation
        self._index = index
        self._compressor = compressor
        self._number = collector.number
        self._numbers = collector.numbers

    def place(self, keyed: KeyedSegment, entries: Sequence[Entry], residues: Sequence[Residue]) -> Placed:
        """Return the part of a segment with these entries, built only when the last run's is not the same.

        `entries` lack the segment's own line, and their runs name containers as the workers did. `residues` are the
        segment's new chunks that are in no pack.
        """
        known = keyed.segment
        own = self._number()
        name = keyed.name
        listed: list[Entry] = [SegmentEntry(name.database, name.data_class, name.tenant)]
        inline = _inline(residues)
        listed += [_renumbered(entry, lambda k, c: self._resolve(inline, own, k, c)) for entry in entries]
        needs = frozenset(_containers(listed)) - {own}
        says = digest(self._generation.chunk_key, b"".join(encode_entries(listed)))
        if known.part is not None and known.part_digest == says:
            part = self._index.containers([known.part]).get(known.part)
            if part is not None:
                return Placed(part, needs - {part.number}, None)
        return self._build(Draft(keyed, listed, residues), own, needs, says)

    def _resolve(self, inline: dict[int, int], own: int, container: int, chunk: int) -> tuple[int, int]:
        """Return a worker's reference to a chunk as the index would write it."""
        if container > 0:
            return container, chunk
        if container in inline:
            return own, inline[container] + chunk
        return self._numbers[container], chunk

    def _build(self, draft: Draft, own: int, needs: frozenset[int], says: bytes) -> Placed:
        segment = draft.keyed.segment
        context = ContainerContext(self._generation.repository, self._generation.id, segment.pseudonym)
        needed = [container for _, container in sorted(self._index.containers(sorted(needs)).items())]
        if len(needed) != len(needs):
            raise LookupError("a part refers to a container that was never published")
        order = {own: 0, **{container.number: place for place, container in enumerate(needed, start=1)}}
        entries = [_renumbered(entry, lambda k, c: (order[k], c)) for entry in draft.entries]
        out = io.BytesIO()
        packs: list[tuple[ObjectHash, int]] = [(container.sha256, container.size) for container in needed]
        public = self._index.public(segment.pseudonym)
        writer = ContainerWriter(out, "part", context, public, compressor=self._compressor, packs=packs)
        for chunks, ids in joined(draft.residues, DATA_BLOCK):
            writer.add(DATA, b"".join(chunks), [len(chunk) for chunk in chunks], ids)
        for block in _together(encode_entries(entries), MANIFEST_BLOCK):
            writer.add(MANIFEST, block)
        finished = writer.finish()
        part = IndexedContainer(own, segment.pseudonym, finished.sha256, finished.size)
        ids = bytes(writer.ids)

        def published() -> None:
            self._index.add_part(draft.keyed.tag, part, ids, says)

        upload = Upload(part_name(context, part.sha256), out.getvalue(), part.sha256, part.size, published)
        return Placed(part, needs, upload)


def _inline(residues: Iterable[Residue]) -> dict[int, int]:
    """Return where the chunks of each container begin that becomes part of this part, by the workers' numbers."""
    found: dict[int, int] = {}
    chunks = 0
    for residue in residues:
        found.setdefault(residue.container, chunks)
        chunks += len(residue.chunks)
    return found


def _renumbered(entry: Entry, place: Callable[[int, int], tuple[int, int]]) -> Entry:
    if not isinstance(entry, TableEntry | FileEntry):
        return entry
    runs: list[int] = []
    for position in range(0, len(entry.runs), 3):
        container, first = place(entry.runs[position], entry.runs[position + 1])
        number = entry.runs[position + 2]
        if runs and runs[-3] == container and runs[-2] + runs[-1] == first:
            runs[-1] += number
        else:
            runs += (container, first, number)
    return msgspec.structs.replace(entry, runs=runs)


def _containers(entries: Iterable[Entry]) -> Iterator[int]:
    for entry in entries:
        if isinstance(entry, TableEntry | FileEntry):
            yield from entry.runs[::3]


def _together(lines: Iterable[bytes], size: int) -> Iterator[bytes]:
    held: list[bytes] = []
    length = 0
    for line in lines:
        held.append(line)
        length += len(line)
        if length >= size:
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)


class SegmentEntries:
    """The manifest entries of every segment, made from what was read. Holds no rows, only digests and counts."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        tables = sorted({task.mapped.table: task for task in reading.tables}.values(), key=lambda t: t.mapped.table)
        self._tables = tables
        numbers = {task.mapped.table: number for number, task in enumerate(tables)}
        self._places = {task.copy.task: (numbers[task.mapped.table], task.place) for task in reading.tables}
        self._files = {file.task.task: file.name for file in reading.files}
        self._own = self._owned_tables()
        for task in tables:
            _begin_owner(reading, task.mapped)

    def entries(self, keyed: KeyedSegment, read: Sequence[tuple[int, bytes]]) -> list[Entry]:
        """Return a segment's entries in a fixed order, without its own line; none when this snapshot has none of it.

        `read` has each task that read something of the segment, with the packed span.
        """
        name = keyed.name
        spans = by_table(read, self._places)
        entries: list[Entry] = []
        if name.data_class == STRUCTURE:
            entries += self._structure(name.tenant)
        entries += [_file(self._files[task], unpack_span(span)) for task, span in sorted(read) if task in self._files]
        wanted = sorted({*spans, *self._own.get((name.data_class, name.tenant), ())})
        entries += [self._table(number, spans.get(number, [])) for number in wanted]
        return entries

    def _table(self, number: int, spans: list[Span]) -> TableEntry:
        table = self._tables[number].table
        return TableEntry(
            schema=table.name.schema,
            table=table.name.table,
            columns=list(table.columns),
            rows=sum(span.rows for span in spans),
            bytes=sum(span.size for span in spans),
            spans=[(span.rows, span.size, span.sha256) for span in spans],
            runs=[value for span in spans for value in span.runs],
        )

    def _owned_tables(self) -> dict[tuple[str, str | None], list[int]]:
        """Return tables all of whose rows are one segment's, by segment: they have an entry there even without rows."""
        owned: dict[tuple[str, str | None], list[int]] = {}
        for number, task in enumerate(self._tables):
            owner = _owner(task.mapped)
            if owner is not None:
                owned.setdefault(owner, []).append(number)
        return owned

    def _structure(self, tenant: str | None) -> list[Entry]:
        """Return sequences and facts of the schemas that are this tenant's, or nobody's."""
        reading = self._reading
        own = reading.facts.get(tenant)
        if own is None:
            return []
        facts = dict(own.facts)
        if tenant == reading.names.whole:
            facts["tables"] = self._totals()
        entries: list[Entry] = [SequencesEntry(list(own.sequences))] if own.sequences else []
        return [*entries, FactsEntry(facts)] if facts else entries

    def _totals(self) -> list[list[object]]:
        """Return the rows of every table that is divided by tenant or shared: its segments must sum to them."""
        rows: dict[TableName, int] = {}
        for task in self._reading.tables:
            if not isinstance(task.mapped.route, Tenant):
                counted = self._reading.collector.tallies[task.copy.task].kept
                rows[task.mapped.table] = rows.get(task.mapped.table, 0) + counted
        return [[name.schema, name.table, count] for name, count in sorted(rows.items())]


def _begin_owner(reading: Reading, mapped: MappedTable) -> None:
    """Make sure that the segment of a table without rows is among those that get a part."""
    owner = _owner(mapped)
    if owner is not None and mapped.policy is not ClassPolicy.NEVER and not reading.collector.excluded(*owner):
        reading.collector.of(*owner)


def _owner(mapped: MappedTable) -> tuple[str, str | None] | None:
    if isinstance(mapped.route, Tenant):
        return mapped.data_class, mapped.route.tenant
    return (mapped.data_class, None) if isinstance(mapped.route, Shared) else None


def _file(name: str, span: Span) -> FileEntry:
    return FileEntry(name, span.size, span.sha256, list(span.runs))
