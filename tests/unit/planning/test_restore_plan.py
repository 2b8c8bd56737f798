"""The plan of a restore, from hand-made manifests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from backupd.errors import DamageError, EverythingPurgedError
from backupd.model.documents import LedgerHead, Record, Totals
from backupd.model.manifest import Entry, FactsEntry, FileEntry, RowsEntry, SequencesEntry, TableEntry
from backupd.planning.restore import Piece, Planner, RestorePlan
from backupd.planning.selection import Selection

SECRET = "hidden-marker"
HEAD = FileEntry("ddl-head", 1, bytes(32), [1, 0, 1])
BIG = 8 << 20
NUMBERS: dict[str, int] = {}


def number(name: str) -> int:
    return NUMBERS.setdefault(name, len(NUMBERS) + 1)


def table(name: str, rows: int, size: int) -> RowsEntry:
    spans = [(rows, size, bytes(32))] if rows else []
    return RowsEntry(number(name), spans, [1, 0, 1] if rows else [])


def defined(name: str, columns: Sequence[str] = ("a",), schema: str = "public") -> TableEntry:
    return TableEntry(number(name), schema, name, list(columns))


def record(**totals: int) -> Record:
    return Record(
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
        totals=Totals(**{"tables": 0, "rows": 0, "bytes": 0, "stored": 0, "added": 0, **totals}),
    )


def planned(
    structure: Sequence[Entry], *segments: Sequence[Entry], missing: int = 0, wide: int = 16, **given: Any
) -> RestorePlan:
    """The plan of these segments' entries, the first of class `structure`; the record says `missing` rows more.

    Every table that `table` has made is defined beside `structure`, unless that defines it.
    """
    entries = [entry for one in segments for entry in one if isinstance(entry, RowsEntry)]
    own = {entry.number for entry in structure if isinstance(entry, TableEntry)}
    others = [defined(name) for name, place in NUMBERS.items() if place not in own]
    size = sum(entry.bytes for entry in entries)
    planner = Planner(record(rows=sum(entry.rows for entry in entries) + missing, bytes=size), **given)
    planner.define([*others, *structure], "segment 0")
    planner.add(0, [*others, *structure], "segment 0", structure=True)
    for place, listed in enumerate(segments, 1):
        planner.add(place, listed, f"segment {place}")
    return planner.plan(wide)


def where(plan: RestorePlan, bundle: Sequence[Piece]) -> list[tuple[str, int]]:
    return [(plan.tables[piece.table].name, piece.segment) for piece in bundle]


def test_big_pieces_go_by_table_and_small_ones_by_segment() -> None:
    """A table's big pieces are one bundle, biggest table first; then segment after segment, some to a bundle."""
    small = 1 << 20
    plan = planned(
        [HEAD],
        [table("small", 1, small), table("big", 9, BIG), table("huge", 9, 3 * BIG)],
        [table("small", 2, small), table("big", 9, BIG), table("huge", 1, 5)],
        [table("small", 3, 30), table("alone", 1, 1)],
        [table("small", 3, 4)],
    )
    assert [one.name for one in plan.tables] == ["huge", "big", "small", "alone"]
    (bundles,) = plan.passes
    assert [where(plan, bundle) for bundle in bundles] == [
        [("huge", 1)],
        [("big", 1), ("big", 2)],
        [("small", 1), ("huge", 2), ("small", 2)],
        [("small", 3), ("alone", 3), ("small", 4)],
    ]
    assert (plan.rows, plan.bytes, plan.spans) == (38, 5 * BIG + 2 * small + 40, 9)
    assert [one.pieces for one in plan.tables] == [2, 2, 4, 1]


def test_few_tables_are_open_at_once() -> None:
    """Tables of several pieces are filled a few at a time; those of one piece come with the first."""
    plan = planned(
        [HEAD],
        [table(f"t{number}", 1, 10 + number) for number in range(10)],
        [table(f"t{number}", 1, 10) for number in range(10)],
        [table("alone", 1, 1)],
        wide=4,
    )
    opened = [{name for bundle in bundles for name, _ in where(plan, bundle)} for bundles in plan.passes]
    assert opened == [
        {"t9", "t8", "t7", "t6", "alone"},
        {"t5", "t4", "t3", "t2"},
        {"t1", "t0"},
    ]


def test_pieces_keep_their_spans_and_runs() -> None:
    """What was packed away comes back."""
    entry = RowsEntry(number("t"), [(1, 4, b"1" * 32), (2, 5, b"2" * 32)], [1, 5, 2, 2, 2**31, 7])
    plan = planned([HEAD], [entry])
    assert plan.passes[0][0][0].unpacked() == (entry.spans, entry.runs)


def test_tables_without_rows_are_left_to_the_schema() -> None:
    """An empty table has nothing to be filled with, and is known to have existed."""
    plan = planned([HEAD], [table("empty", 0, 0)])
    assert plan.tables == ()
    assert plan.passes == ((),)
    assert plan.empty == {("public", "empty")}


def test_two_numbers_may_define_one_table_alike() -> None:
    """The rows under both are one table's."""
    alike = TableEntry(900, "public", "t", ["a"])
    plan = planned([HEAD, alike], [table("t", 1, 2)], [RowsEntry(900, [(3, 4, bytes(32))], [1, 0, 1])])
    assert [(one.name, one.rows, one.pieces) for one in plan.tables] == [("t", 4, 2)]


