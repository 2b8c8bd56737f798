"""What a part says of its segment: the entries, from what was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.model.routes import MappedTable, Shared, Tenant
from backupd.model.stored.manifest import Entry, FactsEntry, FileEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import ClassPolicy
from backupd.operations.backup.intake import by_table
from backupd.operations.backup.reading import STRUCTURE
from backupd.rows.protocol import unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.model.inventory import TableName
    from backupd.operations.backup.generation import Keyed
    from backupd.operations.backup.reading import Reading
    from backupd.rows.protocol import Span


class SegmentEntries:
    """Entries by segment. Sealed data only."""

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

    def entries(self, keyed: Keyed, read: Sequence[tuple[int, bytes]]) -> list[Entry]:
        """All but the segment's own line, in a fixed order; empty when there is nothing of it in this snapshot.

        `read` is what each task read for it.
        """
        name = keyed.name
        spans = by_table(read, self._places)
        entries: list[Entry] = []
        if name.data_class == STRUCTURE:
            entries += self._structure(name.tenant)
        entries += [_file(self._files[task], unpacked(span)) for task, span in sorted(read) if task in self._files]
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
        """Tables all of whose rows are one segment's: they have an entry even without rows."""
        owned: dict[tuple[str, str | None], list[int]] = {}
        for number, task in enumerate(self._tables):
            owner = _owner(task.mapped)
            if owner is not None:
                owned.setdefault(owner, []).append(number)
        return owned

    def _structure(self, tenant: str | None) -> list[Entry]:
        """Sequences and facts of the schemas that are this tenant's, or nobody's."""
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
        """Rows of every table that is cut by tenant or shared: what its segments must sum to."""
        rows: dict[TableName, int] = {}
        for task in self._reading.tables:
            if not isinstance(task.mapped.route, Tenant):
                counted = self._reading.intake.kept(task.copy.task)
                rows[task.mapped.table] = rows.get(task.mapped.table, 0) + counted
        return [[name.schema, name.table, count] for name, count in sorted(rows.items())]


def _begin_owner(reading: Reading, mapped: MappedTable) -> None:
    """Make sure the segment of a table without rows is among those that get a part."""
    owner = _owner(mapped)
    if owner is not None and mapped.policy is not ClassPolicy.NEVER and not reading.intake.excluded(*owner):
        reading.intake.of(*owner)


def _owner(mapped: MappedTable) -> tuple[str, str | None] | None:
    if isinstance(mapped.route, Tenant):
        return mapped.data_class, mapped.route.tenant
    return (mapped.data_class, None) if isinstance(mapped.route, Shared) else None


def _file(name: str, span: Span) -> FileEntry:
    return FileEntry(name, span.size, span.sha256, list(span.runs))
