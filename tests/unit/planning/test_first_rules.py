"""Rules for a database that nobody has mapped yet: likely columns, and what covers each open table."""

from __future__ import annotations

from dataclasses import replace

from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import TableRule, Tenancy, TenancyKind
from backupd.planning.mapping.first_rules import (
    joined_rules,
    open_tables,
    pattern_of,
    tenant_column_candidates,
    tenant_table,
)
from backupd.planning.mapping.tables import map_tables


def key(name: str, target: str, column: str) -> ForeignKey:
    return ForeignKey(name, (column,), TableName("public", target), ("id",), ("OPERATOR(pg_catalog.=)",), True)


def table(name: str, *columns: str, keys: tuple[ForeignKey, ...] = ()) -> Table:
    return Table(
        TableName("public", name), oid=1, kind=TableKind.TABLE, columns=columns, foreign_keys=keys, primary=columns[:1]
    )


FOUND = Inventory(
    "app",
    (
        table("country", "code"),
        table("issue", "id", "project_id", "tenant_id", keys=(key("of_tenant", "tenant", "tenant_id"),)),
        table("note[1]", "id", "issue_id", keys=(key("of_issue", "issue", "issue_id"),)),
        table("project", "id", "project_id", "tenant_id", keys=(key("of_tenant", "tenant", "tenant_id"),)),
        table("tenant", "id", "name"),
    ),
)
BY_TENANT = Tenancy(TenancyKind.COLUMN, column="tenant_id")


def test_the_column_that_is_called_so_comes_first():
    """Then those of several tables, which name something else than their own table."""
    assert tenant_column_candidates(FOUND) == ("tenant_id", "project_id")


def test_the_tenants_table_is_the_one_that_their_column_refers_to():
    """None, where no table refers to one."""
    assert tenant_table(FOUND, "tenant_id") == TableName("public", "tenant")
    assert tenant_table(FOUND, "project_id") is None


def test_each_open_table_comes_with_the_rules_that_cover_it():
    """A child by its path, a table whose name is a pattern by that alone, and nothing for one that leads nowhere."""
    found = {one.table.table: one.rules for one in open_tables(BY_TENANT, FOUND)}
    assert found["country"] == ()
    assert TableRule(("public.note[[]1]",), path=("issue_id",)) in found["note[1]"]
    named = replace(BY_TENANT, table=TableName("public", "tenant"))
    assert [one.table.table for one in open_tables(named, FOUND)] == ["country"]


def test_with_the_first_rules_nothing_is_open():
    """What is proposed does map the tables, also one whose name is a pattern."""
    chosen = [one.rules[0] if one.rules else TableRule((pattern_of(one.table),), shared=True)
              for one in open_tables(BY_TENANT, FOUND)]  # fmt: skip
    tenancy = Tenancy(TenancyKind.COLUMN, column="tenant_id", rules=joined_rules(tuple(chosen)))
    assert map_tables(tenancy, FOUND).unmapped == ()


def test_tables_with_one_rule_are_joined():
    """In the order in which the rules come first."""
    rules = (TableRule(("a.b",), shared=True), TableRule(("a.c",), column="x"), TableRule(("a.d",), shared=True))
    assert joined_rules(rules) == (TableRule(("a.b", "a.d"), shared=True), TableRule(("a.c",), column="x"))
