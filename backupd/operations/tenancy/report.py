"""Map the tables of a database, and count where their rows lead (`backupd tenancy`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import assert_never

from backupd.model.inventory import Inventory, Table, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    MappedTable,
    Route,
    Shared,
    Tenancy,
    TenancyKind,
    TenancyMap,
    Tenant,
    UnmappedTable,
)
from backupd.operations.backup.region import find_members
from backupd.operations.tenancy.types import TenancyLine, TenancyReport, TenancyWay
from backupd.planning.mapping.identity import AMBIGUOUS_CURE
from backupd.planning.mapping.rules import spelled_step
from backupd.planning.mapping.tables import map_tables, tenant_columns
from backupd.postgres.connect import Connection, Source, connect, other_database
from backupd.postgres.settings import SHORT_WAIT, milliseconds
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.ways import WayCounts, count_ways


def report_tenancy(label: str, source: Source, tenancy: Tenancy) -> TenancyReport:
    """Connect to each database that the label stands for, map its tables, and count rows where that helps to decide.

    Raises SourceError, SourceGoneError, SourceBusyError, ConfigError, UnmappedError.
    """
    lines: list[TenancyLine] = []
    members = find_members(source, tenancy)
    for member in members:
        with connect(source if member is None else other_database(source, member)) as connection:
            # Sizes and counts wait for whoever has locked a table, and others would wait behind us.
            connection.execute(f"SET lock_timeout = '{milliseconds(SHORT_WAIT)}'".encode())
            inventory = read_inventory(connection, tenant_columns(tenancy))
            lines += describe(inventory, map_tables(tenancy, inventory), tenancy, connection)
    return TenancyReport(label, tuple(_merged(lines)), len(members), bool(tenancy.rules))


def describe(
    inventory: Inventory, mapping: TenancyMap, tenancy: Tenancy, connection: Connection | None = None
) -> list[TenancyLine]:
    """Return a line for every table, unmapped ones first. Rows are counted when there is a connection."""
    scene = _Scene(inventory, tenancy, connection)
    unmapped = _merged(scene.unmapped(one) for one in mapping.unmapped)
    return [*unmapped, *_merged(scene.mapped(one) for one in mapping.tables)]


class _Scene:
    """The tables of one database, and how to count their rows."""

    def __init__(self, inventory: Inventory, tenancy: Tenancy, connection: Connection | None) -> None:
        self._tables = inventory.by_name()
        self._tenancy = tenancy
        self._connection = connection
        self._blocks: dict[TableName, int] = {}
        for table in inventory.tables:
            for name in (table.name, *table.parents):
                self._blocks[name] = self._blocks.get(name, 0) + table.blocks
        self._counted: dict[TableName, WayCounts | None] = {}

    def unmapped(self, one: UnmappedTable) -> TenancyLine:
        top = one.root or one.table
        counts = self._count(top, [way.route for way in one.ways])
        open_ways = [place for place, way in enumerate(one.ways) if _leads(way.route)]
        named = {} if counts is None else dict(zip(open_ways, counts.named, strict=True))
        return TenancyLine(
            top.dotted,
            one.reason,
            None,
            None,
            self._tables[one.table].rows,
            mapped=False,
            gap=one.gap,
            ways=tuple(
                TenancyWay(way.column, way.path, way.remark, named.get(place)) for place, way in enumerate(one.ways)
            ),
            counted=None if counts is None else counts.rows,
            sampled=counts is not None and counts.sampled,
            apart=0 if counts is None else counts.apart,
            hint=AMBIGUOUS_CURE if one.ambiguous else "",
        )

    def mapped(self, one: MappedTable) -> TenancyLine:
        table, tenancy = self._tables[one.table], self._tenancy
        own_schema = isinstance(one.route, Tenant) and tenancy.kind is TenancyKind.SCHEMA
        name = f"({tenancy.schema_pattern}).{one.table.table}" if own_schema else (one.root or one.table).dotted
        routes = [one.route, *(way.route for way in one.others)]
        wanted = one.policy is ClassPolicy.STANDARD and (one.others or self._may_be_null(table, one.route))
        counts = self._count(one.table, routes) if wanted else None
        return TenancyLine(
            name,
            self._words(one.route, table, own_schema=own_schema),
            one.data_class,
            one.policy.value,
            table.rows,
            by_default=one.by_default,
            ways=tuple(TenancyWay(way.column, way.path, "", None) for way in one.others),
            counted=None if counts is None else counts.rows,
            sampled=counts is not None and counts.sampled,
            without=0 if counts is None else counts.rows - counts.named[0],
            missed=0 if counts is None else counts.missed,
            refuses=not one.null_to_shared,
            apart=0 if counts is None else counts.apart,
        )

    def _may_be_null(self, table: Table, route: Route) -> bool:
        if isinstance(route, ForeignKeyPath):
            end = self._tables[route.steps[-1].key.target]
            return not all(step.key.required for step in route.steps) or self._may_be_null(end, Column(route.column))
        return isinstance(route, Column) and (route.column in table.nullable or route.column in table.generated)

    def _count(self, name: TableName, routes: Iterable[Route | None]) -> WayCounts | None:
        """Count the rows of a table once. A configuration table of an extension is not counted, but for the user's."""
        ways = [route for route in routes if isinstance(route, Column | ForeignKeyPath)]
        if self._connection is None or not ways or self._tables[name].condition is not None:
            return None
        if name not in self._counted:
            self._counted[name] = count_ways(self._connection, self._tables[name], ways, self._blocks[name])
        return self._counted[name]

    def _words(self, route: Route, table: Table, *, own_schema: bool) -> str:
        match route:
            case Shared():
                return "shared"
            case Column(column):
                return f"column {column}"
            case ForeignKeyPath(steps, column):
                return "path " + " > ".join([*_spelled(self._tables, table, route), column]) if steps else ""
            case Tenant():
                return "schema" if own_schema else "database"
            case _:
                assert_never(route)


def _leads(route: Route | None) -> bool:
    return isinstance(route, Column | ForeignKeyPath)


def _spelled(tables: Mapping[TableName, Table], table: Table, route: ForeignKeyPath) -> Iterator[str]:
    for step in route.steps:
        yield spelled_step(tables, table, step.key)
        table = tables[step.key.target]


def _merged(lines: Iterable[TenancyLine]) -> list[TenancyLine]:
    merged: dict[tuple[str, str, str | None], TenancyLine] = {}
    for line in lines:
        key = (line.table, line.route, line.data_class)
        before = merged.get(key)
        merged[key] = line if before is None else _sum(before, line)
    return list(merged.values())


def _sum(one: TenancyLine, other: TenancyLine) -> TenancyLine:
    """Add up two lines of the same kind. What was counted of an unmapped table was counted with its partitions."""
    rows = None if one.rows is None or other.rows is None else one.rows + other.rows
    both = replace(one, rows=rows, tables=one.tables + other.tables)
    if not one.mapped or (one.counted is None and other.counted is None):
        return both
    return replace(
        both,
        counted=(one.counted or 0) + (other.counted or 0),
        sampled=one.sampled or other.sampled,
        without=one.without + other.without,
        missed=one.missed + other.missed,
        apart=one.apart + other.apart,
    )
