"""Tables that belong to tenants by their keys alone: what is taken, what is left to a person, and why."""

from __future__ import annotations

import pytest

from backupd.errors import UnmappedError
from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.model.tenancy import (
    ClassPolicy,
    Column,
    ForeignKeyPath,
    Gap,
    Route,
    Shared,
    TableRule,
    Tenancy,
    TenancyKind,
    TenancyMap,
    UnmappedTable,
)
from backupd.operations.tenancy.block import toml_block
from backupd.operations.tenancy.report import describe
from backupd.operations.tenancy.types import TenancyReport
from backupd.planning.mapping.tables import map_tables


def named(name: str) -> TableName:
    return TableName("public", name)


def key(column: str, target: str, *columns: str, to: tuple[str, ...] = ("id",), **more: object) -> ForeignKey:
    """A required key; `column?` may be null."""
    listed = (column.rstrip("?"), *columns)
    required = not column.endswith("?")
    equal = ("OPERATOR(pg_catalog.=)",) * len(listed)
    return ForeignKey(f"fk_{listed[0]}", listed, named(target), to, equal, required, **more)


def table(name: str, *keys: ForeignKey, unique: tuple[tuple[str, ...], ...] = (), **more: object) -> Table:
    columns = ("id", *dict.fromkeys(column for one in keys for column in one.columns))
    nullable = frozenset(column for one in keys if not one.required and one.validated for column in one.columns)
    fields: dict[str, object] = {
        "kind": TableKind.TABLE,
        "columns": columns,
        "primary": ("id",),
        "nullable": nullable,
        **more,
    }
    sets = tuple(map(frozenset, (("id",), *unique)))
    return Table(named(name), 1, foreign_keys=keys, unique=sets, **fields)


def tenancy(*rules: TableRule, **more: object) -> Tenancy:
    classes = {"uploaded": ClassPolicy.STANDARD}
    return Tenancy(TenancyKind.COLUMN, table=named("org"), rules=rules, classes=classes, **more)


def mapping(*tables: Table, by: Tenancy | None = None) -> TenancyMap:
    return map_tables(by or tenancy(), Inventory("app", (ORG, *tables)))


def routes(found: TenancyMap) -> dict[str, str]:
    return {one.table.table: spelled(one.route) for one in found.tables}


def spelled(route: Route) -> str:
    if isinstance(route, ForeignKeyPath):
        return " > ".join([*("+".join(step.key.columns) for step in route.steps), route.column])
    return route.column if isinstance(route, Column) else type(route).__name__.lower()


def left(found: TenancyMap) -> dict[str, UnmappedTable]:
    return {one.table.table: one for one in found.unmapped}


def ways(one: UnmappedTable) -> list[str]:
    return [way.column or " > ".join(way.path) for way in one.ways]


ORG = table("org")
EVENT = table("event", key("org_id", "org"))
ORDER = table("order", key("event_id", "event"))


def test_the_tenants_table_and_every_key_to_it_name_the_tenant() -> None:
    """Under any name; and in the tenants' table itself it is the table's own key, whatever else it refers to."""
    found = mapping(EVENT, table("gift", key("issuer", "org")), table("note", key("belongs?", "org")))
    assert routes(found) == {"org": "id", "event": "org_id", "gift": "issuer", "note": "belongs"}
    itself = table("org", key("parent_id?", "org"))
    assert routes(map_tables(tenancy(column="parent_id"), Inventory("app", (itself,)))) == {"org": "id"}
    assert all(one.by_default for one in found.tables if one.table.table != "org")


def test_parents_are_mapped_before_their_children_and_each_by_its_shortest_way() -> None:
    """A longer way does not count, nor does one through a table that comes later."""
    position = table("position", key("order_id", "order"), key("item_id", "item"))
    item = table("item", key("order_id", "order"))
    assert routes(mapping(EVENT, ORDER, position, item)) == {
        "org": "id",
        "event": "org_id",
        "order": "event_id > org_id",
        "position": "order_id > event_id > org_id",
        "item": "order_id > event_id > org_id",
    }


