"""Mapping tables and cutting ranges: what holds for every inventory and every tenancy."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import assume, given
from hypothesis import strategies as st

from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    TableRule,
    Tenancy,
    TenancyKind,
    TenancyMap,
    Tenant,
)
from backupd.planning.mapping.tables import map_tables
from backupd.postgres.source.select import block_ranges

SCHEMAS = ("public", "t_1", "t_2", "other")
TABLES = ("a", "b", "c")
COLUMNS = ("id", "tenant_id", "org", "x", "k1", "k2", "k3")
CONSTRAINTS = ("k1", "k2", "k3")
BACKWARD = tuple(f"<{schema}.{table}.k1" for schema in SCHEMAS for table in TABLES)

names = st.builds(TableName, st.sampled_from(SCHEMAS), st.sampled_from(TABLES))
columns = st.lists(st.sampled_from(COLUMNS), unique=True).map(tuple)


def keys(targets: list[TableName]) -> st.SearchStrategy[tuple[ForeignKey, ...]]:
    key = st.builds(
        lambda name, target, required, single: ForeignKey(
            name, (name,), target, ("id",), ("OPERATOR(pg_catalog.=)",), required, single=single
        ),
        st.sampled_from(CONSTRAINTS),
        st.sampled_from(targets),
        st.booleans(),
        st.booleans(),
    )
    return st.lists(key, max_size=3, unique_by=lambda key: key.name).map(tuple)


@st.composite
def inventories(draw: st.DrawFn) -> Inventory:
    chosen = sorted(draw(st.sets(names, min_size=1, max_size=8)))
    tables = []
    for number, name in enumerate(chosen):
        kind = draw(st.sampled_from(TableKind))
        extension, condition = draw(st.sampled_from(((None, None), ("e", None), ("e", ""), ("e", "WHERE x"))))
        parents = draw(st.lists(st.sampled_from(chosen), max_size=2).map(tuple)) if kind is TableKind.PARTITION else ()
        primary = draw(st.sampled_from((("id",), ("id",), ("org", "x"))))
        referring = draw(keys(chosen))
        own = dict.fromkeys((*primary, *(column for key in referring for column in key.columns), *draw(columns)))
        tables.append(
            Table(
                name,
                number,
                kind,
                tuple(own),
                referring,
                parents,
                extension=extension,
                condition=condition,
                primary=primary,
                unique=(frozenset(primary), *draw(st.sampled_from(((), (frozenset({"k1", "k2"}),))))),
                nullable=draw(st.frozensets(st.sampled_from(CONSTRAINTS))),
            )
        )
    return Inventory(draw(st.sampled_from(("app", "db_7"))), tuple(tables))


def mapping_of(tenancy: Tenancy, inventory: Inventory) -> TenancyMap:
    """The mapping; cases in which there is no tenants' table are another test's."""
    assume(tenancy.kind is not TenancyKind.COLUMN or tenancy.table is None or tenancy.table in inventory.by_name())
    return map_tables(tenancy, inventory)


rules = st.builds(
    TableRule,
    tables=st.lists(
        st.sampled_from(("public.*", "*.a", "*", "t_1.b", "other.[bc]", "none.none")), min_size=1, max_size=2
    ).map(tuple),
    column=st.sampled_from((None, "org", "tenant_id", "missing")),
    path=st.lists(st.sampled_from((*CONSTRAINTS, *BACKWARD)), max_size=3).map(tuple),
    shared=st.booleans(),
    data_class=st.sampled_from((None, "uploaded", "session", "unknown")),
    null_tenant=st.sampled_from(("refuse", "shared")),
)
tenancies = st.builds(
    Tenancy,
    kind=st.sampled_from(TenancyKind),
    column=st.sampled_from((None, "tenant_id")),
    table=st.sampled_from((None, None, TableName("public", "a"), TableName("public", "b"))),
    null_tenant=st.sampled_from(("refuse", "shared")),
    schema_pattern=st.sampled_from((None, r"t_(?P<tenant>\d+)")),
    database_pattern=st.sampled_from((None, r"db_(?P<tenant>\d+)")),
    rules=st.lists(rules, max_size=4).map(tuple),
    unclassified=st.sampled_from(("refuse", "shared")),
    classes=st.just({"uploaded": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}),
)


@given(tenancies, inventories())
def test_every_dumped_table_is_mapped_or_named_as_unmapped_once(tenancy: Tenancy, inventory: Inventory) -> None:
    """Mapping is total, and no table appears twice or out of nowhere."""
    mapping = mapping_of(tenancy, inventory)
    listed = [mapped.table for mapped in mapping.tables] + [unmapped.table for unmapped in mapping.unmapped]
    assert sorted(listed) == [table.name for table in inventory.tables if table.dumped]


@given(tenancies, inventories(), st.randoms())
def test_mapping_does_not_depend_on_order(tenancy: Tenancy, inventory: Inventory, random: Random) -> None:
    """The same tables in another order are mapped alike."""
    shuffled = list(inventory.tables)
    random.shuffle(shuffled)
    assert mapping_of(tenancy, Inventory(inventory.database, tuple(shuffled))) == mapping_of(tenancy, inventory)


@given(tenancies, inventories())
def test_routes_lead_to_columns_that_exist(tenancy: Tenancy, inventory: Inventory) -> None:
    """A route by column names one of the table's, a path follows existing keys to a column of its last target."""
    tables = inventory.by_name()
    for mapped in mapping_of(tenancy, inventory).tables:
        table = tables[mapped.table]
        match mapped.route:
            case Column(column):
                assert column in table.columns
            case ForeignKeyPath(steps, column):
                for step in steps:
                    if step.key.backward:
                        own, table = table, tables[step.key.target]
                        (forward,) = (key for key in table.foreign_keys if key.name == step.key.name)
                        assert forward.target in (own.name, *own.parents)
                        assert (forward.columns, forward.target_columns) == (step.key.target_columns, step.key.columns)
                        assert forward.single
                        assert not table.parents
                    else:
                        assert step.key in table.foreign_keys
                        table = tables[step.key.target]
                    assert step.whole == (table.kind is TableKind.PARTITIONED)
                assert column in table.columns


