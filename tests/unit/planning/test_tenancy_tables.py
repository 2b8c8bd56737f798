"""Mapping tables by rules: the reasons, the order of precedence, what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.errors import ConfigError, UnmappedError
from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    Gap,
    Shared,
    Step,
    TableRule,
    Tenancy,
    TenancyKind,
    TenancyMap,
    Tenant,
    UnmappedTable,
)
from backupd.operations.tenancy.block import toml_block
from backupd.operations.tenancy.report import describe
from backupd.operations.tenancy.types import TenancyReport
from backupd.planning.mapping.names import NamePatterns, named_tenant
from backupd.planning.mapping.tables import map_tables, never_read, require_mapped, tenant_columns

CLASSES = {"uploaded": ClassPolicy.STANDARD, "session": ClassPolicy.NEVER}


def key(name: str, target: str, *, required: bool = True) -> ForeignKey:
    return ForeignKey(
        name, (f"{name}_id",), TableName("public", target), ("id",), ("OPERATOR(pg_catalog.=)",), required
    )


def table(name: str, *columns: str, keys: tuple[ForeignKey, ...] = (), schema: str = "public", **more: object) -> Table:
    fields: dict[str, object] = {"kind": TableKind.TABLE, **more}
    return Table(TableName(schema, name), oid=1, columns=columns, foreign_keys=keys, **fields)


def mapping(tenancy: Tenancy, *tables: Table, database: str = "app") -> TenancyMap:
    return map_tables(tenancy, Inventory(database, tables))


def paths(unmapped: UnmappedTable) -> tuple[tuple[str, ...], ...]:
    return tuple(way.path for way in unmapped.ways)


def by_column(*rules: TableRule, **more: object) -> Tenancy:
    return Tenancy(TenancyKind.COLUMN, "tenant_id", rules=rules, classes=CLASSES, **more)


ACCOUNT = table("account", "id", "tenant_id")
ISSUE = table("issue", "id", "account", keys=(key("issue_account", "account"),))
COMMENT = table("comment", "id", "issue", keys=(key("comment_issue", "issue"),))


def test_the_default_column_maps_tables_that_have_it() -> None:
    """Tables with the tenant column need no rule; others are unmapped, with the way that would help."""
    outcome = mapping(by_column(), ACCOUNT, ISSUE, COMMENT)
    assert [mapped.route for mapped in outcome.tables] == [Column("tenant_id")]
    assert {unmapped.table.table: paths(unmapped) for unmapped in outcome.unmapped} == {
        "issue": (("issue_account_id",),),
        "comment": (("comment_issue_id", "issue_account_id"),),
    }


def test_the_table_to_which_tenant_columns_refer_is_no_shared_one() -> None:
    """Its key names the tenant of each row; a table to which other columns refer has nothing to say."""
    issue = table("issue", "id", "tenant_id", "kind_id", keys=(key("tenant", "organizer"), key("kind", "kind")))
    inventory = Inventory("app", (issue, table("organizer", "id", "name"), table("kind", "id")))
    outcome = map_tables(by_column(), inventory)
    kind, organizer = outcome.unmapped
    assert (kind.gap, kind.ways) == (Gap.NO_WAY, ())
    assert (organizer.gap, [way.column for way in organizer.ways]) == (Gap.SEVERAL, ["id"])
    assert toml_block("be", TenancyReport("app", tuple(describe(inventory, outcome, by_column()))))[1:] == [
        "tables = [",
        '  { match = ["public.organizer"], column = "id" },',
        '  { match = ["public.kind"], shared = true },',
        "]",
    ]


@pytest.mark.parametrize("named", [None, TableName("public", "account")], ids=["column only", "another table"])
@pytest.mark.parametrize("validated", [True, False])
def test_the_table_to_which_tenant_columns_refer_is_never_shared_by_a_default(
    named: TableName | None, validated: bool
) -> None:
    """Nor is what follows it: every tenant's restore would have the rows of all, and no purge would remove them."""
    whole = table("organizer", "id", "name", kind=TableKind.PARTITIONED)
    leaf = table("organizer_1", "id", "name", kind=TableKind.PARTITION, parents=(whole.name,))
    issue = table("issue", "id", "tenant_id", keys=(replace(key("tenant", "organizer"), validated=validated),))
    bill = table("bill", "id", "owner_id", keys=(key("owner", "organizer"),))
    line = table("line", "id", "bill_id", keys=(key("bill", "bill"),))
    plain, account = table("plain", "id"), table("account", "id", primary=("id",))
    outcome = mapping(by_column(unclassified="shared", table=named), whole, leaf, issue, bill, line, plain, account)
    left = {one.table.table: one for one in outcome.unmapped}
    assert sorted(left) == ["bill", "line", "organizer_1"]
    assert left["organizer_1"].reason == "tenant columns refer to it"
    assert [way.column for way in left["organizer_1"].ways] == ["id"]
    assert Gap.NO_WAY not in {one.gap for one in outcome.unmapped}
    told = by_column(TableRule(("*.organizer",), shared=True), unclassified="shared", table=named)
    assert not mapping(told, whole, leaf, issue, plain, account).unmapped