def test_the_other_ways_of_a_mapped_table_are_kept() -> None:
    """They must agree with the one that was taken; somebody can count the rows where they do not."""
    position = table("position", key("order_id", "order"), key("event_id", "event"))
    (found,) = (one for one in mapping(EVENT, ORDER, position).tables if one.table.table == "position")
    assert spelled(found.route) == "event_id > org_id"
    assert [(way.path, spelled(way.route)) for way in found.others if way.route] == [
        (("order_id",), "order_id > event_id > org_id")
    ]


def test_where_the_key_holds_the_tenant_no_other_row_is_looked_at() -> None:
    """Also where it is one of several columns, as where tenants are part of every key."""
    account = table("account", key("org_id", "org"), primary=("org_id", "id"))
    note = table("note", key("org_id", "account", "account_id", to=("org_id", "id")))
    assert routes(mapping(account, note)) == {"org": "id", "account": "org_id", "note": "org_id"}


def test_a_key_to_another_column_of_the_tenants_table_is_a_path() -> None:
    """Its value is no tenant's key."""
    assert routes(mapping(table("site", key("slug", "org", to=("slug",))))) == {"org": "id", "site": "slug > id"}


@pytest.mark.parametrize(
    ("keys", "gap", "reason", "shown"),
    [
        ([key("issuer", "org"), key("acceptor", "org")], Gap.SEVERAL, "2 keys lead to the tenants' table",
         ["acceptor", "issuer"]),
        ([key("event_id", "event"), key("account_id", "account")], Gap.SEVERAL, "2 keys lead to tenants",
         ["account_id", "event_id"]),
        ([key("source", "account"), key("target", "account")], Gap.SEVERAL, "2 keys lead to tenants",
         ["source", "target"]),
        ([key("acceptor?", "org"), key("event_id", "event")], Gap.SEVERAL, "2 keys lead to tenants",
         ["acceptor", "event_id"]),
        ([key("event_id?", "event")], Gap.DOUBTFUL, "event_id: may be null", ["event_id"]),
        ([key("event_id", "event", validated=False)], Gap.DOUBTFUL,
         "event_id: was never validated, or is not enforced", ["event_id"]),
        ([key("created_by_id", "user")], Gap.NO_WAY,
         "only who wrote its rows, or what was chosen, leads to a tenant: created_by_id", []),
        ([key("create_uid", "user")], Gap.NO_WAY,
         "only who wrote its rows, or what was chosen, leads to a tenant: create_uid", []),
        ([key("createdById", "user")], Gap.NO_WAY,
         "only who wrote its rows, or what was chosen, leads to a tenant: createdById", []),
        ([key("current_org_id", "org")], Gap.NO_WAY,
         "only who wrote its rows, or what was chosen, leads to a tenant: current_org_id", []),
        ([key("country_id", "country")], Gap.NO_WAY, "no key leads from it to a tenant", []),
        ([key("event_id", "event", temporal=True)], Gap.NO_WAY, "no key leads from it to a tenant", []),
        ([key("event_id", "event", foreign_code=True)], Gap.NO_WAY, "no key leads from it to a tenant", []),
        ([], Gap.NO_WAY, "no key leads from it to a tenant", []),
    ],
)  # fmt: skip
def test_what_is_not_beyond_doubt_is_left_to_a_person(
    keys: list[ForeignKey], gap: Gap, reason: str, shown: list[str]
) -> None:
    """With the reason, and the ways there are."""
    others = (EVENT, table("account", key("org_id", "org")), table("user", key("org_id", "org")), table("country"))
    by = tenancy(TableRule(("public.country",), shared=True))
    found = left(mapping(*others, table("it", *keys), by=by))
    assert list(found) == ["it"]
    assert (found["it"].gap, found["it"].reason, ways(found["it"])) == (gap, reason, shown)


def test_of_two_ways_the_one_by_which_rows_live_and_die_is_taken() -> None:
    """ON DELETE CASCADE on one of them only, and never where both lead into one table."""
    line = table("line", key("invoice_id", "invoice", cascades=True), key("tax_id", "tax"))
    owned = (table("invoice", key("org_id", "org")), table("tax", key("org_id", "org")))
    assert routes(mapping(*owned, line))["line"] == "invoice_id > org_id"
    both = table("line", key("invoice_id", "invoice", cascades=True), key("tax_id", "tax", cascades=True))
    assert left(mapping(*owned, both))["line"].gap is Gap.SEVERAL
    pair = table("line", key("one", "invoice", cascades=True), key("other", "invoice"))
    assert left(mapping(*owned, pair))["line"].gap is Gap.SEVERAL


