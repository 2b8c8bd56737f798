"""Which tables' extents may be taken over, which are read, and by what a remembered extent is found again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, Column, ForeignKeyPath, MappedTable, Route, Shared, Step, Tenant
from backupd.planning.incremental.extents import (
    TableExtent,
    extent_blocks,
    identity,
    table_extents,
    why_led_elsewhere,
    why_never,
    why_read,
)
from backupd.planning.incremental.facts import UNIT, BlockChanges, ColumnFacts, FileId, Reason, TableFacts
from backupd.planning.incremental.waypoints import WayChange

NOTE, ITEM = TableName("public", "note"), TableName("public", "item")
FILE, OTHER = FileId(1663, 100), FileId(1663, 200)
EQUALS = 'OPERATOR("pg_catalog".=)'
KEY = ForeignKey("item_note_id_fkey", ("note_id",), NOTE, ("id",), (EQUALS,), required=True)


def column(number: int, name: str, kind: str = "pg_catalog.int4", *, dropped: bool = False) -> ColumnFacts:
    return ColumnFacts(number, name, kind, -1, dropped, "", "700")


MOOD = column(3, "said", "16500")._replace(labels="16502 700 good")
COLUMNS = (column(1, "id"), column(2, "tenant"), column(3, "said", "pg_catalog.text[]"))
FACTS = {
    NOTE: TableFacts(1, FILE, logged=True, heap=True, columns=COLUMNS),
    ITEM: TableFacts(2, OTHER, logged=True, heap=True, columns=(column(1, "id"), column(2, "note_id"))),
}
NOTES = Table(NOTE, 1, TableKind.TABLE, ("id", "tenant", "said"), blocks=5000)
ITEMS = Table(ITEM, 2, TableKind.TABLE, ("id", "note_id"), (KEY,), blocks=5000)


def mapped(table: Table, route: Route) -> MappedTable:
    return MappedTable(table.name, route, "uploaded", ClassPolicy.STANDARD)


def path(key: ForeignKey = KEY, *, whole: bool = False) -> MappedTable:
    return mapped(ITEMS, ForeignKeyPath((Step(key, whole),), "tenant"))


def with_column(name: TableName, changed: ColumnFacts) -> dict[TableName, TableFacts]:
    columns = [changed if one.number == changed.number else one for one in FACTS[name].columns]
    return FACTS | {name: replace(FACTS[name], columns=tuple(columns))}


@pytest.mark.parametrize("many", [frozenset(), frozenset(range(1000, 1100))], ids=["few changed", "many changed"])
def test_an_extent_is_touched_by_its_own_blocks_only(many: frozenset[int]) -> None:
    """Whether its units or those that changed are fewer; without an end it goes on for ever."""
    changes = BlockChanges({FILE: frozenset({2, 5}) | many})
    extents = [(0, 2), (2, 3), (3, 5), (4, 6), (6, 1000)]
    assert [changes.touch(FILE, start * UNIT, end * UNIT) for start, end in extents] == [
        False, True, False, True, False,
    ]  # fmt: skip
    assert changes.touch(FILE, 5 * UNIT)
    assert changes.touch(FILE, 6 * UNIT) is bool(many)
    assert not changes.touch(OTHER)


@pytest.mark.parametrize("route", [Column("tenant"), Shared(), Tenant("t")])
def test_a_table_of_plain_columns_may_be_skipped(route: Route) -> None:
    """And so may one whose rows find their tenant by a foreign key."""
    assert why_never(NOTES, mapped(NOTES, route), FACTS) is None
    assert why_never(ITEMS, path(), FACTS) is None
    assert why_never(NOTES, mapped(NOTES, route), with_column(NOTE, MOOD)) is None


@pytest.mark.parametrize(
    ("table", "facts", "reason"),
    [
        (NOTES, FACTS | {NOTE: replace(FACTS[NOTE], logged=False)}, Reason.UNLOGGED),
        (NOTES, FACTS | {NOTE: replace(FACTS[NOTE], heap=False)}, Reason.NOT_HEAP),
        (NOTES, {}, Reason.NOT_HEAP),
        (replace(NOTES, condition="WHERE id > 9"), FACTS, Reason.CONDITION),
        (NOTES, with_column(NOTE, column(3, "said", "public.mood")), Reason.OUTPUT),
        (NOTES, with_column(NOTE, column(3, "said", "pg_catalog.regclass")), Reason.OUTPUT),
        (NOTES, with_column(NOTE, column(3, "said", "16500")), Reason.OUTPUT),
        (NOTES, with_column(NOTE, column(2, "tenant", "public.email")), Reason.OUTPUT),
        (replace(NOTES, columns=("id",)), with_column(NOTE, column(2, "tenant", "public.email")), Reason.ROUTE),
        (
            replace(NOTES, columns=("id",)),
            with_column(NOTE, column(2, "tenant")._replace(generated="v")),
            Reason.ROUTE,
        ),
    ],
    ids=[
        "unlogged",
        "another access method",
        "no facts",
        "an extension's condition",
        "an enum without labels",
        "a name looked up",
        "an array of something else",
        "a domain",
        "a generated tenant of a domain",
        "a tenant computed on reading",
    ],
)
def test_what_may_change_without_a_block_is_always_read(
    table: Table, facts: dict[TableName, TableFacts], reason: Reason
) -> None:
    """No summary names it."""
    assert why_never(table, mapped(table, Column("tenant")), facts) is reason


@pytest.mark.parametrize(
    ("way", "facts"),
    [
        (path(whole=True), FACTS),
        (path(replace(KEY, foreign_code=True)), FACTS),
        (path(replace(KEY, temporal=True)), FACTS),
        (path(replace(KEY, backward=True)), FACTS),
        (path(replace(KEY, operators=('OPERATOR("public".=)',))), FACTS),
        (path(replace(KEY, operators=(f'COLLATE "public"."mine" {EQUALS}',))), FACTS),
        (path(), {ITEM: FACTS[ITEM]}),
        (path(), FACTS | {NOTE: replace(FACTS[NOTE], logged=False)}),
        (path(), FACTS | {NOTE: replace(FACTS[NOTE], heap=False)}),
        (path(), with_column(NOTE, column(1, "id", "public.key"))),
        (path(), with_column(NOTE, column(2, "tenant", "public.email"))),
        (path(), with_column(NOTE, column(2, "tenant")._replace(generated="v"))),
    ],
    ids=[
        "to a partitioned table",
        "by somebody's code",
        "by periods",
        "to what refers to them",
        "by an operator of one's own",
        "by a collation of one's own",
        "to a table without facts",
        "to an unlogged table",
        "to another access method",
        "by a type of one's own",
        "to a tenant of a domain",
        "to a tenant computed on reading",
    ],
)
def test_rows_are_read_whose_way_to_their_tenant_is_not_seen(
    way: MappedTable, facts: dict[TableName, TableFacts]
) -> None:
    """They may belong to somebody else although their own block is as it was."""
    assert why_never(ITEMS, way, facts) is Reason.ROUTE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (BlockChanges(), None),
        (BlockChanges({OTHER: frozenset({9})}), None),
        (BlockChanges(limited=frozenset({OTHER})), Reason.NEW_FILE),
        (BlockChanges(whole=True), Reason.NEW_FILE),
        (BlockChanges(limited=frozenset({FILE})), None),
        (BlockChanges({FileId(1664, 200): frozenset({0})}, frozenset({FileId(1663, 300)})), None),
    ],
    ids=["nothing", "other blocks", "truncated", "a moved database", "another truncated", "others"],
)
def test_an_extent_is_read_when_its_file_is_another(changes: BlockChanges, reason: Reason | None) -> None:
    """A truncation hides what was changed behind it."""
    assert why_read(TableExtent(0, UNIT), FACTS[ITEM], changes, remembered=True) is reason


@pytest.mark.parametrize(
    ("led", "homeless", "reason"),
    [
        ([], True, None),
        ([WayChange.NONE, WayChange.NONE], True, None),
        ([WayChange.NONE, WayChange.MORE], False, None),
        ([WayChange.MORE, WayChange.NONE], True, Reason.ROUTE_CHANGED),
        ([WayChange.NONE, WayChange.UNKNOWN], False, Reason.ROUTE_CHANGED),
    ],
    ids=["its own tenant", "as before", "more rows", "more rows, and some without a tenant", "unknown"],
)
def test_an_extent_is_read_when_its_rows_may_lead_elsewhere(
    led: list[WayChange], homeless: bool, reason: Reason | None
) -> None:
    """A row that was added leads nobody away, and may lead somebody to a tenant who had none."""
    assert why_led_elsewhere(led, homeless=homeless) is reason


@pytest.mark.parametrize(
    ("extent", "units", "reason"),
    [
        (TableExtent(0, UNIT), {1}, None),
        (TableExtent(0, UNIT), {0}, Reason.CHANGED),
        (TableExtent(UNIT, 3 * UNIT), {0, 3}, None),
        (TableExtent(UNIT, 3 * UNIT), {2}, Reason.CHANGED),
        (TableExtent(2 * UNIT, None), {0, 1}, None),
        (TableExtent(2 * UNIT, None), {900}, Reason.CHANGED),
        (TableExtent(10, UNIT), set(), Reason.CHANGED),
        (TableExtent(0, 10), set(), Reason.CHANGED),
    ],
    ids=["behind", "inside", "around", "last", "before", "growth", "odd start", "odd end"],
)
def test_an_extent_is_read_when_one_of_its_blocks_has_changed(
    extent: TableExtent, units: set[int], reason: Reason | None
) -> None:
    """The last extent has no end: new blocks are its own."""
    changes = BlockChanges({FILE: frozenset(units)})
    assert why_read(extent, FACTS[NOTE], changes, remembered=True) is reason
    assert why_read(extent, FACTS[NOTE], changes, remembered=False) is Reason.NOTHING_REMEMBERED


@pytest.mark.parametrize(
    "facts",
    [
        FACTS | {NOTE: replace(FACTS[NOTE], oid=9)},
        FACTS | {NOTE: replace(FACTS[NOTE], file=FileId(1663, 101))},
        FACTS | {NOTE: replace(FACTS[NOTE], file=FileId(1664, 100))},
        with_column(NOTE, column(3, "said", "pg_catalog.text")),
        with_column(NOTE, column(3, "said", "pg_catalog.text[]")._replace(modifier=14)),
        with_column(NOTE, column(3, "said", "pg_catalog.text[]")._replace(version="701")),
        with_column(NOTE, column(3, "said", "pg_catalog.text[]", dropped=True)),
        with_column(NOTE, MOOD),
        FACTS | {NOTE: replace(FACTS[NOTE], columns=(*COLUMNS, column(4, "new")))},
        FACTS | {NOTE: replace(FACTS[NOTE], columns=(*COLUMNS, column(4, "old", dropped=True)))},
    ],
    ids=[
        "another table",
        "rewritten",
        "moved",
        "another type",
        "another length",
        "defined anew",
        "a column dropped",
        "other labels",
        "a column added",
        "a column added and dropped",
    ],
)
def test_what_was_read_of_another_form_is_not_found(facts: dict[TableName, TableFacts]) -> None:
    """The identity of an extent has in it what decides its text, of the tables on the way to its tenant, too."""
    for table, way in ((NOTES, mapped(NOTES, Column("tenant"))), (ITEMS, path())):
        assert identity(["how"], way, table, FACTS) == identity(["how"], way, table, dict(FACTS))
        assert identity(["how"], way, table, facts) != identity(["how"], way, table, FACTS)
    assert identity(["else"], mapped(NOTES, Shared()), NOTES, FACTS) != identity(
        ["how"], mapped(NOTES, Shared()), NOTES, FACTS
    )


@pytest.mark.parametrize(
    ("tenants", "blocks", "expected"),
    [
        (1, 100, UNIT),
        (50, 100_000, UNIT),
        (500, 100_000, 8 * UNIT),
        (5_000, 100_000, 128 * UNIT),
        (10**6, 100_000, 128 * UNIT),
        (1, 10**9, 262_144),
    ],
)
def test_extents_grow_with_tenants_and_tables(tenants: int, blocks: int, expected: int) -> None:
    """Chunks stay large, and a manifest's line short."""
    assert extent_blocks(tenants, blocks) == expected
    assert expected % UNIT == 0
    assert blocks / expected <= 4096


