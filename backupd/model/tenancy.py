"""Tenancy as values: the configured rules, what the database showed, and how every table is mapped."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


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
