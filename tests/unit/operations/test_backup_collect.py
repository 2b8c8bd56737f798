"""Spans of one segment, by table."""

from __future__ import annotations

from array import array

from backupd.operations.backup.collect import by_table
from backupd.rows.protocol import Span


def test_a_tables_spans_are_in_the_order_of_its_ranges() -> None:
    """Tasks end in any order; tasks that read no table are left out."""
    spans = [(task, Span(task, 1, "ab" * 32, array("q", [task])).packed()) for task in (3, 1, 2, 9)]
    found = by_table(spans, {1: (0, 0), 2: (5, 0), 3: (0, 1)})
    assert {table: [span.rows for span in some] for table, some in found.items()} == {0: [1, 3], 5: [2]}
    assert [list(span.runs) for span in found[0]] == [[1], [3]]