def test_what_has_a_way_to_a_tenant_is_never_shared_by_a_default() -> None:
    """A key that holds the tenant beside other columns names them in its target; each way is told with its doubt."""
    member = replace(key("member", "member"), columns=("tenant_id", "member_id"), target_columns=("org", "id"))
    issue = table("issue", "id", "tenant_id", "member_id", keys=(member,))
    people, mail = table("member", "id", "org"), table("mail", "member_id", keys=(key("member", "member"),))
    child, plain = table("child", "issue_id", keys=(key("issue", "issue"),)), table("plain", "id")
    outcome = mapping(by_column(unclassified="shared"), issue, people, mail, child, plain)
    assert [(one.table.table, one.route) for one in outcome.tables if one.route == Shared()] == [("plain", Shared())]
    found = {one.table.table: [(*way.path, way.column, way.remark) for way in one.ways] for one in outcome.unmapped}
    assert found == {
        "child": [("issue_id", None, "")],
        "mail": [("member_id", None, "leads to public.member, which is not mapped yet")],
        "member": [("org", "")],
    }


def test_a_tenants_column_in_another_spelling_is_never_shared_by_a_default() -> None:
    """Older tables may say tenant_id, and newer ones tenantId, without a key."""
    issue, note, plain = table("issue", "tenant_id"), table("note", "tenantId", "text"), table("plain", "tenancy")
    outcome = mapping(by_column(unclassified="shared"), issue, note, plain)
    (left,) = outcome.unmapped
    assert (left.table.table, left.gap, [way.column for way in left.ways]) == ("note", Gap.DOUBTFUL, ["tenantId"])
    assert left.reason == "tenantId: names tenants, spelled otherwise"


def test_no_path_through_a_partition_of_the_table_itself_is_proposed() -> None:
    """The rule that the proposal would make is the partition's, too, and that has no such key."""
    whole = table("whole", "id", "piece", keys=(key("whole_piece", "piece"),))
    piece = table("piece", "id", "tenant_id", kind=TableKind.PARTITION, parents=(whole.name,))
    outer = table("outer", "id", "piece", keys=(key("outer_piece", "piece"),))
    proposed = {one.table.table: paths(one) for one in mapping(by_column(), whole, piece, outer).unmapped}
    assert proposed.get("outer") == (("outer_piece_id",),)
    assert not proposed.get("whole")


def test_the_first_column_with_several_spellings_is_named_and_the_others_counted() -> None:
    """Where a backup refuses; no foreign-key path is proposed, which would not mend it."""
    loose = [table(name, "tenant_id", ambiguous=(("tenant_id", "citext"),)) for name in ("a", "b", "c")]
    outcome = mapping(by_column(), *loose)
    assert [(one.ambiguous, paths(one)) for one in outcome.unmapped] == [(True, ())] * 3
    with pytest.raises(UnmappedError) as caught:
        require_mapped(outcome)
    first = "public.a.tenant_id says whose rows are, and is citext: one tenant may have several spellings"
    assert caught.value.message == f"{first} (and 2 tables more)"
    with pytest.raises(UnmappedError) as caught:
        require_mapped(mapping(by_column(), *loose[:2]))
    assert caught.value.message == f"{first} (and 1 table more)"