def test_a_table_follows_the_one_it_is_deleted_with_though_another_is_nearer() -> None:
    """A line lives and dies with its order; the product in it may be another tenant's."""
    line = table("line", key("order_id", "order", cascades=True), key("product_id", "product"))
    product = table("product", key("org_id", "org"))
    assert routes(mapping(EVENT, ORDER, product, line))["line"] == "order_id > event_id > org_id"
    optional = table("order", key("org_id?", "org"))
    assert routes(mapping(optional, product, line))["line"] == "order_id > org_id"
    lost = table("order", key("basket_id", "basket"))
    assert routes(mapping(lost, table("basket"), product, line))["line"] == "product_id > org_id"


def test_a_column_that_names_tenants_elsewhere_is_no_reason_to_share_a_table() -> None:
    """Children that inherit have no keys, and many applications declare none."""
    child = Table(named("child"), 1, TableKind.TABLE, ("id", "org_id"), primary=("id",))
    found = left(mapping(EVENT, child, table("country"), by=tenancy(unclassified="shared")))
    assert list(found) == ["child"]
    assert found["child"].reason == "org_id: is a tenant's in other tables, and has no foreign key here"
    assert (found["child"].gap, ways(found["child"])) == (Gap.DOUBTFUL, ["org_id"])


def test_such_a_column_is_shown_beside_keys_that_may_be_null() -> None:
    """A worker's `org_id` says more than the hook it may have; without rows of its own it would be nobody's."""
    one = table("worker", key("hook_id?", "event"), columns=("id", "hook_id", "org_id"))
    both = table("run", key("a", "event"), key("b", "product"), columns=("id", "a", "b", "org_id"))
    found = left(mapping(EVENT, table("product", key("org_id", "org")), one, both))
    assert ways(found["worker"]) == ["org_id", "hook_id"]
    assert found["worker"].reason.endswith("has no foreign key here; hook_id: may be null")
    assert ways(found["run"]) == ["org_id", "a", "b"]


def test_what_follows_such_a_table_is_not_shared_either() -> None:
    """Its rows are a tenant's as soon as somebody says so of the parent."""
    feature = Table(named("feature"), 1, TableKind.TABLE, ("id", "org_id"), primary=("id",))
    strategy = table("strategy", key("feature_id", "feature"))
    note = table("note", key("strategy_id", "strategy"))
    extra = table("extra", key("feature_id?", "feature"))
    tables = (EVENT, feature, strategy, note, extra, table("country"))
    found = left(mapping(*tables, by=tenancy(unclassified="shared")))
    assert {name: one.gap for name, one in found.items()} == {
        "feature": Gap.DOUBTFUL, "strategy": Gap.WAITING, "note": Gap.WAITING, "extra": Gap.DOUBTFUL,
    }  # fmt: skip
    ruled = mapping(*tables[:4], by=tenancy(TableRule(("*.feature",), column="org_id")))
    assert routes(ruled)["note"] == "strategy_id > feature_id > org_id"


def test_the_databases_column_does_not_say_whose_users_are_who_work_for_several() -> None:
    """A rule for the table does."""
    user = table("user", key("org_id", "org"))
    member = table("member", key("user_id", "user"), key("other_id", "org"), unique=(("user_id", "other_id"),))
    assert left(mapping(user, member, by=tenancy(column="org_id")))["user"].gap is Gap.DOUBTFUL
    ruled = mapping(user, member, by=tenancy(TableRule(("*.user",), column="org_id"), column="org_id"))
    assert routes(ruled)["user"] == "org_id"
    assert all(not one.others for one in ruled.tables)


def test_a_column_that_names_tenants_elsewhere_is_seen_in_another_spelling() -> None:
    """An application in two languages has tenantId with keys and tenant_id without: its rows are no shared ones."""
    event = table("event", key("orgId", "org"))
    queue, plain = table("queue", columns=("id", "org_id")), table("plain", columns=("id", "organ"))
    found = left(mapping(event, queue, plain, by=tenancy()))
    assert (found["queue"].gap, ways(found["queue"])) == (Gap.DOUBTFUL, ["org_id"])
    assert found["plain"].gap is Gap.NO_WAY


