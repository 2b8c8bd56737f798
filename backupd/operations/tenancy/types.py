"""The report about the mapping of one database. It names tables, and no tenant."""

from __future__ import annotations

from dataclasses import dataclass

from backupd.model.tenancy import Gap, TableRule
from backupd.planning.mapping.toml_rules import rule_keys


@dataclass(frozen=True, slots=True)
class TenancyWay:
    """A way from an unmapped table to its tenants, as a rule would have it, with what rows say of it."""

    column: str | None
    path: tuple[str, ...]
    remark: str
    """Why it is not taken without being asked for; empty when nothing but other ways speaks against it."""
    named: int | None
    """Rows that it leads to a tenant; None where they were not counted."""

    @property
    def rule(self) -> str:
        """Return the key and value of the rule, in TOML."""
        return ", ".join(rule_keys(TableRule((), column=self.column, path=self.path)))


@dataclass(frozen=True, slots=True)
class TenancyLine:
    """The mapping of one table.

    One line stands for the partitions of a table, for tables of the same name in all tenants' schemas, which it does
    not name, and for those in all databases of a server.
    """

    table: str
    route: str
    """`shared`, `column …`, `path … > … > column`, `schema`, `database`, or why it is unmapped."""
    data_class: str | None
    """The table's data class; None when the table is unmapped."""
    policy: str | None
    rows: int | None
    """PostgreSQL's estimate; None where it has none."""
    tables: int = 1
    """How many tables the line stands for."""
    mapped: bool = True
    by_default: bool = False
    """Whether its keys gave it its route, and nobody said so."""
    gap: Gap | None = None
    """Why it is unmapped; None when it is mapped."""
    ways: tuple[TenancyWay, ...] = ()
    """Ways that would map an unmapped table; for a mapped one, other ways that its keys would have allowed."""
    counted: int | None = None
    """Rows that were counted, or sampled; None where nothing was."""
    sampled: bool = False
    without: int = 0
    """Of the counted rows of a mapped table, those whose tenant is NULL."""
    missed: int = 0
    """Of these, those that another way leads to a tenant: shared, they would outlive its purge."""
    refuses: bool = False
    """Whether a backup stops at such rows; otherwise they are shared."""
    apart: int = 0
    """Of the counted rows, those that two ways lead to different tenants."""
    hint: str = ""
    """What to do about a table whose tenants may have several spellings; empty for others."""

    @property
    def settled(self) -> bool:
        """True when a backup would take the table, and no row speaks against how."""
        return self.mapped and not (self.without and self.refuses) and not self.apart and not self.missed


@dataclass(frozen=True, slots=True)
class TenancyReport:
    """The mapping of every table of one database, or of all databases that a label stands for."""

    database: str
    """The database's configured label."""
    lines: tuple[TenancyLine, ...]
    databases: int = 1
    ruled: bool = False
    """Whether rules are configured."""

    @property
    def complete(self) -> bool:
        """True when a backup would take every table, and no row speaks against how one is mapped."""
        return all(line.settled for line in self.lines)