def test_a_path_may_go_on_along_another_tables_path() -> None:
    """A rule's path up to a table that has a path of its own is the whole way."""
    outcome = mapping(
        by_column(
            TableRule(("public.issue",), path=("issue_account",)),
            TableRule(("public.comment",), path=("comment_issue",)),
        ),
        ACCOUNT, ISSUE, COMMENT,
    )  # fmt: skip
    (route,) = [mapped.route for mapped in outcome.tables if mapped.table.table == "comment"]
    assert isinstance(route, ForeignKeyPath)
    assert [step.key.name for step in route.steps] == ["comment_issue", "issue_account"]
    assert route.column == "tenant_id"


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (TableRule(("*.issue",), column="org"), "names column 'org', which it does not have"),
        (TableRule(("*.issue",), path=("gone",)), "names foreign key 'gone', which is not there"),
        (TableRule(("*.issue",), path=("to_lonely",)), "ends at a table whose rows name no tenant"),
        (TableRule(("*.issue",), path=("to_lonely",), column="org"), "ends at a table without the column 'org'"),
        (TableRule(("*.issue",), path=("to_self",)), "comes back to itself"),
        (TableRule(("*.issue",), path=("to_circle",)), "comes back to itself"),
        (TableRule(("*.issue",), shared=True, data_class="odd"), "data class 'odd' is not configured"),
        (TableRule(("*.other",), shared=True), "no rule, tenant column or pattern covers it"),
    ],
)
def test_what_cannot_be_mapped_says_why(rule: TableRule, reason: str) -> None:
    """Each fault in a rule leaves the table unmapped with its reason, even where the rest is shared by default."""
    issue = table("issue", "id", keys=(key("to_lonely", "lonely"), key("to_self", "issue"), key("to_circle", "circle")))
    circle = table("circle", "id", keys=(key("back", "issue"),))
    rules = (rule, TableRule(("*.circle",), path=("back",)), TableRule(("*.lonely",), shared=True))
    refusing = by_column(*rules)
    outcome = mapping(refusing, issue, circle, table("lonely", "id"))
    reasons = {unmapped.table.table: unmapped.reason for unmapped in outcome.unmapped}
    assert reason in reasons["issue"]
    with pytest.raises(UnmappedError, match=r"(2 tables are|1 table is) not covered"):
        require_mapped(outcome)


def test_unclassified_tables_may_be_shared_but_broken_rules_never_are() -> None:
    """`unclassified = "shared"` covers what no rule speaks of."""
    sharing = by_column(TableRule(("*.issue",), column="org"), unclassified="shared")
    outcome = mapping(sharing, ACCOUNT, ISSUE, table("plain", "id"))
    assert [mapped.route for mapped in outcome.tables] == [Column("tenant_id"), Shared()]
    assert [unmapped.table.table for unmapped in outcome.unmapped] == ["issue"]


def test_the_first_matching_rule_decides_alone() -> None:
    """TenancyRules are not merged: what the first leaves out comes from the defaults."""
    rules = (TableRule(("public.a*",), data_class="session"), TableRule(("*",), shared=True, null_tenant="shared"))
    outcome = mapping(by_column(*rules), ACCOUNT, table("plain", "id"))
    account, plain = outcome.tables
    assert (account.route, account.data_class, account.policy) == (Column("tenant_id"), "session", ClassPolicy.NEVER)
    assert not account.null_to_shared
    assert plain.route == Shared()
    assert not plain.null_to_shared
    require_mapped(outcome)


def test_partitions_follow_the_rules_of_their_parents() -> None:
    """A rule for a partitioned table covers its partitions, whatever they are called."""
    parent = table("event", "id", "org", kind=TableKind.PARTITIONED)
    leaf = table("p_2026_01", "id", "org", kind=TableKind.PARTITION, parents=(TableName("public", "event"),))
    outcome = mapping(by_column(TableRule(("public.event",), column="org", null_tenant="shared")), parent, leaf)
    (mapped,) = outcome.tables
    assert mapped.table.table == "p_2026_01"
    assert mapped.route == Column("org")
    assert mapped.null_to_shared


def test_a_tenants_schema_is_its_own_whatever_rules_say() -> None:
    """By schema, rules give classes inside a tenant's schema and routes outside of it."""
    tenancy = Tenancy(
        TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\w+)", classes=CLASSES,
        rules=(TableRule(("*.log",), shared=True, data_class="session"),),
    )  # fmt: skip
    outcome = mapping(
        tenancy,
        table("log", "id", schema="t_acme"),
        table("log", "id"),
        table("x", "id"),
        table("y", schema="my_t_acme"),
    )
    assert {mapped.table.dotted: (mapped.route, mapped.data_class) for mapped in outcome.tables} == {
        "t_acme.log": (Tenant("acme"), "session"),
        "public.log": (Shared(), "session"),
    }
    assert [unmapped.table.dotted for unmapped in outcome.unmapped] == ["my_t_acme.y", "public.x"]


def test_a_tenants_database_is_its_own() -> None:
    """By database, everything is the tenant's; a database nobody's name fits is not mapped."""
    tenancy = Tenancy(TenancyKind.DATABASE, database_pattern=r"app_(?P<tenant>\d+)", classes=CLASSES)
    assert mapping(tenancy, ACCOUNT, database="app_7").tables[0].route == Tenant("7")
    assert mapping(tenancy, ACCOUNT, database="app_7").tenant == "7"
    assert mapping(tenancy, ACCOUNT, database="other").unmapped


def test_patterns_must_name_the_tenant() -> None:
    """A pattern without the group, or no regular expression at all, is a fault of the configuration."""
    for pattern in ("t_.*", "("):
        with pytest.raises(ConfigError, match="tenancy pattern"):
            named_tenant(pattern, "t_1")
    assert named_tenant(None, "t_1") is None
    assert named_tenant(r"t_(?P<tenant>\d+)", "xt_1") is None