def test_a_column_that_has_its_key_in_other_tables_only_is_left_to_a_person() -> None:
    """Its rows are most likely some tenant's: it is neither shared nor is that proposed, nor of what follows it."""
    tag, word = table("tag", columns=("id", "eventId")), table("word", columns=("id", "events", "code"))
    after, plan = table("after", key("tag", "tag")), table("plan", primary=("code",), columns=("id", "code"))
    coded = table("coded", key("code", "coupon", to=("code",)))
    coupon = table("coupon", key("event_id", "event"), columns=("id", "event_id", "code"))
    tables = (EVENT, ORDER, tag, word, after, plan, coded, coupon)
    found = left(mapping(*tables))
    assert (found["tag"].gap, found["tag"].ways) == (Gap.DOUBTFUL, ())
    assert found["tag"].reason.startswith("eventId: leads to a tenant in other tables; with a foreign key, ")
    assert sorted(left(mapping(*tables, by=tenancy(unclassified="shared")))) == ["after", "tag"]
    report = TenancyReport("app", tuple(describe(Inventory("app", (ORG, *tables)), mapping(*tables), tenancy())))
    assert [line for line in toml_block("be", report) if "shared" in line] == [
        '  { match = ["public.plan", "public.word"], shared = true },'
    ]


def test_a_table_that_pairs_with_tenants_may_belong_to_several() -> None:
    """Its own column is then what somebody chose, as with users who may work for several companies."""
    user = table("user", key("org_id", "org"))
    member = table("member", key("user_id", "user"), key("org_id", "org"), unique=(("user_id", "org_id"),))
    log = table("log", key("user_id", "user"))
    found = mapping(user, member, log)
    assert routes(found) == {"org": "id", "member": "org_id"}
    assert left(found)["user"].reason == "a row may belong to several tenants: public.member pairs them"
    assert (left(found)["user"].gap, ways(left(found)["user"])) == (Gap.DOUBTFUL, ["org_id"])
    assert (left(found)["log"].gap, left(found)["log"].reason) == (
        Gap.WAITING,
        "it follows public.user, which is not mapped yet",
    )
    single = table("member", key("user_id", "user"), key("org_id", "org"), unique=(("user_id", "org_id"), ("user_id",)))
    assert routes(mapping(user, single))["user"] == "org_id"


def test_a_table_of_two_keys_is_enough_where_the_own_column_may_be_null() -> None:
    """Not every application declares that its pairs are unique; who wrote a pair does not count."""
    user = table("user", key("org_id?", "org"))
    member = table("member", key("user_id", "user"), key("org_id", "org"), key("create_uid?", "user"))
    assert left(mapping(user, member))["user"].reason.endswith("public.member pairs them")
    assert routes(mapping(table("user", key("org_id", "org")), member))["user"] == "org_id"
    setting = table("setting", key("user_id", "user"), key("org_id?", "org"))
    assert routes(mapping(user, setting))["user"] == "org_id"
    more = table("member", key("user_id", "user"), key("org_id", "org"), key("plan_id", "plan"))
    assert routes(mapping(user, more, table("plan")))["user"] == "org_id"


def test_columns_that_come_in_pairs_everywhere_say_who_wrote_a_row() -> None:
    """Whatever language their names are in."""
    user = table("user", key("org_id", "org"))
    written = [
        table(name, key("angelegt_von", "user"), key("geaendert_von?", "user"))
        for name in ("land", "waehrung", "lager")
    ]
    found = mapping(user, *written, table("ort", key("angelegt_von", "user")))
    assert {name: one.gap for name, one in left(found).items()} == dict.fromkeys(
        ("lager", "land", "ort", "waehrung"), Gap.NO_WAY
    )
    few = mapping(user, *written[:2])
    assert routes(few)["land"] == "angelegt_von > org_id"


