"""The manifest entries of every segment, made from what was read. They hold no rows, only digests and counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from backupd.model.ids import Pseudonym
from backupd.model.inventory import TableName
from backupd.model.manifest import Entry, FactsEntry, FileEntry, RowsEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import STRUCTURE, ClassPolicy, MappedTable, Shared, Tenant
from backupd.operations.backup.collect import by_table
from backupd.operations.backup.generation import keyed_tag
from backupd.rows.protocol import Span, unpack_span

if TYPE_CHECKING:
    from backupd.operations.backup.collect import RunTarget
    from backupd.operations.backup.source_content import Reading


class SegmentEntries:
    """The entries of one snapshot, segment by segment.

    Most segments have nothing but tables' rows, which the workers know by pseudonym. The others, `named`, have
    structure, or a table that is theirs even without rows.
    """

    def __init__(self, reading: Reading, target: RunTarget) -> None:
        self._reading = reading
        self._target = target
        self._tables = sorted(
            {task.mapped.table: task for task in reading.tables}.values(), key=lambda t: t.mapped.table
        )
        numbers = {task.mapped.table: number for number, task in enumerate(self._tables)}
        self._places = {task.copy.task: (numbers[task.mapped.table], task.place) for task in reading.tables}
        self._files = {file.task.task: file.name for file in reading.files}
        self._definitions = [self._definition(task.table.name, task.table.columns) for task in self._tables]
        self.named: dict[Pseudonym, tuple[str, str | None]] = {}
        """Data class and tenant of segments that are more than tables' rows."""
        self._own: dict[Pseudonym, list[int]] = {}
        self._name_structure()
        self._name_owners()

    def entries(self, segment: Pseudonym, read: Sequence[tuple[int, bytes]]) -> list[Entry]:
        """Return a segment's entries in a fixed order; none when this snapshot has nothing of it.

        `read` has each task that read something of the segment, with the packed span.
        """
        spans = by_table(read, self._places)
        entries: list[Entry] = []
        name = self.named.get(segment)
        if name is not None and name[0] == STRUCTURE:
            entries += self._structure(name[1])
        entries += [_file(self._files[task], unpack_span(span)) for task, span in sorted(read) if task in self._files]
        wanted = sorted({*spans, *self._own.get(segment, ())})
        return entries + [self._rows(number, spans.get(number, ())) for number in wanted]

    def _rows(self, number: int, spans: Sequence[Span]) -> RowsEntry:
        return RowsEntry(
            self._definitions[number].number,
            [(span.rows, span.size, span.sha256) for span in spans],
            [value for span in spans for value in span.runs],
        )

    def _definition(self, name: TableName, columns: Sequence[str]) -> TableEntry:
        tag = keyed_tag(
            self._target.generation, "definition", self._target.names.database, name.schema, name.table, list(columns)
        )
        return TableEntry(self._target.index.definition(tag), name.schema, name.table, list(columns))

    def _name_structure(self) -> None:
        """Name the structure segments: the database's own, and those of tenants with schemas or roles.

        A tenant may have nothing but a file there, as of a schema with no more than functions.
        """
        files = {file.task.tenant for file in self._reading.files if file.task.data_class == STRUCTURE}
        definers = filter(None, map(_definer, self._mapped()))
        for tenant in {self._reading.names.whole, *self._reading.facts, *files, *definers}:
            self._name(STRUCTURE, tenant)

    def _name_owners(self) -> None:
        """Name the segments that own all rows of a table: they have an entry of it even without rows."""
        for number, task in enumerate(self._tables):
            owner = _owner(task.mapped)
            if owner is not None and task.mapped.policy is not ClassPolicy.NEVER:
                segment = self._name(*owner)
                if segment is not None:
                    self._own.setdefault(segment, []).append(number)

    def _name(self, data_class: str, tenant: str | None) -> Pseudonym | None:
        names = self._target.names.of(data_class, tenant)
        if names is None:
            return None
        self.named[names.pseudonym] = data_class, tenant
        return names.pseudonym

    def _mapped(self) -> Iterator[MappedTable]:
        return (task.mapped for task in self._tables)

    def _structure(self, tenant: str | None) -> list[Entry]:
        """Return definitions, sequences and facts of the schemas that are this tenant's, or nobody's."""
        reading = self._reading
        whole = reading.names.whole
        found: list[Entry] = [
            definition
            for definition, mapped in zip(self._definitions, self._mapped(), strict=True)
            if (_definer(mapped) or whole) == tenant
        ]
        own = reading.facts.get(tenant)
        facts = {} if own is None else dict(own.facts)
        if tenant == whole:
            facts["tables"] = self._totals()
        if own is not None and own.sequences:
            found.append(SequencesEntry(list(own.sequences)))
        return [*found, FactsEntry(facts)] if facts else found

    def _totals(self) -> list[list[object]]:
        """Return the rows of every table that is divided by tenant or shared: its segments must sum to them."""
        rows: dict[TableName, int] = {}
        for task in self._reading.tables:
            if not isinstance(task.mapped.route, Tenant):
                counted = self._reading.collector.tallies[task.copy.task].kept
                rows[task.mapped.table] = rows.get(task.mapped.table, 0) + counted
        return [[name.schema, name.table, count] for name, count in sorted(rows.items())]


def _definer(mapped: MappedTable) -> str | None:
    """Return the tenant in whose structure a table is defined; None for the database's own."""
    return mapped.route.tenant if isinstance(mapped.route, Tenant) else None


def _owner(mapped: MappedTable) -> tuple[str, str | None] | None:
    if isinstance(mapped.route, Tenant):
        return mapped.data_class, mapped.route.tenant
    return (mapped.data_class, None) if isinstance(mapped.route, Shared) else None


def _file(name: str, span: Span) -> FileEntry:
    return FileEntry(name, span.size, span.sha256, list(span.runs))