@given(tenancies, inventories())
def test_nothing_leaves_its_tenants_schema_or_database(tenancy: Tenancy, inventory: Inventory) -> None:
    """Tables in a tenant's own schema or database are that tenant's, whatever the rules say."""
    for mapped in mapping_of(tenancy, inventory).tables:
        if tenancy.kind is TenancyKind.SCHEMA and tenancy.schema_pattern and mapped.table.schema.startswith("t_"):
            assert mapped.route == Tenant(mapped.table.schema[2:])
        if tenancy.kind is TenancyKind.DATABASE and tenancy.database_pattern and inventory.database == "db_7":
            assert mapped.route == Tenant("7")


@given(tenancies, inventories())
def test_proposals_hold_what_they_promise(tenancy: Tenancy, inventory: Inventory) -> None:
    """A proposed way, put into a rule, maps the table, unless it leads on from a table that has none yet."""
    for unmapped in mapping_of(tenancy, inventory).unmapped:
        for way in unmapped.ways:
            rule = TableRule(tables=(unmapped.table.dotted,), column=way.column, path=way.path)
            with_it = replace(tenancy, rules=(rule, *tenancy.rules))
            mapped = {mapped.table: mapped.route for mapped in mapping_of(with_it, inventory).tables}
            assert way.route is None or mapped[unmapped.table] == way.route


@given(st.integers(0, 10**9), st.sampled_from((1, 2, 7, 65_536)))
def test_ranges_cover_a_table_once(blocks: int, grid: int) -> None:
    """Ranges follow each other without gap from 0 to the open end, cut at multiples of the grid only."""
    blocks = min(blocks, grid * 1000)
    ranges = block_ranges(blocks, grid)
    assert ranges[0].start == 0
    assert ranges[-1].end is None
    for before, after in pairwise(ranges):
        assert before.end == after.start
        assert after.start % grid == 0
    assert ranges[-1].start <= blocks


@given(st.integers(0, 10**7), st.integers(0, 10**6))
def test_cuts_stay_where_they_were_when_a_table_grows(blocks: int, more: int) -> None:
    """Yesterday's cuts are among today's."""
    assert {part.start for part in block_ranges(blocks)} <= {part.start for part in block_ranges(blocks + more)}