def test_what_depends_on_an_undecided_table_waits_and_follows_its_rule() -> None:
    """One decision settles all that hangs on it, children first or last."""
    session = table("session", key("event_id?", "event"))
    answer = table("answer", key("session_id", "session"))
    part = table("part", key("answer_id", "answer"))
    waiting = left(mapping(EVENT, session, answer, part))
    assert {name: one.gap for name, one in waiting.items()} == {
        "session": Gap.DOUBTFUL,
        "answer": Gap.WAITING,
        "part": Gap.WAITING,
    }
    assert waiting["part"].reason == "it follows public.answer, which is not mapped yet"
    decided = mapping(EVENT, session, answer, part, by=tenancy(TableRule(("*.session",), path=("event_id",))))
    assert routes(decided)["part"] == "answer_id > session_id > event_id > org_id"


def test_rules_and_the_tenant_column_come_first() -> None:
    """What a rule shares is no way to a tenant any more; a column named for the database is taken before any key."""
    both = table("both", key("org_id?", "org"), key("event_id", "event"))
    assert left(mapping(EVENT, both))["both"].gap is Gap.SEVERAL
    assert routes(mapping(EVENT, both, by=tenancy(column="org_id")))["both"] == "org_id"
    shared = mapping(EVENT, ORDER, by=tenancy(TableRule(("*.event",), shared=True)))
    assert routes(shared) == {"org": "id", "event": "shared"}
    assert left(shared)["order"].gap is Gap.NO_WAY
    public = mapping(EVENT, by=tenancy(TableRule(("*.org",), shared=True)))
    assert routes(public) == {"org": "shared", "event": "org_id"}


def test_unclassified_shares_only_what_leads_to_no_tenant() -> None:
    """A table with ways, though doubtful ones, is never shared by a default."""
    doubtful, country = table("it", key("event_id?", "event")), table("country", key("create_uid?", "event"))
    found = mapping(EVENT, doubtful, country, table("waits", key("it", "it")), by=tenancy(unclassified="shared"))
    assert routes(found) == {"org": "id", "event": "org_id", "country": "shared"}
    assert sorted(left(found)) == ["it", "waits"]


@pytest.mark.parametrize("primary", [(), ("id", "part")])
@pytest.mark.parametrize("rules", [(), (TableRule(("public.org",), shared=True),)], ids=["no rule", "shared"])
def test_what_follows_tenants_whom_no_key_names_is_not_shared(
    primary: tuple[str, ...], rules: tuple[TableRule, ...]
) -> None:
    """A unique key can be referred to, too: a person says first which column names the tenant, and the rest follows."""
    tables = (table("org", primary=primary), EVENT, ORDER, table("country"))
    found = map_tables(tenancy(*rules, unclassified="shared"), Inventory("app", tables))
    assert [(name, one.gap) for name, one in left(found).items() if name != "org"] == [
        ("event", Gap.WAITING),
        ("order", Gap.WAITING),
    ]
    assert left(found)["event"].reason == "it follows public.org, in which no column is known to name the tenant"
    assert routes(found)["country"] == "shared"
    told = map_tables(tenancy(TableRule(("public.org",), column="id")), Inventory("app", tables))
    assert routes(told) == {"org": "id", "event": "org_id", "order": "event_id > org_id"}


def test_null_tenants_have_a_default_which_rules_may_change() -> None:
    """For every table whose rows name tenants, and for none besides."""
    by = tenancy(
        TableRule(("*.strict",), column="org_id", null_tenant="refuse"), TableRule(("*.free",), shared=True),
        null_tenant="shared",
    )  # fmt: skip
    found = mapping(EVENT, table("strict", key("org_id?", "org")), table("free"), by=by)
    assert {one.table.table: one.null_to_shared for one in found.tables} == {
        "org": True,
        "event": True,
        "strict": False,
        "free": False,
    }


def leaf(name: str, *keys: ForeignKey, **more: object) -> Table:
    return table(name, *keys, kind=TableKind.PARTITION, parents=(named("log"),), **more)


def test_partitions_are_mapped_as_the_table_they_are_part_of() -> None:
    """By the keys they have from it, whatever these are called."""
    log = table("log", key("event_id", "event"), kind=TableKind.PARTITIONED)
    inherited = ForeignKey("other_name", ("event_id",), named("event"), ("id",), ("OPERATOR(pg_catalog.=)",), True)
    found = mapping(EVENT, log, leaf("log_1", key("event_id", "event")), leaf("log_2", inherited))
    assert routes(found) == {"org": "id", "event": "org_id", "log_1": "event_id > org_id", "log_2": "event_id > org_id"}
    assert [one.root for one in found.tables if one.table.table.startswith("log")] == [named("log")] * 2


