"""Rows to which their owner refers one to one: who may follow a key backwards, and what is shown to a person."""

from __future__ import annotations

from typing import Any

import pytest

from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, ForeignKeyPath, Gap, TableRule, Tenancy, TenancyKind, TenancyMap
from backupd.planning.mapping.tables import map_tables


def named(name: str) -> TableName:
    return TableName("public", name)


def key(column: str, target: str, **more: Any) -> ForeignKey:
    """A required key; `column?` may be null."""
    name, required = column.rstrip("?"), not column.endswith("?")
    return ForeignKey(f"fk_{name}", (name,), named(target), ("id",), ("=",), required, **more)


def table(name: str, *keys: ForeignKey, **more: Any) -> Table:
    columns = ("id", *(column for one in keys for column in one.columns))
    fields: dict[str, Any] = {"kind": TableKind.TABLE, "columns": columns, "primary": ("id",), **more}
    return Table(named(name), 1, foreign_keys=keys, **fields)


def mapping(*tables: Table, rules: tuple[TableRule, ...] = (), unclassified: str = "refuse") -> TenancyMap:
    classes = {"uploaded": ClassPolicy.STANDARD}
    by = Tenancy(TenancyKind.COLUMN, table=named("org"), rules=rules, classes=classes, unclassified=unclassified)
    return map_tables(by, Inventory("app", tables))


def left(found: TenancyMap) -> dict[str, tuple[Gap, list[tuple[str, str]]]]:
    return {
        one.table.table: (one.gap, [(way.column or " > ".join(way.path), way.remark) for way in one.ways])
        for one in found.unmapped
    }


ORG = table("org", key("settings", "settings", single=True))
TEAM = table("team", key("org", "org"), key("look", "look", single=True))
SETTINGS, LOOK = table("settings"), table("look")


def test_a_table_that_a_tenants_row_refers_to_one_to_one_is_shown_to_a_person() -> None:
    """Nothing of it leads to a tenant, and yet its rows would outlive their owner if they were shared."""
    found = mapping(ORG, TEAM, SETTINGS, LOOK)
    assert left(found) == {
        "settings": (Gap.REFERRED, [("<public.org.settings", "")]),
        "look": (Gap.REFERRED, [("<public.team.look", "")]),
    }
    reasons = {one.table.table: one.reason for one in found.unmapped}
    assert reasons["look"] == "public.team refers to each row one to one"
    shared = mapping(ORG, TEAM, SETTINGS, LOOK, table("country"), unclassified="shared")
    assert sorted(left(shared)) == ["look", "settings"]


def test_the_rule_that_is_shown_maps_it_and_what_follows_it() -> None:
    """It asks the other table whose the row is, also where that is the tenants' own key: nobody may refer to it."""
    theme = table("theme", key("look", "look"))
    rules = (
        TableRule(("*.settings",), path=("<public.org.settings",)),
        TableRule(("*.look",), path=("<public.team.look",)),
    )
    found = mapping(ORG, TEAM, SETTINGS, LOOK, theme, rules=rules)
    assert found.unmapped == ()
    routes = {one.table.table: one.route for one in found.tables}
    one, other, after = routes["settings"], routes["look"], routes["theme"]
    assert isinstance(one, ForeignKeyPath)
    assert isinstance(other, ForeignKeyPath)
    assert isinstance(after, ForeignKeyPath)
    (step,) = one.steps
    assert (step.key.columns, step.key.target, step.key.target_columns) == (("id",), named("org"), ("settings",))
    assert (step.key.backward, step.key.required, one.column) == (True, False, "id")
    assert (len(other.steps), other.column) == (1, "org")
    assert [one.key.backward for one in after.steps] == [False, True]
    keyed = table("org", key("id", "settings", single=True))
    (same,) = (one.route for one in mapping(keyed, SETTINGS, rules=(
        TableRule(("*.settings",), path=("<public.org.id",)),
    )).tables if one.table == named("settings"))  # fmt: skip
    assert isinstance(same, ForeignKeyPath)


