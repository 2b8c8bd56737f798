"""Every piece is read exactly once, and few tables are open at a time."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from backupd.model.documents import LedgerHead, Record, Totals
from backupd.model.manifest import FileEntry, RowsEntry, TableEntry
from backupd.planning.restore import Planner

HEAD = FileEntry("ddl-head", 1, bytes(32), [1, 0, 1])
NUMBERS = {name: number for number, name in enumerate("abcdefghij", 1)}
TABLES = [TableEntry(number, "s", name, ["a"]) for name, number in NUMBERS.items()]
SIZES = st.one_of(st.integers(0, 100), st.integers(3 << 20, 6 << 20))
SEGMENTS = st.lists(st.dictionaries(st.sampled_from("abcdefghij"), SIZES), min_size=1, max_size=8)


@given(SEGMENTS, st.integers(1, 5))
def test_the_plan_reads_everything_once(segments: list[dict[str, int]], wide: int) -> None:
    """Of any tables and sizes: all pieces, each once, a table in one pass, at most `wide` in each."""
    total = sum(size for segment in segments for size in segment.values())
    record = Record(
        repository="ab" * 16,
        region="be",
        generation="20260102T030405Z-0a0b0c0d",
        run="20260102T030405Z-0a0b0c0d",
        database="app",
        exported="2026-01-02T03:04:05.000000Z",
        published="2026-01-02T03:04:06.000000Z",
        server=170000,
        ledger=LedgerHead(seq=0),
        packs=[],
        totals=Totals(tables=0, rows=total, bytes=total, stored=0, added=0),
    )
    planner = Planner(record)
    planner.define(TABLES, "the structure")
    planner.add(len(segments), [*TABLES, HEAD], "the structure", structure=True)
    for place, segment in enumerate(segments):
        entries = [RowsEntry(NUMBERS[name], [(size, size, bytes(32))], [1, 0, 1]) for name, size in segment.items()]
        planner.add(place, entries, "a segment")
    plan = planner.plan(wide)
    pieces = [(plan.tables[one.table].name, one.segment) for each in plan.passes for bundle in each for one in bundle]
    assert sorted(pieces) == sorted(
        (name, at) for at, segment in enumerate(segments) for name, size in segment.items() if size
    )
    counted = Counter(name for name, _ in pieces)
    assert {table.name: table.pieces for table in plan.tables} == counted
    opened = [{one.table for bundle in each for one in bundle} for each in plan.passes]
    assert all(sum(plan.tables[table].pieces > 1 for table in tables) <= wide for tables in opened)
    assert sum(map(len, opened)) == len(plan.tables)
    assert [table.bytes for table in plan.tables] == sorted((table.bytes for table in plan.tables), reverse=True)