def test_keys_that_every_partition_has_are_the_tables() -> None:
    """Where the partitioned table has none itself; one that only some have is none."""
    log = table("log", kind=TableKind.PARTITIONED)
    ones = (leaf("log_1", key("event_id", "event"), key("org_id", "org")), leaf("log_2", key("event_id", "event")))
    assert routes(mapping(EVENT, log, *ones))["log_1"] == "event_id > org_id"
    parted = (leaf("log_1", key("event_id", "event")), leaf("log_2", key("org_id", "org")))
    assert {name: one.gap for name, one in left(mapping(EVENT, log, *parted)).items()} == {
        "log_1": Gap.NO_WAY,
        "log_2": Gap.NO_WAY,
    }


def test_a_rule_for_a_partitioned_table_names_keys_of_all_its_partitions() -> None:
    """By the key of the partitioned table, or by the column where the keys have no name in common."""
    first = ForeignKey("p1_event", ("event_id",), named("event"), ("id",), ("OPERATOR(pg_catalog.=)",), False)
    log = table("log", kind=TableKind.PARTITIONED)
    one, other = leaf("log_1", first), leaf("log_2", key("event_id?", "event", root="log_event"))
    (way,) = left(mapping(EVENT, log, one, other))["log_2"].ways
    assert way.path == ("event_id",)
    ruled = mapping(EVENT, log, one, other, by=tenancy(TableRule(("public.log",), path=way.path)))
    assert routes(ruled)["log_1"] == routes(ruled)["log_2"] == "event_id > org_id"
    rooted = mapping(EVENT, log, other, by=tenancy(TableRule(("public.log",), path=("log_event",))))
    assert routes(rooted)["log_2"] == "event_id > org_id"


def test_a_column_with_several_keys_is_no_name_of_one() -> None:
    """Then the key's own name is what ways spell and rules need."""
    twice = (key("event_id?", "event"), ForeignKey("b", ("event_id",), named("order"), ("id",), ("=",), False))
    found_ways = left(mapping(EVENT, ORDER, table("it", *twice)))["it"].ways
    assert [way.path for way in found_ways] == [("b",), ("fk_event_id",)]
    found = mapping(EVENT, ORDER, table("it", *twice), by=tenancy(TableRule(("*.it",), path=("event_id",))))
    assert "which has several foreign keys" in left(found)["it"].reason


def test_the_tenants_table_must_be_there_and_have_one_key() -> None:
    """The configured name is said; a rule may say which column names the tenant."""
    with pytest.raises(UnmappedError, match=r"the tenants' table 'public\.org' is not in the database"):
        map_tables(tenancy(), Inventory("app", (EVENT,)))
    wide = table("org", primary=("id", "region"))
    (refused,) = map_tables(tenancy(), Inventory("app", (wide,))).unmapped
    assert refused.reason == (
        "it is the tenants' table, and its primary key has 2 columns and not one; a rule with `column` says which "
        "names the tenant"
    )
    by = tenancy(TableRule(("public.org",), column="id"))
    found = map_tables(by, Inventory("app", (wide, EVENT)))
    assert routes(found) == {"org": "id", "event": "org_id"}


def test_one_spelling_is_asked_of_columns_that_keys_have_chosen() -> None:
    """Of the column itself, and of the tenants' key that it refers to."""
    loose = table("event", key("org_id", "org"), ambiguous=(("org_id", "citext"),))
    (refused,) = mapping(loose).unmapped
    assert (refused.ambiguous, refused.reason) == (
        True,
        "public.event.org_id says whose rows are, and is citext: one tenant may have several spellings",
    )
    found = map_tables(tenancy(), Inventory("app", (table("org", ambiguous=(("id", "numeric"),)), EVENT)))
    assert [one.ambiguous for one in found.unmapped] == [True, True]


def test_no_table_is_shared_by_kind_of_outcome() -> None:
    """`Shared` comes from rules and `unclassified` alone."""
    assert not any(isinstance(one.route, Shared) for one in mapping(EVENT, ORDER, table("country")).tables)
