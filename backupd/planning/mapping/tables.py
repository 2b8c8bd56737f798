"""Mapping tables to tenants and data classes: rules and an inventory in, a route for every table out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import cached_property

from backupd.errors import UnmappedError
from backupd.model.inventory import ForeignKey, Inventory, Table, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    Gap,
    MappedTable,
    Route,
    Shared,
    Step,
    Tenancy,
    TenancyKind,
    TenancyMap,
    UnmappedTable,
    Way,
)
from backupd.planning.mapping.identity import AMBIGUOUS_CURE, several_spellings
from backupd.planning.mapping.keys import KeyFacts
from backupd.planning.mapping.names import NamePatterns
from backupd.planning.mapping.ownership import REFERRED, Ownership, folded, unsettled
from backupd.planning.mapping.rules import TenancyRules, UncoveredError, as_step, joined, spelled

_UNCOVERED = "no rule, tenant column or pattern covers it"
_LONGEST_PATH = 6
_MOST_PROPOSALS = 3


def tenant_columns(tenancy: Tenancy) -> frozenset[str]:
    """Return every column name that the tenancy configures as a tenant's."""
    return frozenset(column for column in (tenancy.column, *(rule.column for rule in tenancy.rules)) if column)


def map_tables(tenancy: Tenancy, inventory: Inventory) -> TenancyMap:
    """Map every table whose rows are dumped to a route, or to the reason why there is none.

    Raises UnmappedError when the tenants' table is not there.
    """
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
            hint="`backupd tenancy` names them and shows what leads from them to tenants; add rules for them.",
        )


