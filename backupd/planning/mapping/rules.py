"""The configured part of the mapping: what names, rules and tenant columns say of each table. Pure.

In this order, the first that applies decides: the database belongs to a tenant; the schema does; the first rule whose
pattern matches the table's name, or that of a partitioned table it is a partition of; being the tenants' table; the
database's tenant column. A rule never moves a table out of its tenant's own schema or database: its very name would
remain there.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cached_property

from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import Column, ForeignKeyPath, Route, Shared, Step, TableRule, Tenancy, TenancyKind, Tenant
from backupd.model.text import counted
from backupd.planning.mapping.names import NamePatterns
from backupd.planning.mapping.referrers import SIGN, Referrers, backward

_NO_RULE = TableRule(tables=())


class UncoveredError(Exception):
    """The reason why a table cannot be mapped."""


class TenancyRules:
    """The rules of one tenancy, applied to the tables of one inventory."""

    def __init__(self, tenancy: Tenancy, tables: Mapping[TableName, Table], names: NamePatterns) -> None:
        self._tenancy = tenancy
        self._tables = tables
        self._names = names
        self._found: dict[TableName, TableRule] = {}

    def of(self, table: Table) -> TableRule:
        """Return the rule that decides about a table; an empty one when none matches."""
        if table.name not in self._found:
            names = [name.dotted for name in (table.name, *table.parents)]
            self._found[table.name] = next(
                (
                    rule
                    for rule in self._tenancy.rules
                    if any(fnmatchcase(name, pattern) for pattern in rule.tables for name in names)
                ),
                _NO_RULE,
            )
        return self._found[table.name]

    def direct(self, table: Table) -> Route | None:
        """Return the route that needs no other table: by name, as shared, or by a column. None: there is none.

        Raises UncoveredError for a rule that names a column which is not there.
        """
        tenancy, rule = self._tenancy, self.of(table)
        tenant = self._names.schema(table.name.schema)
        if tenant is not None:
            return Tenant(tenant)
        if rule.shared or tenancy.kind is TenancyKind.NONE:
            return Shared()
        if rule.path:
            return None
        if rule.column is None and tenancy.table in (table.name, *table.parents[-1:]):
            return _own_key(table)
        column = rule.column or tenancy.column
        if column is not None and table.has(column):
            return Column(column)
        if rule.column is not None:
            raise UncoveredError(f"its rule names column {rule.column!r}, which it does not have")
        return None

    def steps(self, table: Table) -> tuple[tuple[Step, ...], Table]:
        """Return the steps of a table's rule, and the table they lead to. Raises UncoveredError."""
        found = []
        for name in self.of(table).path:
            key = self._backward_key(table, name) if name.startswith(SIGN) else _named_key(table, name)
            step = as_step(self._tables, key)
            found.append(step)
            table = self._tables[step.key.target]
        return tuple(found), table

    def _backward_key(self, table: Table, name: str) -> ForeignKey:
        """Return the key by which a rule goes from a row to the one that refers to it. Raises UncoveredError."""
        found = [
            (owner, key)
            for owner, key in self._referrers.of(table)
            if name in (spelled_backward(owner, key), f"{SIGN}{owner.name.dotted}.{key.name}")
        ]
        if len(found) != 1:
            raise UncoveredError(f"its path names {name!r}, and {counted(len(found), 'foreign key')} of that name")
        ((owner, key),) = found
        return backward(owner, _sound(key, name, single=True))

    @cached_property
    def _referrers(self) -> Referrers:
        return Referrers(self._tables)


def _own_key(table: Table) -> Column:
    """Return the column that names the tenant in the tenants' table itself. Raises UncoveredError."""
    if len(table.primary) == 1:
        return Column(table.primary[0])
    raise UncoveredError(
        f"it is the tenants' table, and its primary key has {counted(len(table.primary), 'column')} and not one; "
        "a rule with `column` says which names the tenant"
    )


def as_step(tables: Mapping[TableName, Table], key: ForeignKey) -> Step:
    """Return a key as a step of a path."""
    return Step(key, whole=tables[key.target].kind is TableKind.PARTITIONED)


def onward(step: Step, end: Route) -> Route:
    """Return the route of a row that a key leads to a row with the given route, which names its tenant.

    Where the key itself holds the tenant's value, there is no need to look at the other row.
    """
    if isinstance(end, Column) and end.column in step.key.target_columns:
        return Column(step.key.columns[step.key.target_columns.index(end.column)])
    return joined((step,), end)


def joined(steps: tuple[Step, ...], end: Route) -> ForeignKeyPath:
    """Return the path along these steps to a row with the given route.

    Raises UncoveredError when that names no tenant.
    """
    if isinstance(end, Column):
        return ForeignKeyPath(steps, end.column)
    if isinstance(end, ForeignKeyPath):
        return ForeignKeyPath((*steps, *end.steps), end.column)
    raise UncoveredError("its foreign-key path ends at a table whose rows name no tenant")


def spelled(table: Table, key: ForeignKey) -> str:
    """Return how a rule names a key of a table: by its only column where that means no other key, else by its name.

    Names of keys are made by programs, long, and in each partition others.
    """
    name, others = key.columns[0], [one for one in table.foreign_keys if one.columns == key.columns]
    plain = len(key.columns) == 1 and len(others) <= 1
    return name if plain and all(name not in (one.name, one.root) for one in table.foreign_keys) else key.name


def spelled_backward(owner: Table, key: ForeignKey) -> str:
    """Return how a rule names a key that it follows backwards: with the table that has it."""
    return f"{SIGN}{owner.name.dotted}.{spelled(owner, key)}"


def spelled_step(tables: Mapping[TableName, Table], table: Table, key: ForeignKey) -> str:
    """Return how a rule names a step from a table."""
    if not key.backward:
        return spelled(table, key)
    owner = tables[key.target]
    return spelled_backward(owner, next(one for one in owner.foreign_keys if one.name == key.name))


def _named_key(table: Table, name: str) -> ForeignKey:
    """Return the key that a rule means: by its name, the one of its partitioned table, or its only column."""
    by_column = [key for key in table.foreign_keys if key.columns == (name,)]
    named = [key for key in table.foreign_keys if key.name == name] or [
        key for key in table.foreign_keys if key.root == name
    ]
    if not named and len(by_column) > 1:
        raise UncoveredError(f"its path names column {name!r}, which has several foreign keys")
    for key in named or by_column:
        return _sound(key, name)
    raise UncoveredError(f"its path names foreign key {name!r}, which is not there")


def _sound(key: ForeignKey, name: str, *, single: bool = False) -> ForeignKey:
    """Return a key that leads a row to one row at most, by PostgreSQL's own code. Raises UncoveredError."""
    fault = ""
    if key.foreign_code:
        fault = "compares by a function of a role that is no superuser: backups would run it"
    elif key.temporal:
        fault = "compares periods: a row may have several targets, and so several tenants"
    elif single and not key.single:
        fault = "has no unique key over its columns: several rows, and so several tenants, may refer to one row"
    if fault:
        raise UncoveredError(f"its path names foreign key {name!r}, which {fault}")
    return key
