"""Tenancy as values: the configured rules, what the database showed, and how every table is mapped.

Where the rows of each table go: the outcome of mapping an inventory by the configured tenancy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from backupd.model.inventory import ForeignKey, TableName


class TenancyKind(StrEnum):
    COLUMN = "column"
    SCHEMA = "schema"
    DATABASE = "database"
    NONE = "none"


class ClassPolicy(StrEnum):
    """What a data class asks of a backup."""

    STANDARD = "standard"
    NEVER = "never"
    """Structure only: rows of such tables are not read."""


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a pseudonym stands for. Sealed data only: never print, log or store it elsewhere."""

    database: str
    data_class: str
    tenant: str | None
    """None: the shared segment."""


@dataclass(frozen=True, slots=True)
class TableRule:
    """One configured rule; the first whose pattern matches `schema.table` decides."""

    tables: tuple[str, ...]
    """Shell-style patterns over `schema.table`."""
    column: str | None = None
    """Tenant column, when it is not the database's default."""
    path: tuple[str, ...] = ()
    """Foreign-key constraint names to follow from this table up to one with a tenant column."""
    shared: bool = False
    data_class: str | None = None
    null_tenant: str = "refuse"
    """`refuse` or `shared`: where a row goes whose tenant is NULL."""


@dataclass(frozen=True, slots=True)
class Tenancy:
    """How one database's rows belong to tenants."""

    kind: TenancyKind
    column: str | None = None
    """Default tenant column (kind column)."""
    schema_pattern: str | None = None
    """Regular expression with a group `tenant`, matched against whole schema names (kind schema)."""
    database_pattern: str | None = None
    """Likewise against database names (kind database)."""
    role_pattern: str | None = None
    """Likewise against role names, any kind: such roles go to that tenant's segment."""
    rules: tuple[TableRule, ...] = ()
    unclassified: str = "refuse"
    """`refuse` or `shared`: what becomes of a table no rule and no column covers."""
    default_class: str = "uploaded"
    classes: dict[str, ClassPolicy] = field(default_factory=lambda: {"uploaded": ClassPolicy.STANDARD})
    """Every class named anywhere, with its policy."""


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
