"""The plan of a backup's tasks: which tables' foreign keys the server may follow by a hash table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, ForeignKeyPath, MappedTable, Shared, Step
from backupd.operations.backup.tasks import GRID, may_hash, plan_tasks


def table(name: str, blocks: int, rows: int | None, kind: TableKind = TableKind.TABLE) -> Table:
    return Table(TableName("public", name), 1, kind, ("id",), blocks=blocks, rows=rows)


COMMENTS = table("comment", 28_871, 927_351)


@pytest.mark.parametrize(
    ("child", "targets", "allowed"),
    [
        (COMMENTS, [table("issue", 27_212, 398_482)], True),
        (COMMENTS, [], False),
        (COMMENTS, [table("issue", 270_000, 1_200_000)], False),
        (COMMENTS, [table("issue", 10_000, 700_000), table("project", 10_000, 700_000)], False),
        (table("comment", 100, 9_000), [table("issue", 27_212, 398_482)], False),
        (table("comment", 8_000, 300_000), [table("issue", 27_212, 398_482)], False),
        (COMMENTS, [table("issue", 27_212, None)], False),
        (COMMENTS, [table("issue", 1_000, None)], True),
        (COMMENTS, [table("issue", 0, 398_482, TableKind.PARTITIONED)], False),
    ],
    ids=[
        "targets fit",
        "no key to follow",
        "too many rows",
        "too many rows together",
        "a table that is smaller than its targets",
        "a table that is hardly larger than the hash table",
        "never analyzed and large",
        "never analyzed and small",
        "partitions are not counted",
    ],
)
def test_hash_tables_are_allowed_where_they_keep_the_order(child: Table, targets: list[Table], allowed: bool) -> None:
    """A hash table larger than memory, or one of the wrong side, would give the rows in another order."""
    assert may_hash(child, targets) is allowed


@pytest.mark.parametrize(
    ("blocks", "rows", "tasks"),
    [(10, 1, 4), (GRID // 2, 1, 4), (GRID, 1, 2), (3 * GRID, 1, 1), (GRID, 2_000_000, 4)],
    ids=["small", "half a range", "a range", "more than the table", "not hashed"],
)
def test_a_range_is_at_least_twice_as_long_as_what_it_hashes(blocks: int, rows: int, tasks: int) -> None:
    """Each range reads the targets of the keys again."""
    issue, comment = table("issue", blocks, rows), table("comment", 4 * GRID, 2_000_000)
    key = ForeignKey("on", ("issue_id",), issue.name, ("id",), ("OPERATOR(pg_catalog.=)",), required=True)
    mapped = [
        MappedTable(issue.name, Shared(), "all", ClassPolicy.STANDARD),
        MappedTable(comment.name, ForeignKeyPath((Step(key, whole=False),), "tenant"), "all", ClassPolicy.STANDARD),
    ]
    planned = plan_tasks(mapped, {one.name: one for one in (issue, comment)}, lambda _, usual: usual)
    ranges = [task.copy for task in planned if task.table == comment]
    assert len(ranges) == tasks
    assert {one.hash_join for one in ranges} == {rows == 1}


@pytest.mark.parametrize(
    ("distinct", "rows", "parts"),
    [((("tenant", 500.0),), 2_000_000, 34), ((), 2_000_000, 4), ((("tenant", 500.0),), 1, 34)],
    ids=["as others", "tenants unknown", "hashed otherwise"],
)
def test_parts_of_a_table_without_tenants_of_its_own_are_as_small_as_others(
    distinct: tuple[tuple[str, float], ...], rows: int, parts: int
) -> None:
    """Where one of them is read, the others are not; each would hash the targets again, so none does."""
    issue, comment = replace(table("issue", GRID, rows), distinct=distinct), table("comment", 4 * GRID, 2_000_000)
    key = ForeignKey("on", ("issue_id",), issue.name, ("id",), ("OPERATOR(pg_catalog.=)",), required=True)
    route = ForeignKeyPath((Step(key, whole=False),), "tenant")
    planned = plan_tasks(
        [MappedTable(comment.name, route, "all", ClassPolicy.STANDARD)],
        {one.name: one for one in (issue, comment)},
        lambda _, usual: usual,
        lambda _, usual: usual,
    )
    assert len(planned) == parts
    assert not any(task.copy.hash_join for task in planned)
