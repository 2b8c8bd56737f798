"""Mapping tables to tenants and data classes: rules and an inventory in, a route for every table out. Pure.

In this order, the first that applies decides: the database belongs to a tenant; the schema does; the first rule whose
pattern matches the table's name, or that of a partitioned table it is a partition of; the database's tenant column. A
rule never moves a table out of its tenant's own schema or database: its very name would remain there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fnmatch import fnmatchcase

from backupd.errors import UnmappedError
from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    MappedTable,
    Route,
    Shared,
    Step,
    TableRule,
    Tenancy,
    TenancyKind,
    TenancyMap,
    Tenant,
    UnmappedTable,
)
from backupd.planning.mapping.names import NamePatterns

_NO_RULE = TableRule(tables=())
_LONGEST_PATH = 6
_MOST_PROPOSALS = 3


class _UncoveredError(Exception):
    """The reason why a table cannot be mapped."""


class _AmbiguousError(_UncoveredError):
    """The reason that one tenant may have several spellings in the table."""


AMBIGUOUS_CURE = (
    "Make it an integer, a uuid, or text in a deterministic collation, or map the table by another column or path: "
    "segments, deletion and attestations know a tenant by its text."
)


def tenant_columns(tenancy: Tenancy) -> frozenset[str]:
    """Return every column name that the tenancy configures as a tenant's."""
    return frozenset(column for column in (tenancy.column, *(rule.column for rule in tenancy.rules)) if column)


def map_tables(tenancy: Tenancy, inventory: Inventory) -> TenancyMap:
    """Map every table whose rows are dumped to a route, or to the reason why there is none."""
    return _Mapper(tenancy, inventory).map()


def never_read(tenancy: Tenancy, inventory: Inventory) -> frozenset[TableName]:
    """Return the tables whose rows are not to be backed up."""
    mapped = map_tables(tenancy, inventory).tables
    return frozenset(one.table for one in mapped if one.policy is ClassPolicy.NEVER)


def require_mapped(mapping: TenancyMap) -> None:
    """Check that every table is mapped.

    Raises UnmappedError, which counts the tables but does not name them: names of schemas may be data. A tenant column
    in which one tenant may have several spellings is named, because its schema is no tenant's.
    """
    if mapping.unmapped:
        spelled = [table for table in mapping.unmapped if table.ambiguous]
        if spelled:
            others = len(spelled) - 1
            more = f" (and {others} table{'s' if others > 1 else ''} more)" if others else ""
            raise UnmappedError(f"{spelled[0].reason}{more}", hint=AMBIGUOUS_CURE)
        count = len(mapping.unmapped)
        raise UnmappedError(
            f"{count} table{'s are' if count > 1 else ' is'} not covered by the tenancy",
            hint="`backupd tenancy` names them and proposes foreign-key paths; add rules for them.",
        )