class _Mapper:
    """Maps the tables of one inventory."""

    def __init__(self, tenancy: Tenancy, inventory: Inventory) -> None:
        self.tenancy = tenancy
        self.tables = inventory.by_name()
        self.names = NamePatterns(tenancy, inventory.database)
        self.rules = TenancyRules(tenancy, self.tables, self.names)
        self.routes: dict[TableName, Route] = {}
        self.faults: dict[TableName, str] = {}
        self.ways: dict[TableName, tuple[tuple[Step, ...], TableName]] = {}
        """The paths that rules name, each with the table whose route it goes on along."""
        self.keys = KeyFacts(self.tables)
        self.owned: Ownership | None = None

    def map(self) -> TenancyMap:
        self._direct()
        ruled = frozenset({*self.routes, *self.faults, *self.ways})
        self._own(ruled)
        if self.owned is None and self.tenancy.unclassified == "shared":
            self._share_unled()
        mapped, unmapped = [], []
        for name in sorted(self.tables):
            table = self.tables[name]
            if not table.dumped:
                continue
            found = self._mapped(table, ruled)
            if isinstance(found, MappedTable):
                mapped.append(found)
            else:
                unmapped.append(found)
        return TenancyMap(tuple(mapped), tuple(unmapped), self.names.whole)

    def _direct(self) -> None:
        """Settle what needs no other table, and find the paths that rules name."""
        by_name = self.tenancy.unclassified == "shared" and self.tenancy.kind is not TenancyKind.COLUMN
        for name, table in self.tables.items():
            try:
                route = self.rules.direct(table)
                if self._is_paired(table, route):
                    continue
                if route is not None:
                    self.routes[name] = route
                elif self.rules.of(table).path:
                    self._find_way(table)
                elif by_name:
                    self.routes[name] = Shared()
            except UncoveredError as error:
                self.faults[name] = str(error)

    def _is_paired(self, table: Table, route: Route | None) -> bool:
        """Check whether the database's tenant column cannot say whose rows are, as they may be several tenants'."""
        tenants = self.tenancy.table
        if tenants is None or tenants not in self.tables or not isinstance(route, Column):
            return False
        root, top = self.keys.root_of(table.name), self.keys.root_of(tenants)
        asked = self.rules.of(table).column is None and root != top
        return asked and self.keys.pairing(root, top, loosely=False) is not None

    def _find_way(self, table: Table) -> None:
        steps, end = self.rules.steps(table)
        column = self.rules.of(table).column
        if column is None:
            self.ways[table.name] = steps, end.name
        elif end.has(column):
            self.routes[table.name] = ForeignKeyPath(steps, column)
        else:
            raise UncoveredError(f"its path ends at a table without the column {column!r}")

    def _follow(self) -> bool:
        """Settle the paths of rules whose ends are settled; return whether there was any."""
        found = {name: way for name, way in self.ways.items() if name not in self.routes and way[1] in self.routes}
        ends = {name: self.routes[end] for name, (_, end) in found.items()}
        for name, (steps, _) in found.items():
            try:
                self.routes[name] = joined(steps, ends[name])
            except UncoveredError as error:
                self.faults[name] = str(error)
                del self.ways[name]
        return bool(found)

    def _own(self, ruled: frozenset[TableName]) -> None:
        """Settle what depends on other tables: by the paths of rules, and by keys where the tenants' table is named."""
        tenants = self.tenancy.table if self.tenancy.kind is TenancyKind.COLUMN else None
        if tenants is not None:
            if tenants not in self.tables:
                raise UnmappedError(
                    f"the tenants' table '{tenants.dotted}' is not in the database",
                    hint="Correct tenancy.table: schema and name as PostgreSQL spells them, without quotes.",
                )
            self.owned = Ownership(self.tables, self.keys, tenants, self.routes, ruled)
            self.owned.start()
        while self._follow() or (self.owned is not None and self._advance(self.owned)):
            pass
        if self.owned is not None:
            self.owned.finish()
            self._share_unowned(ruled, self.owned)
        for name in self.ways:
            if name not in self.routes:
                self.faults[name] = self._lost(name)

    def _advance(self, owned: Ownership) -> bool:
        return owned.advance() or owned.advance_by_optional() or owned.advance(patient=False)

    def _share_unowned(self, ruled: frozenset[TableName], owned: Ownership) -> None:
        if self.tenancy.unclassified == "shared":
            for root, found in owned.undecided.items():
                if found.gap is Gap.NO_WAY:
                    for one in self.keys.members(root):
                        if one.name not in ruled:
                            self.routes[one.name] = Shared()

    def _share_unled(self) -> None:
        """Share what no rule speaks of and nothing leads from to a tenant, where no tenants' table is named."""
        open_ = [name for name in self.tables if name not in self.routes and name not in self.faults]
        unled = [one for one in open_ if self._unmapped(self.tables[one], None).gap is Gap.NO_WAY]
        self.routes |= dict.fromkeys(unled, Shared())

    def _lost(self, name: TableName) -> str:
        """Return why the path of a table's rule leads nowhere."""
        passed: set[TableName] = set()
        while name in self.ways and name not in passed:
            passed.add(name)
            name = self.ways[name][1]
        if name in passed:
            return "its foreign-key path comes back to itself"
        return "its foreign-key path ends at a table whose rows name no tenant"

    def _mapped(self, table: Table, ruled: frozenset[TableName]) -> MappedTable | UnmappedTable:
        name, rule = table.name, self.rules.of(table)
        root = table.parents[-1] if table.parents else None
        data_class = rule.data_class or self.tenancy.default_class
        policy = self.tenancy.classes.get(data_class)
        if policy is None:
            return UnmappedTable(name, f"data class {data_class!r} is not configured", root=root)
        route = self.routes.get(name)
        if route is None:
            return self._unmapped(table, root)
        spelled = None if policy is ClassPolicy.NEVER else several_spellings(self.tables, name, route)
        if spelled is not None:
            return UnmappedTable(name, spelled, ambiguous=True, root=root)
        nulls = (rule.null_tenant or self.tenancy.null_tenant) == "shared"
        return MappedTable(
            name,
            route,
            data_class,
            policy,
            null_to_shared=nulls and isinstance(route, Column | ForeignKeyPath),
            by_default=name not in ruled,
            others=self.owned.others(name) if self.owned is not None and name not in ruled else (),
            root=root,
        )

    def _unmapped(self, table: Table, root: TableName | None) -> UnmappedTable:
        fault = self.faults.get(table.name)
        top = self.keys.root_of(table.name)
        if fault is None and self.owned is not None and top in self.owned.undecided:
            found = self.owned.undecided[top]
            return UnmappedTable(table.name, found.reason, self.owned.ways(top), found.gap, root=root)
        if fault is None and (own := self._tenants_keys.get(top)):
            ways = tuple(Way(column=column, remark=doubt, route=Column(column)) for column, doubt in own.items())
            gap = Gap.DOUBTFUL if all(own.values()) else Gap.SEVERAL
            return UnmappedTable(table.name, REFERRED, ways, gap, root=root)
        like = self._spelled_otherwise(table)
        ways = (*(Way(column=column, route=Column(column)) for column in like), *self._ways(table))
        gap = Gap.RULE if fault else Gap.DOUBTFUL if ways else Gap.NO_WAY
        reason = fault or (f"{', '.join(like)}: names tenants, spelled otherwise" if like else _UNCOVERED)
        return UnmappedTable(table.name, reason, ways, gap, root=root)

    @cached_property
    def _tenants_keys(self) -> dict[TableName, dict[str, str]]:
        """The columns to which tenant columns refer, by table; a tenants' table that nobody named is found by them."""
        return self.keys.named_by(self.routes)

    def _spelled_otherwise(self, table: Table) -> list[str]:
        """Return a table's columns that have the tenants' column's name in another spelling."""
        name = self.tenancy.column
        return [] if name is None else [one for one in table.columns if one != name and folded(one) == folded(name)]

    def _ways(self, table: Table) -> Iterator[Way]:
        """Yield the best paths to a tenant: paths of safe keys first, then shorter ones."""
        found = sorted(self._paths(table), key=lambda path: (any(map(self.keys.doubt, path)), len(path)))
        for path in found[:_MOST_PROPOSALS]:
            steps = tuple(as_step(self.tables, key) for key in path)
            end, target = self._end(path[-1].target), path[-1].target
            remark = self._remark(path) or ("" if target in self.routes else unsettled(target))
            yield Way(path=self._spelled(table, path), remark=remark, route=joined(steps, end) if end else None)

    def _end(self, name: TableName) -> Route | None:
        """Return the route of a key's target that leads to tenants; of a tenants' table that is left, its own key."""
        route = self.routes.get(name)
        if route is None:
            route = next(map(Column, self._tenants_keys.get(self.keys.root_of(name), ())), None)
        return route if isinstance(route, Column | ForeignKeyPath) else None

    def _spelled(self, table: Table, path: tuple[ForeignKey, ...]) -> tuple[str, ...]:
        tables = (table, *(self.tables[key.target] for key in path))
        return tuple(spelled(one, key) for one, key in zip(tables, path, strict=False))

    def _remark(self, path: tuple[ForeignKey, ...]) -> str:
        return next((f"{', '.join(key.columns)} {doubt}" for key in path if (doubt := self.keys.doubt(key))), "")

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
                if self._end(key.target) is not None:
                    yield longer
                else:
                    waiting.append((key.target, longer))
