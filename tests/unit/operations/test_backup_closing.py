"""The end of a run's segments: which workers write their manifests, and what they have to learn for it."""

from __future__ import annotations

from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from backupd.model.ids import Pseudonym
from backupd.model.manifest import RowsEntry
from backupd.operations.backup.closing import SegmentClosing, meetings
from backupd.operations.backup.collect import SpanLog
from backupd.operations.backup.generation import digest
from backupd.repository.manifests import encode_entries
from backupd.rows.protocol import CopyTask, Span, unpack_span

KEY = bytes(32)
A, B, C, D = (Pseudonym(letter * 32) for letter in "abcd")


def _entries(_: Pseudonym, read: list[tuple[int, bytes]]) -> list[RowsEntry]:
    spans = [unpack_span(packed) for _, packed in read]
    return [RowsEntry(1, [tuple(span[:3]) for span in spans], [number for span in spans for number in span.runs])]


def _closing(folder: Path, sections: dict[Pseudonym, int], met: dict[Pseudonym, int], **values: Any) -> SegmentClosing:
    """Return the end of a run of two workers, whose first section is the 11th, with one section for each segment."""
    spans = SpanLog(folder / "spans")
    known = {}
    for task, (segment, number) in enumerate(sections.items()):
        packed = Span(3, 30, b"ab" * 16, array("q", [number, 0, 1])).packed()
        spans.add(segment, task, packed)
        if segment in values.get("kept", ()):
            known[segment] = 7, digest(KEY, b"".join(encode_entries(_entries(segment, [(task, packed)]))))
    contents = SimpleNamespace(named=values.get("named", {}), entries=_entries)
    index = SimpleNamespace(manifests=lambda *_: known, last_number=lambda: 13)
    collector = SimpleNamespace(spans=spans, met=met, digests={})
    target = SimpleNamespace(generation=SimpleNamespace(chunk_key=KEY), index=index)
    given: Any = contents, collector, target, SimpleNamespace(workers=2, last_section=10)
    return SegmentClosing(*given)


def test_the_worker_that_began_a_section_ends_it(tmp_path: Path) -> None:
    """Also where the index has some sections of this run, as packs are published while others are read."""
    found = _closing(tmp_path, {A: 11, B: 12, C: 13, D: 14}, {}).closings()
    assert [(segment.pseudonym, worker) for worker, segment in found] == [(A, 0), (B, 1), (C, 0), (D, 1)]


def test_only_a_segment_that_no_worker_can_end_is_to_be_met(tmp_path: Path) -> None:
    """Of A something was read, B is as it was, C is named by more than rows; of D nobody knows whose it is."""
    met = {A: 1}
    closing = _closing(tmp_path, {A: 3, B: 4, C: 5, D: 6}, met, named={C: ("all", None)}, kept=[B])
    assert list(closing.unmet()) == [[3]]
    met[D] = 1
    assert [(segment.pseudonym, worker) for worker, segment in closing.closings()] == [(A, 1), (C, 0), (D, 1)]


def test_few_and_small_parts_are_read_to_meet_segments() -> None:
    """One that is read for one segment does for others, and one that joins no table comes before one that does."""
    parts = [(9, 0), (4, 1), (5, 0), (6, 0)]
    tables: Any = [
        SimpleNamespace(
            joined=("a table",) * joined,
            blocks=blocks,
            copy=CopyTask(task, "", "all", True, None, False, (), "", 3),
        )
        for task, (blocks, joined) in enumerate(parts)
    ]
    found = meetings([[0, 1, 2], [2, 3], [3, 1, 77], [1]], tables)
    assert [task.copy.task for task in found] == [2, 3, 1]
    assert meetings(cast("list[list[int]]", []), tables) == []
