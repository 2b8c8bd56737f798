"""Everything that a run has read of one database, before it is put into manifests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from backupd.model.inventory import Inventory
from backupd.model.tenancy import TenancyKind, TenancyMap
from backupd.operations.backup.collect import Collector
from backupd.operations.backup.tasks import FileTask, TableTask
from backupd.operations.backup.unread import Unread
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.source.exported import ExportedSnapshot
from backupd.postgres.source.facts import SourceFacts


@dataclass(slots=True)
class Reading:
    """Everything that was read of one database."""

    exported: ExportedSnapshot
    mapping: TenancyMap
    inventory: Inventory
    names: NamePatterns
    collector: Collector
    facts: dict[str | None, SourceFacts]
    tenancy_kind: TenancyKind
    tables: list[TableTask]
    unread: Unread
    files: list[FileTask] = field(default_factory=list)
    held_seconds: float = 0.0

    @property
    def table_count(self) -> int:
        """Number of tables whose rows were read."""
        return len({task.mapped.table for task in self.tables})

    @property
    def copied(self) -> int:
        """Bytes of COPY text, without tenants' prefixes."""
        files = {file.task.task for file in self.files}
        return sum(tally.size for task, tally in self.collector.tallies.items() if task not in files)

    def member(self, tag: Callable[[str], str]) -> str | None:
        """Return the mark that stands for the database in the record; None where the label has only one database."""
        return tag(self.exported.database) if self.tenancy_kind is TenancyKind.DATABASE else None