def test_names_know_schemas_only_by_schema_and_roles_always() -> None:
    """Patterns of another kind of tenancy have no effect, that for roles has one in any."""
    pattern = r"t_(?P<tenant>\d+)"
    names = NamePatterns(Tenancy(TenancyKind.COLUMN, schema_pattern=pattern, role_pattern=pattern), "t_1")
    for _ in range(2):  # each is matched once, and remembered
        assert (names.whole, names.schema("t_1"), names.role("t_1")) == (None, None, "1")
    assert tenant_columns(by_column(TableRule(("*",), column="org"))) == {"tenant_id", "org"}


def test_the_report_names_no_tenant() -> None:
    """Tables of tenants' schemas are one line under the pattern, with their rows added up; unmapped ones come first."""
    tenancy = Tenancy(TenancyKind.SCHEMA, schema_pattern=r"t_(?P<tenant>\w+)", classes=CLASSES)
    inventory = Inventory(
        "app", (table("log", schema="t_acme", rows=2), table("log", schema="t_marker", rows=3), table("x", rows=None))
    )
    report = TenancyReport("app", describe(inventory, map_tables(tenancy, inventory), tenancy))
    first, second = report.lines
    assert (first.table, first.mapped, first.rows) == ("public.x", False, None)
    assert (second.table, second.route, second.rows, second.tables) == (r"(t_(?P<tenant>\w+)).log", "schema", 5, 2)
    assert "marker" not in repr(report)
    assert not report.complete


def test_the_report_says_how_rows_find_their_tenant() -> None:
    """Columns and paths are written out."""
    tenancy = by_column(TableRule(("*.issue",), path=("issue_account",)), TableRule(("*.plain",), shared=True))
    inventory = Inventory("app", (ACCOUNT, ISSUE, table("plain")))
    report = TenancyReport("app", describe(inventory, map_tables(tenancy, inventory), tenancy))
    assert [line.route for line in report.lines] == [
        "column tenant_id", "path issue_account_id > tenant_id", "shared",
    ]  # fmt: skip
    assert report.complete


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"foreign_code": True}, "compares by a function of a role that is no superuser: backups would run it"),
        ({"temporal": True}, "compares periods: a row may have several targets, and so several tenants"),
    ],
)
def test_a_path_along_a_key_that_is_no_plain_equality_is_refused(flags: dict[str, bool], reason: str) -> None:
    """Whoever asks for it by name."""
    issue = table("issue", "id", "account", keys=(replace(key("issue_account", "account"), **flags),))
    outcome = mapping(by_column(TableRule(("*.issue",), path=("issue_account",))), ACCOUNT, issue)
    (unmapped,) = outcome.unmapped
    assert unmapped.reason == f"its path names foreign key 'issue_account', which {reason}"


def test_a_path_ends_at_a_table_with_the_column_that_the_rule_names() -> None:
    """A path alone does not say whose a row is."""
    rule = TableRule(("*.issue",), path=("issue_account",), column="tenant_id")
    routes = {mapped.table.table: mapped.route for mapped in mapping(by_column(rule), ACCOUNT, ISSUE).tables}
    (found,) = ISSUE.foreign_keys
    assert routes["issue"] == ForeignKeyPath((Step(found, whole=False),), "tenant_id")
    rule = TableRule(("*.issue",), path=("issue_account",), column="org")
    (unmapped,) = mapping(by_column(rule), ACCOUNT, ISSUE).unmapped
    assert unmapped.reason == "its path ends at a table without the column 'org'"


def test_of_unowned_tables_that_are_shared_a_partition_with_a_broken_rule_is_none() -> None:
    """What the configuration says of a table is never passed over."""
    whole = table("whole", "id", kind=TableKind.PARTITIONED)
    piece = table("piece", "id", kind=TableKind.PARTITION, parents=(whole.name,))
    other = table("other", "id", kind=TableKind.PARTITION, parents=(whole.name,))
    tenancy = by_column(TableRule(("*.piece",), path=("gone",)), unclassified="shared", table=ACCOUNT.name)
    outcome = mapping(tenancy, ACCOUNT, whole, piece, other)
    assert {one.table.table for one in outcome.tables if one.route == Shared()} == {"other"}
    assert "piece" in {one.table.table for one in outcome.unmapped}


def test_tables_of_a_class_that_is_never_backed_up_are_not_read() -> None:
    """Their rows need no right."""
    rules = (TableRule(("*.account",), data_class="session"), TableRule(("*.issue",), shared=True))
    assert never_read(by_column(*rules), Inventory("app", (ACCOUNT, ISSUE))) == {ACCOUNT.name}
