"""Unit tests of what a backup collects from its workers: spans by table, and the tally of each task."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from backupd.model.ids import Pseudonym
from backupd.operations.backup.collect import Collector, RunTarget, SpanLog, TaskTally, by_table
from backupd.rows.protocol import Advanced, Span, TaskDone
from backupd.trace import Trace


def span(rows: int, size: int = 1, run: int = 0) -> Span:
    return Span(rows, size, b"ab" * 16, array("q", [run]))


def test_a_tables_spans_are_in_the_order_of_its_ranges() -> None:
    """Tasks end in any order; tasks that read no table are left out."""
    spans = [(task, span(task, run=task).packed()) for task in (3, 1, 2, 9)]
    found = by_table(spans, {1: (0, 0), 2: (5, 0), 3: (0, 1)})
    assert {table: [one.rows for one in some] for table, some in found.items()} == {0: [1, 3], 5: [2]}
    assert [list(one.runs) for one in found[0]] == [[1], [3]]


@pytest.mark.parametrize(("counted", "complete"), [(12, True), (13, False), (11, False)])
def test_a_row_that_is_in_no_segment_or_in_two_is_noticed(tmp_path: Path, counted: int, complete: bool) -> None:
    """A task's rows are those of its segments and those of purged tenants, which have no pseudonym."""
    target = cast("RunTarget", SimpleNamespace())
    collector = Collector(target, 1 << 20, SpanLog(tmp_path / "spans"))
    spans: list[tuple[str, Any]] = [("a" * 32, span(4, 40)), ("b" * 32, span(5, 50)), ("", span(3, 30))]
    collector.done(TaskDone(7, counted, [(pseudonym, one.packed()) for pseudonym, one in spans], 2))
    tally = collector.tallies[7]
    assert set(collector.met.values()) == {2}
    assert tally == TaskTally(rows=counted, placed=9, left_out=3, size=90)
    assert (tally.kept, tally.complete) == (counted - 3, complete)
    assert [task for task, _ in collector.spans.of(Pseudonym("a" * 32))] == [7]


def test_what_is_new_is_told_apart_from_what_is_on_the_store(tmp_path: Path) -> None:
    """Packs come to the store some seconds behind their rows: by what was sent, little would seem to be new."""
    told: list[Any] = []
    target = cast("RunTarget", SimpleNamespace(uploader=SimpleNamespace(sent=3, objects=1)))
    collector = Collector(target, 1 << 20, SpanLog(tmp_path / "spans"))
    collector.begin(cast("Trace", SimpleNamespace(emit=told.append)), "be/app", lambda: None)
    for _ in range(2):
        collector.advanced(Advanced(100, 10, 40))
    assert [(one.bytes_in, one.new, one.sent) for one in told] == [(100, 40, 3), (200, 80, 3)]
