"""Rules for a database that nobody has mapped yet: which column names the tenant, and what follows from it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from backupd.model.inventory import Inventory, TableName
from backupd.model.tenancy import TableRule, Tenancy
from backupd.planning.mapping.tables import map_tables
from backupd.planning.mapping.toml_rules import pattern_of

_TENANT_WORDS = re.compile(r"tenant|customer|client|account|company|org|workspace|team|shop|site", re.IGNORECASE)
_MOST_COLUMNS = 5


@dataclass(frozen=True, slots=True)
class OpenTable:
    """A table that no rule covers yet, and the rules that would, best first; leaving it shared is none of them."""

    table: TableName
    reason: str
    rules: tuple[TableRule, ...]


def tenant_column_candidates(inventory: Inventory) -> tuple[str, ...]:
    """Return the columns that may name a tenant: those of several tables whose name says so first, then by number."""
    counted = Counter(column for table in inventory.tables if table.dumped for column in table.columns)
    likely = [name for name in counted if _TENANT_WORDS.search(name) or (name.endswith("_id") and counted[name] > 1)]
    likely.sort(key=lambda name: (not _TENANT_WORDS.search(name), -counted[name], name))
    return tuple(likely[:_MOST_COLUMNS])


def tenant_table(inventory: Inventory, column: str) -> TableName | None:
    """Return the table to whose rows the most tables refer by the tenants' column; None when none does."""
    targets = Counter(
        key.target for table in inventory.tables for key in table.foreign_keys if key.columns == (column,)
    )
    return next((name for name, _ in targets.most_common(1)), None)


def open_tables(tenancy: Tenancy, inventory: Inventory) -> tuple[OpenTable, ...]:
    """Return each table that the tenancy does not cover, with rules that would cover it."""
    return tuple(
        OpenTable(
            one.root or one.table,
            one.reason,
            tuple(
                TableRule((pattern_of(one.root or one.table),), column=way.column, path=way.path) for way in one.ways
            ),
        )
        for one in map_tables(tenancy, inventory).unmapped
    )


def joined_rules(rules: tuple[TableRule, ...]) -> tuple[TableRule, ...]:
    """Put tables that have the same rule into one, in the order in which each kind of rule comes first."""
    found: dict[TableRule, tuple[str, ...]] = {}
    for rule in rules:
        kind = replace(rule, tables=())
        found[kind] = (*found.get(kind, ()), *rule.tables)
    return tuple(replace(kind, tables=tables) for kind, tables in found.items())
