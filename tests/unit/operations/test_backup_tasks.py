"""The plan of a backup's tasks: which tables' foreign keys the server may follow by a hash table."""

from __future__ import annotations

import pytest

from backupd.model.inventory import Table, TableKind, TableName
from backupd.operations.backup.tasks import GRID, _grid, may_hash


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
        "never analyzed and large",
        "never analyzed and small",
        "partitions are not counted",
    ],
)
def test_hash_tables_are_allowed_where_they_keep_the_order(child: Table, targets: list[Table], allowed: bool) -> None:
    """A hash table larger than memory, or one of the wrong side, would give the rows in another order."""
    assert may_hash(child, targets) is allowed


@pytest.mark.parametrize(("blocks", "grid"), [(10, GRID), (GRID // 2, GRID), (27_212, 4 * GRID), (100_000, 16 * GRID)])
def test_a_range_is_at_least_twice_as_long_as_its_targets(blocks: int, grid: int) -> None:
    """Each range reads them again."""
    assert _grid([table("issue", blocks, 1)]) == grid
