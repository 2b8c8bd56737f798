"""The plan of a restore, from hand-made manifests."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from backupd.errors import DamageError
from backupd.model.documents import LedgerHead, Record, Totals
from backupd.model.manifest import Entry, FactsEntry, FileEntry, SegmentEntry, SequencesEntry, TableEntry
from backupd.planning.restore import Piece, Planner, RestorePlan

SECRET = "hidden-marker"
HEAD = FileEntry("ddl-head", 1, "0" * 64, [0, 0, 1])
BIG = 8 << 20


def table(name: str, rows: int, size: int, columns: Sequence[str] = ("a",)) -> TableEntry:
    spans = [(rows, size, "0" * 64)] if rows else []
    return TableEntry("public", name, list(columns), rows, size, spans, [0, 0, 1] if rows else [])


def planned(parts: Sequence[Sequence[Entry]], *, missing: int = 0, wide: int = 16) -> RestorePlan:
    """The plan of these parts' entries; the record says `missing` rows more."""
    tables = [entry for part in parts for entry in part if isinstance(entry, TableEntry)]
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
        parts=[(f"{place:032x}", f"{place:064x}", 1000) for place in range(len(parts))],
        totals=Totals(
            tables=0,
            rows=sum(entry.rows for entry in tables) + missing,
            bytes=sum(entry.bytes for entry in tables),
            stored=0,
            added=0,
        ),
    )
    planner = Planner(record)
    for place, entries in enumerate(parts):
        planner.add(place, [SegmentEntry("app", "uploaded", SECRET), *entries])
    return planner.plan(wide)


def where(plan: RestorePlan, bundle: Sequence[Piece]) -> list[tuple[str, int]]:
    return [(plan.tables[piece.table].name, piece.part) for piece in bundle]


def test_big_pieces_go_by_table_and_small_ones_by_segment() -> None:
    """A table's big pieces are one bundle, biggest table first; then each segment's small ones together."""
    parts = [
        [HEAD, table("small", 1, 10), table("big", 9, BIG), table("huge", 9, 3 * BIG)],
        [table("small", 2, 20), table("big", 9, BIG), table("huge", 1, 5)],
        [table("small", 3, 30), table("alone", 1, 1)],
    ]
    plan = planned(parts)
    assert [one.name for one in plan.tables] == ["huge", "big", "small", "alone"]
    (bundles,) = plan.passes
    assert [where(plan, bundle) for bundle in bundles] == [
        [("huge", 0)],
        [("big", 0), ("big", 1)],
        [("small", 0)],
        [("huge", 1), ("small", 1)],
        [("small", 2), ("alone", 2)],
    ]
    assert (plan.rows, plan.bytes, plan.spans) == (35, 5 * BIG + 66, 8)
    assert [one.pieces for one in plan.tables] == [2, 2, 3, 1]


def test_few_tables_are_open_at_once() -> None:
    """Tables of several pieces are filled a few at a time; those of one piece come with the first."""
    parts = [
        [HEAD, *(table(f"t{number}", 1, 10 + number) for number in range(10))],
        [table(f"t{number}", 1, 10) for number in range(10)],
        [table("alone", 1, 1)],
    ]
    plan = planned(parts, wide=4)
    opened = [{name for bundle in bundles for name, _ in where(plan, bundle)} for bundles in plan.passes]
    assert opened == [
        {"t9", "t8", "t7", "t6", "alone"},
        {"t5", "t4", "t3", "t2"},
        {"t1", "t0"},
    ]


def test_pieces_keep_their_spans_and_runs() -> None:
    """What was packed away comes back."""
    entry = TableEntry("s", "t", ["a"], 3, 9, [(1, 4, "1" * 64), (2, 5, "2" * 64)], [0, 5, 2, 1, 2**31, 7])
    plan = planned([[HEAD, entry]])
    assert plan.passes[0][0][0].unpacked() == (entry.spans, entry.runs)


def test_tables_without_rows_are_left_to_the_schema() -> None:
    """An empty table has nothing to be filled with."""
    plan = planned([[HEAD, table("empty", 0, 0)]])
    assert plan.tables == ()
    assert plan.passes == ((),)


def test_what_segments_say_beside_rows_is_joined() -> None:
    """Sequences of all; views in the order of their ranks over all segments; facts by key."""
    parts: list[list[Entry]] = [
        [HEAD, SequencesEntry([("s", "a", 1, True)]), FactsEntry({"refresh": [["s", "c"]], "ranks": [2], "x": 1})],
        [SequencesEntry([("t", "b", 2, False)]), FactsEntry({"refresh": [["t", "a"], ["t", "b"]], "ranks": [0, 1]})],
    ]
    plan = planned(parts)
    assert plan.sequences == (("s", "a", 1, True), ("t", "b", 2, False))
    assert plan.refresh == (("t", "a"), ("t", "b"), ("s", "c"))
    assert (plan.facts.refresh, plan.facts.members["x"]) == ([("s", "c"), ("t", "a"), ("t", "b")], 1)


@pytest.mark.parametrize(
    ("parts", "missing", "why"),
    [
        ([[HEAD, table("t", 1, 1)]], 1, "do not add up to what its record says"),
        ([[HEAD, table("t", 1, 1), FactsEntry({"tables": [["public", "t", 2]]})]], 0, "do not add up to what the snap"),
        ([[HEAD, FactsEntry({"tables": [["public", "t", 2]]})]], 0, "do not add up to what the snapshot says"),
        ([[HEAD, FactsEntry({"refresh": [["s", SECRET]], "ranks": [1, 2]})]], 0, "do not rank each of its mat"),
        ([[HEAD, FactsEntry({"tables": [[SECRET]]})]], 0, "not of the form they have to be"),
        ([[HEAD, FactsEntry({"settings": SECRET})]], 0, "not of the form they have to be"),
        ([[table("t", 1, 1)]], 0, "do not hold one schema"),
        ([[HEAD], [HEAD]], 0, "do not hold one schema"),
        ([[HEAD, table("t", 1, 1)], [table("t", 1, 1, ["b"])]], 0, "part '0{63}1' of segment 0{31}1 contradicts"),
    ],
)
def test_parts_that_do_not_fit_together_are_damage(parts: list[list[Entry]], missing: int, why: str) -> None:
    """A snapshot that lacks rows, or whose parts disagree, is not restored; no name is told."""
    with pytest.raises(DamageError, match=why) as caught:
        planned(parts, missing=missing)
    assert SECRET not in caught.value.message + caught.value.hint
