"""Which rows of a table are one tenant's, as SQL conditions. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.model.routes import Column, ForeignKeyPath, Tenant
from backupd.postgres.quoting import identifier, literal, qualified

if TYPE_CHECKING:
    from backupd.model.inventory import ForeignKey
    from backupd.model.routes import Route


@dataclass(frozen=True, slots=True)
class Belonging:
    """Two conditions on the rows of a table under an alias; of every row exactly one is true."""

    route: Route
    tenant: str = field(repr=False)

    def ours(self, alias: str = "t") -> str:
        """The row is the tenant's. Shared tables, and those of other tenants, have none."""
        match self.route:
            case Column(column):
                return _named(alias, column, self.tenant)
            case ForeignKeyPath():
                return f"EXISTS ({_led(self.route, alias, self.tenant)})"
            case Tenant(owner) if owner == self.tenant:
                return "true"
        return "false"

    def others(self, alias: str = "t") -> str:
        """It is not."""
        ours = self.ours(alias)
        return f"NOT {ours}" if isinstance(self.route, ForeignKeyPath) else f"({ours}) IS NOT TRUE"


def _named(alias: str, column: str, tenant: str) -> str:
    """Compared by type, so that an index serves, and as text, by which a backup routes."""
    name, value = f"{alias}.{identifier(column)}", literal(tenant)
    return f"{name} = {value} AND {name}::pg_catalog.text = {value}"


def _led(route: ForeignKeyPath, alias: str, tenant: str) -> str:
    tables, conditions, left = [], [], alias
    for number, step in enumerate(route.steps, start=1):
        right, target = f"p{number}", step.key.target
        tables.append(f"{'' if step.whole else 'ONLY '}{qualified(target.schema, target.table)} AS {right}")
        conditions.append(matched(step.key, left, right))
        left = right
    conditions.append(_named(left, route.column, tenant))
    return f"SELECT FROM {', '.join(tables)} WHERE {' AND '.join(conditions)}"


def matched(key: ForeignKey, referring: str, target: str) -> str:
    """The condition that a row refers to another, by their aliases."""
    pairs = zip(key.target_columns, key.operators, key.columns, strict=True)
    return " AND ".join(
        f"{target}.{identifier(wanted)} {operator} {referring}.{identifier(column)}"
        for wanted, operator, column in pairs
    )
