"""Tenancy as values: the configured rules, and the outcome of mapping a database's tables by them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from backupd.model.inventory import ForeignKey, TableName


class TenancyKind(StrEnum):
    """The ways in which the rows of a database belong to tenants."""

    COLUMN = "column"
    SCHEMA = "schema"
    DATABASE = "database"
    NONE = "none"


class ClassPolicy(StrEnum):
    """The policy of a data class: whether its rows are backed up."""

    STANDARD = "standard"
    NEVER = "never"
    """Structure only: rows of such tables are not read."""


STRUCTURE: Final = "structure"
"""The data class of schemas, roles, sequences and facts: they are kept as long as any snapshot (FORMAT.md §7)."""


@dataclass(frozen=True, slots=True)
class SegmentName:
    """The name that a pseudonym stands for. Sealed data only: never print, log or store it elsewhere."""

    database: str
    data_class: str
    tenant: str | None
    """The tenant's name; None for the shared segment."""


@dataclass(frozen=True, slots=True)
class TableRule:
    """One configured rule; the first rule whose pattern matches `schema.table` decides."""

    tables: tuple[str, ...]
    """Shell-style patterns over `schema.table`."""
    column: str | None = None
    """The tenant column, when it is not the database's default."""
    path: tuple[str, ...] = ()
    """Names of foreign-key constraints to follow from this table to one with a tenant column."""
    shared: bool = False
    data_class: str | None = None
    null_tenant: str | None = None
    """`refuse` or `shared`: what becomes of a row whose tenant is NULL; None leaves it to the database's."""


@dataclass(frozen=True, slots=True)
class Tenancy:
    """The configured rules by which one database's rows belong to tenants."""

    kind: TenancyKind
    column: str | None = None
    """The default tenant column (kind column)."""
    table: TableName | None = None
    """The tenants' table (kind column), from which tables without a rule or the column are mapped by their keys."""
    schema_pattern: str | None = None
    """Regular expression with a group `tenant`, matched against whole schema names (kind schema)."""
    database_pattern: str | None = None
    """Regular expression with a group `tenant`, matched against whole database names (kind database)."""
    without_databases: tuple[str, ...] = ()
    """Databases that are named after no tenant and are not backed up (kind database)."""
    role_pattern: str | None = None
    """Regular expression with a group `tenant`, matched against role names (any kind): such roles belong to that
    tenant's segment."""
    rules: tuple[TableRule, ...] = ()
    unclassified: str = "refuse"
    """`refuse` or `shared`: what becomes of a table that no rule and no column covers."""
    null_tenant: str = "refuse"
    """`refuse` or `shared`: what becomes of a row whose tenant is NULL, where its rule does not say."""
    default_class: str = "uploaded"
    classes: dict[str, ClassPolicy] = field(default_factory=lambda: {"uploaded": ClassPolicy.STANDARD})
    """Every class named anywhere, with its policy."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The route of a table whose rows belong to no tenant."""


@dataclass(frozen=True, slots=True)
class Column:
    """The route of a table in which each row names its tenant."""

    column: str


@dataclass(frozen=True, slots=True)
class Step:
    """One foreign key of a path; `whole` targets are partitioned tables, which are read with their partitions."""

    key: ForeignKey
    whole: bool


@dataclass(frozen=True, slots=True)
class ForeignKeyPath:
    """The route of a table whose rows lead by foreign keys to a row that names its tenant."""

    steps: tuple[Step, ...]
    column: str
    """The tenant column of the last step's target."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """The route of a table that belongs to one tenant (tenancy by schema or by database). The tenant's name is data."""

    tenant: str


Route: TypeAlias = Shared | Column | ForeignKeyPath | Tenant


@dataclass(frozen=True, slots=True)
class Way:
    """A way from an unmapped table to its tenants, as a rule may name it: a column, or foreign keys."""

    column: str | None = None
    path: tuple[str, ...] = ()
    remark: str = ""
    """Why it is not taken without being asked for; empty when nothing but other ways speaks against it."""
    route: Route | None = None
    """The route that a rule of it would give the table; None where that is open as long as other tables are."""


@dataclass(frozen=True, slots=True)
class MappedTable:
    """A table that the tenancy covers."""

    table: TableName
    route: Route
    data_class: str
    policy: ClassPolicy
    null_to_shared: bool = False
    """Whether rows without a tenant are shared; otherwise such a row fails the run."""
    by_default: bool = False
    """Whether its keys gave it its route, and neither a rule nor the tenant column."""
    others: tuple[Way, ...] = ()
    """Other ways to a tenant that its keys would have given it as well."""
    root: TableName | None = None
    """The topmost table that it is a partition of."""


class Gap(StrEnum):
    """The reasons why a table is not mapped."""

    RULE = "rule"
    """Its rule, or its tenants' column, is at fault."""
    SEVERAL = "several"
    """Several ways lead to a tenant, and it takes a person to say which is meant."""
    REFERRED = "referred to"
    """No row says whose it is, and another table refers to each one to one."""
    DOUBTFUL = "doubtful"
    """There is a way, and something speaks against it."""
    WAITING = "waiting"
    """It follows another table, which is not mapped yet."""
    NO_WAY = "no way"
    """Nothing leads from it to a tenant."""


@dataclass(frozen=True, slots=True)
class UnmappedTable:
    """A table that the tenancy does not cover."""

    table: TableName
    reason: str
    ways: tuple[Way, ...] = ()
    """Ways that would cover it, the best first."""
    gap: Gap = Gap.RULE
    ambiguous: bool = False
    """Whether it is covered, but one tenant may have several spellings in it."""
    root: TableName | None = None
    """The topmost table that it is a partition of, whose rule would cover it."""


@dataclass(frozen=True, slots=True)
class TenancyMap:
    """The route of every dumped table, each exactly once, ordered by name."""

    tables: tuple[MappedTable, ...]
    unmapped: tuple[UnmappedTable, ...]
    tenant: str | None = None
    """The tenant that the whole database belongs to (tenancy by database)."""
