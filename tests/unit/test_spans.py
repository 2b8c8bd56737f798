"""Spans of one segment, packed in one buffer."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from backupd.operations.backup.intake import Spans, by_table
from backupd.rows.protocol import Span

RUNS = st.lists(st.integers(-(1 << 40), 1 << 40), max_size=9)


@given(st.lists(RUNS, max_size=8))
def test_spans_come_back_as_they_were_added(all_runs: list[list[int]]) -> None:
    """Each under its task, whatever their lengths, as often as they are asked for."""
    spans = Spans()
    given_spans = [(task, Span(task, 9, "ab" * 32, array("q", runs)).packed()) for task, runs in enumerate(all_runs)]
    for task, span in given_spans:
        spans.add(task, span)
    assert list(spans.items()) == list(spans.items()) == given_spans


def test_a_tables_spans_are_in_the_order_of_its_ranges() -> None:
    """Tasks end in any order; tasks that read no table are left out."""
    spans = Spans()
    for task in (3, 1, 2, 9):
        spans.add(task, Span(task, 1, "ab" * 32, array("q")).packed())
    found = by_table(spans, {1: (0, 0), 2: (5, 0), 3: (0, 1)})
    assert {table: [span.rows for span in some] for table, some in found.items()} == {0: [1, 3], 5: [2]}
