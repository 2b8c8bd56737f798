"""Where the rows of each table go: the outcome of mapping an inventory by the configured tenancy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from backupd.model.inventory import ForeignKey, TableName
from backupd.model.tenancy import ClassPolicy


@dataclass(frozen=True, slots=True)
class Shared:
    """All rows belong to nobody."""


@dataclass(frozen=True, slots=True)
class Column:
    """Each row names its tenant."""

    column: str


@dataclass(frozen=True, slots=True)
class Step:
    """One foreign key on the way; `whole` targets are partitioned tables, which are read with their partitions."""

    key: ForeignKey
    whole: bool


@dataclass(frozen=True, slots=True)
class ForeignKeyPath:
    """Each row leads by foreign keys to one that names its tenant."""

    steps: tuple[Step, ...]
    column: str
    """Of the last step's target."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """All rows belong to one tenant (tenancy by schema or by database). Its name is data."""

    tenant: str


Route: TypeAlias = Shared | Column | ForeignKeyPath | Tenant


@dataclass(frozen=True, slots=True)
class MappedTable:
    """A table the tenancy covers."""

    table: TableName
    route: Route
    data_class: str
    policy: ClassPolicy
    null_to_shared: bool = False
    """Whether rows without a tenant go to the shared segment; they fail the run otherwise."""


@dataclass(frozen=True, slots=True)
class UnmappedTable:
    """A table the tenancy does not cover."""

    table: TableName
    reason: str
    proposals: tuple[tuple[str, ...], ...] = ()
    """Foreign-key paths that would cover it, by constraint names, shortest first."""
    ambiguous: bool = False
    """It is covered, but one tenant may have several spellings in it."""


@dataclass(frozen=True, slots=True)
class TenancyMap:
    """Every dumped table exactly once, ordered by name."""

    tables: tuple[MappedTable, ...]
    unmapped: tuple[UnmappedTable, ...]
    tenant: str | None = None
    """Whom the whole database belongs to (tenancy by database)."""