@pytest.mark.parametrize(
    ("blocks", "starts"),
    [
        (0, [0]),
        (3, [0]),
        (6, [0]),
        (7, [0, 4]),
        (16, [0, 4, 8, 12]),
        (17, [0, 4, 8, 12]),
        (18, [0, 8, 12]),
        (34, [0, 8, 16, 24, 28]),
        (35, [0, 8, 16, 24, 28, 32]),
    ],
)
def test_extents_are_smaller_at_a_tables_end(blocks: int, starts: list[int]) -> None:
    """Where rows are added; each table is covered once."""
    found = table_extents(blocks * UNIT, 8 * UNIT)
    assert [one.start // UNIT for one in found] == starts
    assert [one.end for one in found] == [*(one.start for one in found[1:]), None]


def test_extents_before_the_end_stay_where_they_were_when_a_table_grows() -> None:
    """Those of a table of the least size, too, which has no halves."""
    for size in (UNIT, 8 * UNIT):
        before: list[TableExtent] = []
        for blocks in range(0, 60 * UNIT, 7):
            found = table_extents(blocks, size)
            settled = [one for one in before if one.end is not None and one.end <= found[-1].start - 3 * size]
            assert set(settled) <= set(found)
            assert all(one.start % UNIT == 0 for one in found)
            before = found