@pytest.mark.parametrize(
    ("owner", "shown"),
    [
        (table("team", key("org", "org"), key("look?", "look", single=True)), "may be null"),
        (table("team", key("org", "org"), key("look", "look")), None),
        (table("team", key("org", "org"), key("look", "look", single=True, foreign_code=True)), None),
        (table("team", key("org", "org"), key("look", "look", single=True, validated=False)), None),
        (table("team", key("org", "org"), key("current_look", "look", single=True)), None),
        (table("team", key("look", "look", single=True)), None),
        (table("team", key("org", "org"), key("other", "org"), key("look", "look", single=True)),
         "leads to public.team, which is not mapped yet"),
    ],
    ids=["null", "several", "code", "not valid", "chosen", "nobody's", "undecided"],
)  # fmt: skip
def test_only_a_key_that_no_two_rows_share_says_whose_a_row_is(owner: Table, shown: str | None) -> None:
    """Nothing else may speak against it; and of an owner that is open itself the row waits."""
    event = table("event", key("org", "org"))
    found = left(mapping(table("org"), event, owner, LOOK))["look"]
    column = owner.foreign_keys[-1].columns[0]
    assert found == ((Gap.NO_WAY, []) if shown is None else (Gap.REFERRED, [(f"<public.team.{column}", shown)]))


def test_the_tenants_own_table_counts_before_anybody_says_whose_its_rows_are() -> None:
    """As where its primary key has two columns, and a rule is still to come."""
    wide = table("org", key("settings", "settings", single=True), primary=("id", "region"))
    assert left(mapping(wide, SETTINGS))["settings"] == (
        Gap.REFERRED,
        [("<public.org.settings", "leads to public.org, which is not mapped yet")],
    )


def test_it_stands_before_a_doubtful_key_of_the_row_itself() -> None:
    """As where settings name an address that may be missing; a table does not wait for one that waits for it."""
    event = table("event", key("org", "org"))
    look = table("look", key("event?", "event"))
    found = left(mapping(table("org"), event, TEAM, look))["look"]
    assert found == (Gap.REFERRED, [("<public.team.look", ""), ("event", "may be null")])
    child = table("child", key("look", "look", single=True))
    assert left(mapping(table("org"), event, child, look))["look"] == (Gap.DOUBTFUL, [("event", "may be null")])


@pytest.mark.parametrize(
    ("path", "owner", "reason"),
    [
        ("<public.team.look", table("team", key("org", "org"), key("look", "look")),
         "which has no unique key over its columns: several rows, and so several tenants, may refer to one row"),
        ("<public.team.other", TEAM, "its path names '<public.team.other', and 0 foreign keys of that name"),
        ("<public.team.look", table("team", key("org", "org"), key("look", "look", single=True, foreign_code=True)),
         "which compares by a function of a role that is no superuser: backups would run it"),
        ("<public.team.look", table("team", key("look", "look", single=True)),
         "its foreign-key path ends at a table whose rows name no tenant"),
        ("<public.team.look", table("team", key("org", "org"), key("look", "look", single=True),
                                    kind=TableKind.PARTITION, parents=(named("event"),)),
         "its path names '<public.team.look', and 0 foreign keys of that name"),
    ],
    ids=["several", "missing", "code", "nobody's", "a partition"],
)  # fmt: skip
def test_a_rule_that_cannot_hold_is_refused(path: str, owner: Table, reason: str) -> None:
    """A row may never go to two tenants, nor to one of several partitions' owners."""
    rules = (TableRule(("*.look",), path=(path,)),)
    event = table("event", key("org", "org"), kind=TableKind.PARTITIONED)
    found = mapping(table("org"), event, owner, LOOK, rules=rules)
    said = {one.table.table: one.reason for one in found.unmapped}["look"]
    assert said.removeprefix(f"its path names foreign key '{path}', ") == reason


def test_a_partition_is_found_by_the_key_to_its_partitioned_table() -> None:
    """Which is the one that PostgreSQL keeps for all of them."""
    parted = table("look", kind=TableKind.PARTITIONED)
    leaf = table("look_1", kind=TableKind.PARTITION, parents=(named("look"),))
    assert left(mapping(table("org"), TEAM, parted, leaf)) == {"look_1": (Gap.REFERRED, [("<public.team.look", "")])}
    rules = (TableRule(("public.look",), path=("<public.team.look",)),)
    assert mapping(table("org"), TEAM, parted, leaf, rules=rules).unmapped == ()


def test_two_tables_in_a_circle_are_refused() -> None:
    """Each would say that its rows are whose the other's are."""
    one, other = table("one", key("other", "other", single=True)), table("other")
    rules = (TableRule(("*.one",), path=("other",)), TableRule(("*.other",), path=("<public.one.other",)))
    found = mapping(table("org"), one, other, rules=rules)
    assert {one.reason for one in found.unmapped} == {"its foreign-key path comes back to itself"}
