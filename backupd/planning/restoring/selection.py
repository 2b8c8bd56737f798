"""What of a snapshot is wanted: tenants, data classes, tables. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from backupd.errors import UsageError
from backupd.model.tenancy import SegmentName

STRUCTURE = "structure"
"""The class of schemas, roles and facts (FORMAT.md §7): a database needs them whatever else is wanted."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Empty sets mean everything. Shared segments come with a tenant's: its rows refer to theirs."""

    tenants: frozenset[str] = field(default=frozenset(), repr=False)
    classes: frozenset[str] = frozenset()
    tables: tuple[str, ...] = ()
    """Shell-style patterns over `schema.table`."""

    @property
    def everything(self) -> bool:
        return not (self.tenants or self.classes or self.tables)

    @property
    def closed(self) -> bool:
        """Whether what is selected refers to nothing that is not: whole tables are left out of it otherwise."""
        return not (self.classes or self.tables)

    def takes_segment(self, name: SegmentName) -> bool:
        """Whether anything of the segment is wanted."""
        if self.tenants and name.tenant is not None and name.tenant not in self.tenants:
            return False
        return not self.classes or name.data_class in (*self.classes, STRUCTURE)

    def takes_table(self, schema: str, table: str) -> bool:
        """Whether rows of the table are wanted; its structure always is."""
        return not self.tables or any(fnmatchcase(f"{schema}.{table}", pattern) for pattern in self.tables)

    def require_found(self, names: set[SegmentName]) -> None:
        """Raises UsageError when a tenant or class is not among the segments a snapshot has."""
        missing = self.tenants - {name.tenant for name in names}
        if missing:
            raise UsageError(
                f"the snapshot holds nothing of {len(missing)} of the tenants asked for",
                hint="Names are as in the database's tenant column or pattern; a purged tenant is in no snapshot.",
            )
        unknown = self.classes - {name.data_class for name in names}
        if unknown:
            raise UsageError(
                f"the snapshot holds nothing of class {', '.join(sorted(unknown))}",
                hint="Classes are those of the configuration when the snapshot was made.",
            )