class _Mapper:
    """Maps the tables of one inventory."""

    def __init__(self, tenancy: Tenancy, inventory: Inventory) -> None:
        self.tenancy = tenancy
        self.tables = inventory.by_name()
        self.names = NamePatterns(tenancy, inventory.database)

    def map(self) -> TenancyMap:
        mapped, unmapped = [], []
        for name in sorted(self.tables):
            table = self.tables[name]
            if not table.dumped:
                continue
            try:
                mapped.append(self._mapped(table))
            except _UncoveredError as error:
                spelled = isinstance(error, _AmbiguousError)
                proposals = () if spelled else self._proposals(table)
                unmapped.append(UnmappedTable(name, str(error), proposals, ambiguous=spelled))
        return TenancyMap(tuple(mapped), tuple(unmapped), self.names.whole)

    def _mapped(self, table: Table) -> MappedTable:
        rule = self._rule(table)
        data_class = rule.data_class or self.tenancy.default_class
        policy = self.tenancy.classes.get(data_class)
        if policy is None:
            raise _UncoveredError(f"data class {data_class!r} is not configured")
        route = self._route(table)
        if policy is not ClassPolicy.NEVER:
            self._refuse_ambiguous(table.name, route)
        null_to_shared = rule.null_tenant == "shared" and isinstance(route, Column | ForeignKeyPath)
        return MappedTable(table.name, route, data_class, policy, null_to_shared)

    def _refuse_ambiguous(self, name: TableName, route: Route) -> None:
        """Check that different texts in the tenant's column are different tenants to the database.

        That depends on the column's type and on that of every column it refers to, because a foreign key compares by
        the latter. Raises _AmbiguousError.
        """
        if not isinstance(route, Column | ForeignKeyPath):
            return
        end = route.steps[-1].key.target if isinstance(route, ForeignKeyPath) else name
        waiting, seen = [(end, route.column)], {(end, route.column)}
        while waiting:
            name, column = waiting.pop()
            table = self.tables[name]
            type_ = dict(table.ambiguous).get(column)
            if type_ is not None:
                raise _AmbiguousError(
                    f"{name.dotted}.{column} says whose rows are, and is {type_}: one tenant may have several spellings"
                )
            referred = {
                (key.target, target)
                for key in table.foreign_keys
                for own, target in zip(key.columns, key.target_columns, strict=True)
                if own == column
            }
            waiting += referred - seen
            seen |= referred

    def _route(self, table: Table, passed: frozenset[TableName] = frozenset()) -> Route:
        """Find the table's route; `passed` are the tables that the path came through, so that it cannot run in circles.

        Raises _UncoveredError when there is none.
        """
        tenancy, rule = self.tenancy, self._rule(table)
        tenant = self.names.schema(table.name.schema)
        if tenant is not None:
            return Tenant(tenant)
        if rule.shared or tenancy.kind is TenancyKind.NONE:
            return Shared()
        if rule.path:
            return self._path(table, rule, passed | {table.name})
        column = rule.column or tenancy.column
        if column is not None and table.has(column):
            return Column(column)
        if rule.column is not None:
            raise _UncoveredError(f"its rule names column {rule.column!r}, which it does not have")
        if tenancy.unclassified == "shared":
            return Shared()
        raise _UncoveredError("no rule, tenant column or pattern covers it")

    def _path(self, table: Table, rule: TableRule, passed: frozenset[TableName]) -> ForeignKeyPath:
        steps = []
        for constraint in rule.path:
            step = self._step(table, constraint)
            steps.append(step)
            table = self.tables[step.key.target]
        if rule.column is not None:
            if not table.has(rule.column):
                raise _UncoveredError(f"its path ends at a table without the column {rule.column!r}")
            return ForeignKeyPath(tuple(steps), rule.column)
        if table.name in passed:
            raise _UncoveredError("its foreign-key path comes back to itself")
        end = self._route(table, passed)
        if isinstance(end, Column):
            return ForeignKeyPath(tuple(steps), end.column)
        if isinstance(end, ForeignKeyPath):
            return ForeignKeyPath((*steps, *end.steps), end.column)
        raise _UncoveredError("its foreign-key path ends at a table whose rows name no tenant")

    def _step(self, table: Table, constraint: str) -> Step:
        for key in table.foreign_keys:
            if key.name == constraint:
                if key.foreign_code:
                    raise _UncoveredError(
                        f"its path names foreign key {constraint!r}, which compares by a function of a role that is no "
                        "superuser: backups would run it"
                    )
                if key.temporal:
                    raise _UncoveredError(
                        f"its path names foreign key {constraint!r}, which compares periods: a row may have several "
                        "targets, and so several tenants"
                    )
                return self._as_step(key)
        raise _UncoveredError(f"its path names foreign key {constraint!r}, which is not there")

    def _as_step(self, key: ForeignKey) -> Step:
        return Step(key, whole=self.tables[key.target].kind is TableKind.PARTITIONED)

    def _rule(self, table: Table) -> TableRule:
        names = [name.dotted for name in (table.name, *table.parents)]
        for rule in self.tenancy.rules:
            if any(fnmatchcase(name, pattern) for pattern in rule.tables for name in names):
                return rule
        return _NO_RULE

    def _proposals(self, table: Table) -> tuple[tuple[str, ...], ...]:
        """Return the best paths to a tenant: paths of required keys first, then shorter ones."""
        found = sorted(self._paths(table), key=lambda path: (not all(key.required for key in path), len(path)))
        return tuple(tuple(key.name for key in path) for path in found[:_MOST_PROPOSALS])

    def _paths(self, table: Table) -> Iterator[tuple[ForeignKey, ...]]:
        """Yield the shortest path to each table that names its tenant, breadth first.

        None leads through a partition of the table itself, to which the table's own rule would apply, too.
        """
        waiting: deque[tuple[TableName, tuple[ForeignKey, ...]]] = deque([(table.name, ())])
        seen = {table.name}
        while waiting:
            name, path = waiting.popleft()
            for key in self.tables[name].foreign_keys:
                if key.foreign_code or key.temporal or key.target in seen or len(path) == _LONGEST_PATH:
                    continue
                if table.name in self.tables[key.target].parents:
                    continue
                seen.add(key.target)
                longer = (*path, key)
                if self._names_tenant(self.tables[key.target]):
                    yield longer
                else:
                    waiting.append((key.target, longer))

    def _names_tenant(self, table: Table) -> bool:
        try:
            return isinstance(self._route(table), Column | ForeignKeyPath)
        except _UncoveredError:
            return False
