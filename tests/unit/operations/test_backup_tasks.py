"""The plan of a backup's tasks: which tables' foreign keys the server may follow by a hash table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from backupd.model.inventory import ForeignKey, Table, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, ForeignKeyPath, MappedTable, Shared, Step
from backupd.operations.backup.stretches import stretches
from backupd.operations.backup.tasks import GRID, TableTask, may_hash, plan_tasks
from backupd.rows.protocol import CopyTask, StretchTask


def table(name: str, blocks: int, rows: int | None, kind: TableKind = TableKind.TABLE) -> Table:
    return Table(TableName("public", name), 1, kind, ("id",), blocks=blocks, rows=rows)


COMMENTS = table("comment", 28_871, 927_351)


@pytest.mark.parametrize(
    ("child", "targets", "allowed"),
    [
        (COMMENTS, [table("issue", 27_212, 398_482)], True),
        (COMMENTS, [], False),
        (COMMENTS, [table("issue", 270_000, 2_200_000)], False),
        (COMMENTS, [table("issue", 10_000, 1_100_000), table("project", 10_000, 1_100_000)], False),
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
    assert may_hash(child.blocks, targets) is allowed


@pytest.mark.parametrize(
    ("blocks", "rows", "tasks"),
    [(10, 1, 4), (GRID // 2, 1, 4), (GRID, 1, 2), (3 * GRID, 1, 1), (GRID, 3_000_000, 4)],
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
    [((("tenant", 500.0),), 2_000_000, 34), ((), 3_000_000, 4), ((("tenant", 500.0),), 1, 34)],
    ids=["as others", "tenants unknown", "hashed otherwise"],
)
def test_parts_of_a_table_without_tenants_of_its_own_are_as_small_as_others(
    distinct: tuple[tuple[str, float], ...], rows: int, parts: int
) -> None:
    """Where one of them is read, the others are not; each would hash the targets again, so none does."""
    planned = _planned(replace(table("issue", GRID, rows), distinct=distinct))
    assert len(planned) == parts
    assert not any(task.copy.hash_join for task in planned)


def _planned(issue: Table, more: tuple[MappedTable, ...] = ()) -> list[TableTask]:
    """Return the extents of comments that find their tenants through issues."""
    comment = table("comment", 4 * GRID, 2_000_000)
    key = ForeignKey("on", ("issue_id",), issue.name, ("id",), ("OPERATOR(pg_catalog.=)",), required=True)
    route = ForeignKeyPath((Step(key, whole=False),), "tenant")
    return plan_tasks(
        [MappedTable(comment.name, route, "all", ClassPolicy.STANDARD), *more],
        {one.name: one for one in (issue, comment)},
        lambda _, usual: usual,
        lambda _, usual: usual,
    )


def _places(found: Sequence[CopyTask | StretchTask], tasks: Sequence[TableTask]) -> list[list[int]]:
    places = {task.copy.task: task.place for task in tasks}
    parts = [one.extents if isinstance(one, StretchTask) else [one] for one in found]
    return [[places[copy.task] for copy in part] for part in parts]


ISSUES = replace(table("issue", GRID // 4, 1000), distinct=(("tenant", 500.0),))


def test_extents_of_a_table_are_read_by_one_hash_table() -> None:
    """As many as are worth one; in the order in which they lie, as their rows come in that order."""
    extents = _planned(ISSUES)
    assert _places(stretches(extents), extents) == [[*range(8)], [*range(8, 16)], [*range(16, 24)], [*range(24, 34)]]
    assert f'"({extents[1].extent.start},0)"' in next(
        one.sql for one in stretches(extents) if isinstance(one, StretchTask) and one.extents[0] == extents[0].copy
    )


def test_extents_with_a_gap_between_them_are_read_together() -> None:
    """What lies in the gap is not read. A rest that is not worth a hash table belongs to what is before."""
    extents = [task for task in _planned(ISSUES) if task.place in (0, 2, 4, 6, *range(8, 18))]
    assert _places(stretches(extents), extents) == [[0, 2, 4, 6, 8, 9, 10, 11], [12, 13, 14, 15, 16, 17]]
    assert stretches(extents[:1]) == [extents[0].copy]


@pytest.mark.parametrize(("rows", "together"), [(524_288, True), (524_320, False)])
def test_few_extents_are_read_together_where_their_hash_table_costs_less_than_looking_up(
    rows: int, *, together: bool
) -> None:
    """Two extents of 8 MiB each, and a hash table of 32 MiB, or of more."""
    extents = _planned(replace(ISSUES, rows=rows))[-2:]
    assert [task.blocks for task in extents] == [1024, 1024]
    assert isinstance(stretches(extents)[0], StretchTask) is together


def test_few_extents_are_read_one_by_one_where_more_tables_lead_to_their_tenants() -> None:
    """Of rows that a first table leads on PostgreSQL has statistics: it may think of hashing those that are read."""
    extents = _planned(replace(ISSUES, rows=500_000))[-2:]
    assert len(stretches(extents)) == 1
    assert len(stretches([replace(task, joined=(*task.joined, table("project", 1, 1))) for task in extents])) == 2


def test_extents_are_read_one_by_one_where_their_targets_do_not_fit_into_memory() -> None:
    """A hash table larger than that gives the rows in another order."""
    extents = _planned(replace(ISSUES, rows=3_000_000))
    assert stretches(extents) == [task.copy for task in sorted(extents, key=lambda task: -task.blocks)]