def test_rows_of_tables_that_nobody_wants_are_passed_over() -> None:
    """The others are planned, and their sums need not be the record's."""
    chosen = Selection(tables=("public.t",))
    plan = planned([HEAD], [table("t", 1, 2), table("other", 3, 4)], selection=chosen, exact=False)
    assert [(one.name, one.rows) for one in plan.tables] == [("t", 1)]


def test_what_segments_say_beside_rows_is_joined() -> None:
    """Sequences of all; views in the order of their ranks over all segments; facts by key."""
    plan = planned(
        [HEAD, SequencesEntry([("s", "a", 1, True)]), FactsEntry({"refresh": [["s", "c"]], "ranks": [2], "x": 1})],
        [SequencesEntry([("t", "b", 2, False)]), FactsEntry({"refresh": [["t", "a"], ["t", "b"]], "ranks": [0, 1]})],
    )
    assert plan.sequences == (("s", "a", 1, True), ("t", "b", 2, False))
    assert plan.refresh == (("t", "a"), ("t", "b"), ("s", "c"))
    assert (plan.facts.refresh, plan.facts.members["x"]) == ([("s", "c"), ("t", "a"), ("t", "b")], 1)


@pytest.mark.parametrize(
    ("segments", "missing", "why"),
    [
        ([[HEAD], [table("t", 1, 1)]], 1, "do not add up to what its record says"),
        (
            [[HEAD, FactsEntry({"tables": [["public", "t", 2]]})], [table("t", 1, 1)]],
            0,
            "do not add up to what the snap",
        ),
        ([[HEAD, FactsEntry({"tables": [["public", "t", 2]]})]], 0, "do not add up to what the snapshot says"),
        ([[HEAD, FactsEntry({"refresh": [["s", SECRET]], "ranks": [1, 2]})]], 0, "do not rank each of its mat"),
        ([[HEAD, FactsEntry({"tables": [[SECRET]]})]], 0, "not of the form they have to be"),
        ([[HEAD, FactsEntry({"settings": SECRET})]], 0, "not of the form they have to be"),
        ([[], [table("t", 1, 1)]], 0, "do not hold one schema"),
        ([[HEAD], [HEAD]], 0, "do not hold one schema"),
        (
            [
                [HEAD, TableEntry(901, "public", "t", ["b"])],
                [table("t", 1, 1)],
                [RowsEntry(901, [(1, 1, bytes(32))], [])],
            ],
            0,
            "segment 2 contradicts another segment about a table's columns",
        ),
        ([[HEAD], [table("t", 1, 1), table("t", 1, 1)]], 0, "segment 1 lists the rows of a table twice"),
        ([[HEAD], [RowsEntry(902, [], [])]], 0, "segment 1 speaks of a table that the snapshot does not define"),
        ([[HEAD, defined("t"), defined("t")]], 0, "segment 0 defines a table a second time"),
        ([[HEAD], [TableEntry(903, SECRET, SECRET, [])]], 0, "segment 1 defines a table, and is not of the class"),
    ],
)
def test_segments_that_do_not_fit_together_are_damage(segments: list[list[Entry]], missing: int, why: str) -> None:
    """A snapshot that lacks rows, or whose segments disagree, is not restored; no name is told."""
    with pytest.raises(DamageError, match=why) as caught:
        planned(*segments, missing=missing)
    assert SECRET not in caught.value.message + caught.value.hint


def part(*entries: Entry, structure: Sequence[Entry] = (HEAD,), known: bool = True, **totals: int) -> RestorePlan:
    """The plan of a part of a snapshot: the structure, and one segment."""
    planner = Planner(record(**totals), exact=False)
    planner.define(structure, "segment 0")
    planner.add(0, structure, "segment 0", structure=True)
    planner.add(1, entries, "segment 1", defined=known)
    return planner.plan(16)


def test_a_part_may_be_less_than_the_record_says_and_never_more() -> None:
    """Of every table, too."""
    said = [HEAD, defined("t"), FactsEntry({"tables": [["public", "t", 2], ["public", "gone", 7]]})]
    plan = part(table("t", 1, 1), structure=said, rows=9, bytes=9)
    assert sum(one.rows for one in plan.tables) == 1
    with pytest.raises(DamageError, match="do not add up to what its record says"):
        part(table("t", 10, 1), structure=said, rows=9, bytes=9)
    with pytest.raises(DamageError, match="do not add up to what the snapshot says of it"):
        part(table("t", 3, 1), structure=said, rows=9, bytes=9)


def test_rows_of_a_tenant_whose_own_schema_was_purged_are_left_out() -> None:
    """Their tables are defined nowhere any more; of anybody else's that is damage."""
    lost = RowsEntry(904, [(1, 1, bytes(32))], [1, 0, 1])
    assert part(lost, known=False, rows=9, bytes=9).tables == ()
    with pytest.raises(DamageError, match="does not define"):
        part(lost, rows=9, bytes=9)


def test_a_snapshot_whose_schema_was_purged_restores_nothing() -> None:
    """It belonged to the tenant that left; `recover` still writes what rows there are."""
    with pytest.raises(EverythingPurgedError):
        part(structure=())
