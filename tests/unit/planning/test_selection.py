"""A request chooses a snapshot, and the segments of it that are restored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.documents import REDUCED, LedgerHead, Record, Totals
from backupd.model.ids import ClassTag, GenerationId, Pseudonym, SnapshotName
from backupd.model.tenancy import SegmentName
from backupd.planning.ledger_facts import Explained
from backupd.planning.selection import (
    Choice,
    SegmentFacts,
    Selection,
    SelectionFacts,
    SnapshotRequest,
    candidates,
    decide,
    fits,
    meant_snapshot,
    same_second,
    unpurged,
)

FIRST = SnapshotName("20260101T020000Z-" + "aa11" * 16)
SECOND = SnapshotName("20260102T020000Z-" + "bb22" * 16)
THIRD = SnapshotName("20260102T140000Z-" + "aa11cc" + "3" * 58)
NAMES = [FIRST, SECOND, THIRD]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("latest", ([THIRD, SECOND, FIRST], False)),
        (THIRD, ([THIRD], True)),
        ("20260102T", ([THIRD, SECOND], True)),
        ("20260102", ([THIRD, SECOND], True)),
        ("20260102T02", ([SECOND], True)),
        ("bb22bb", ([SECOND], True)),
        ("aa11cc", ([THIRD], True)),
        ("ffffff", ([], True)),
        ("2026-01-02T14:00:00", ([THIRD, SECOND, FIRST], False)),
        ("2026-01-02T13:59:59Z", ([SECOND, FIRST], False)),
        ("2026-01-02 03:00+01:00", ([SECOND, FIRST], False)),
        ("2026-01-02", ([FIRST], False)),
        ("2025-12-31", ([], False)),
    ],
)
def test_words_mean_snapshots(wanted: str, found: tuple[list[SnapshotName], bool]) -> None:
    """Newest first; a name's or hash's beginning names one, a time the newest at or before it."""
    assert candidates(NAMES, wanted) == found


@pytest.mark.parametrize("wanted", ["", "newest", "aa1", "2026-13-01", "yesterday"])
def test_other_words_are_refused(wanted: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError):
        candidates(NAMES, wanted)


def test_snapshots_of_one_second_are_known() -> None:
    """Only the time in the name counts."""
    assert same_second(FIRST, SnapshotName("20260101T020000Z-" + "ff" * 32))
    assert not same_second(FIRST, SECOND)


HERE, ELSEWHERE = GenerationId("1" * 32), GenerationId("2" * 32)
DDL, SHARED, ACME, LOGS, GLOBEX = (Pseudonym(f"{number}" * 32) for number in range(1, 6))
CLASS = {DDL: ClassTag("aa" * 8), SHARED: ClassTag("bb" * 8), ACME: ClassTag("bb" * 8), LOGS: ClassTag("cc" * 8)}
CLASS[GLOBEX] = CLASS[ACME]
NAME = {
    DDL: SegmentName("app", "structure", None),
    SHARED: SegmentName("app", "uploaded", None),
    ACME: SegmentName("app", "uploaded", "acme"),
    LOGS: SegmentName("app", "logs", "acme"),
    GLOBEX: SegmentName("app", "uploaded", "globex"),
}
EXPORTED = "2026-01-02T14:00:00.000000Z"
LATER = datetime(2026, 2, 1, tzinfo=UTC)


def record(*, exported: str = EXPORTED, **more: Any) -> Record:
    return Record(
        repository="0" * 32,
        region="be",
        generation=HERE,
        run="0" * 32,
        database="app",
        exported=exported,
        published=exported,
        server=170000,
        ledger=LedgerHead(seq=0),
        packs=[],
        totals=Totals(tables=1, rows=1, bytes=1, stored=1, added=1),
        **more,
    )


def asked(snapshot: str = "latest", **more: Any) -> SnapshotRequest:
    return SnapshotRequest("app", snapshot, **more)


def tenant(name: str) -> Selection:
    return Selection(frozenset({name}))


def facts(
    one: Record | None = None,
    *held: Pseudonym,
    explained: Explained | None = None,
    segments: Mapping[Pseudonym, SegmentFacts] | None = None,
    missing: frozenset[Pseudonym] = frozenset(),
) -> SelectionFacts:
    """The facts of a snapshot with the segments `held`, by default all; a section of those `missing` is not there."""
    gone = DamageError("a section is missing")
    known = {
        segment: SegmentFacts(NAME[segment], CLASS[segment], gone if segment in missing else None)
        for segment in held or NAME
    }
    return SelectionFacts({THIRD: one or record()}, explained or Explained(), {**known, **(segments or {})})


def purged(*segments: Pseudonym, generation: GenerationId = HERE) -> Explained:
    return Explained(purged=frozenset((generation, segment) for segment in segments))


def aged(*segments: Pseudonym, before: datetime = LATER) -> Explained:
    return Explained(aged={(HERE, CLASS[segment]): before for segment in segments})


def kept(choice: Choice) -> set[Pseudonym]:
    assert len(set(choice.segments)) == len(choice.segments)
    return set(choice.segments)


def test_all_of_the_snapshot_is_restored_where_nothing_is_said() -> None:
    """Then the record's totals are those of what is restored."""
    choice = decide(asked(), facts())

    assert choice == Choice(THIRD, record(), tuple(NAME))
    assert choice.exact


def test_the_newest_by_its_record_is_meant() -> None:
    """Names of one second order nothing; where the records are of one moment, too, it is always the same one."""
    early, late = record(), record(exported="2026-01-02T14:00:00.000001Z")

    assert meant_snapshot(asked(), {FIRST: early, THIRD: late}) == THIRD
    assert meant_snapshot(asked(), {FIRST: late, THIRD: early}) == FIRST
    assert meant_snapshot(asked(), {THIRD: late, FIRST: late}) == FIRST


def test_there_must_be_one() -> None:
    """None is refused, and so are several where one is named."""
    nothing = SelectionFacts({}, Explained())
    several = SelectionFacts({FIRST: record(), THIRD: record()}, Explained())

    with pytest.raises(UsageError, match="no snapshot of 'app' fits"):
        decide(asked(), nothing)
    with pytest.raises(UsageError, match="several snapshots begin like that"):
        decide(asked("aa11aa"), several)


def test_a_member_is_meant_by_its_name() -> None:
    """One of several under a label is asked for by its real name, or by a snapshot's name; never guessed."""
    member = record(member="ab" * 16)

    assert fits(asked(), record())
    assert fits(asked(THIRD), member)
    assert fits(asked(member="of_acme"), member, "of_acme")
    assert not fits(asked(member="of_acme"), member, "of_globex")
    assert not fits(asked(member="of_acme"), member, None)
    with pytest.raises(UsageError, match="stands for several databases"):
        fits(asked(), member)


def test_what_was_purged_is_left_out() -> None:
    """Also where its key was shredded; a purge of another generation says nothing of this one."""
    shredded = {ACME: SegmentFacts(None, CLASS[ACME], shredded=DamageError("its key is gone"))}
    choice = decide(asked(), facts(explained=purged(ACME, LOGS), segments=shredded))

    assert kept(choice) == {DDL, SHARED, GLOBEX}
    assert (choice.purged, choice.exact) == (2, False)
    assert decide(asked(), facts(explained=purged(ACME, generation=ELSEWHERE))).exact
    assert decide(asked(), facts(explained=purged(ACME), missing=frozenset({ACME}))).purged == 1
    assert unpurged(record(), [ACME, DDL], purged(ACME)) == [DDL]


def test_nothing_is_left_of_what_was_purged_whole() -> None:
    """That is refused, and not called damage; a record without segments is just empty."""
    with pytest.raises(RefusedError, match="was purged"):
        decide(asked(), facts(record(), ACME, LOGS, explained=purged(ACME, LOGS)))
    with pytest.raises(RefusedError, match="was purged"):
        decide(
            asked(),
            facts(
                record(),
                ACME,
                LOGS,
                explained=Explained(purged(ACME).purged, aged=aged(LOGS).aged),
                missing=frozenset({LOGS}),
            ),
        )
    assert decide(asked(), SelectionFacts({THIRD: record()}, Explained())).segments == ()


def test_a_key_that_nobody_purged_is_damage() -> None:
    """Whoever removed it, the ledger does not say so; of segments that nobody asked for it is not looked at."""
    gone = DamageError("its key is gone")
    shredded = facts(segments={LOGS: SegmentFacts(NAME[LOGS], CLASS[LOGS], shredded=gone)})
    unnamed = facts(segments={GLOBEX: SegmentFacts(None, CLASS[GLOBEX], shredded=gone)})

    for one, selection in ((shredded, Selection()), (shredded, tenant("acme")), (unnamed, tenant("acme"))):
        with pytest.raises(DamageError, match="its key is gone"):
            decide(asked(selection=selection), one)
    assert kept(decide(asked(selection=tenant("globex")), shredded)) == {DDL, SHARED, GLOBEX}


def test_a_part_is_chosen() -> None:
    """A tenant comes with what is shared, a class with the structure; the record's totals say nothing of it then."""
    ours = decide(asked(selection=tenant("acme")), facts(explained=purged(GLOBEX)))
    logs = decide(asked(selection=Selection(classes=frozenset({"logs"}))), facts())
    tables = decide(asked(selection=Selection(tables=("public.*",))), facts())

    assert kept(ours) == {DDL, SHARED, ACME, LOGS}
    assert (ours.purged, ours.unselected, ours.exact) == (1, 0, False)
    assert (kept(logs), logs.unselected, logs.exact) == ({DDL, LOGS}, 3, False)
    assert (kept(tables), tables.unselected, tables.exact) == (set(NAME), 0, False)


def test_what_is_asked_for_must_be_there() -> None:
    """A tenant that was purged is in no snapshot; neither is one whose name the identity may not read."""
    for one in (facts(explained=purged(ACME, LOGS)), facts(record(), DDL, SHARED), facts(record(), segments=unread())):
        with pytest.raises(UsageError, match="nothing of 1 of 1 tenant asked for"):
            decide(asked(selection=tenant("acme")), one)
    with pytest.raises(UsageError, match="nothing of class billing"):
        decide(asked(selection=Selection(classes=frozenset({"billing"}))), facts())


def test_each_pattern_must_fit_a_table() -> None:
    """One that is misspelt beside others would be a table that nobody misses until it is needed."""
    tables = [("public", "note"), ("shop", "item")]
    assert Selection(tables=("*.note", "shop.*", "public.not", "item")).unfit(tables) == ("public.not", "item")
    assert Selection().unfit(tables) == ()
    assert Selection(tables=("item",), if_there=True).unfit(tables) == ()


def unread() -> dict[Pseudonym, SegmentFacts]:
    return {segment: SegmentFacts(None, CLASS[segment]) for segment in (ACME, LOGS)}


def test_segments_that_cannot_be_named_stay() -> None:
    """That their keys are missing is judged when they are read."""
    choice = decide(asked(selection=tenant("globex")), facts(segments=unread()))

    assert kept(choice) == set(NAME)


def test_what_went_with_its_age_is_left_out() -> None:
    """If anything of it is gone: what is still there is restored."""
    choice = decide(asked(), facts(explained=aged(LOGS), missing=frozenset({LOGS})))

    assert (kept(choice), choice.aged, choice.exact) == (set(NAME) - {LOGS}, 1, False)
    assert decide(asked(), facts(explained=aged(LOGS))).exact


def test_a_section_that_is_missing_for_no_reason_is_damage() -> None:
    """Another class's age, a later snapshot's, or a segment that no keyring lists explains nothing."""
    at_the_export = datetime(2026, 1, 2, 14, tzinfo=UTC)
    unlisted = {ACME: SegmentFacts(NAME[ACME], missing=DamageError("a section is missing"))}
    gone = frozenset({ACME})
    for one in (
        facts(missing=gone),
        facts(missing=gone, explained=aged(LOGS)),
        facts(missing=gone, explained=aged(ACME, before=at_the_export)),
        facts(missing=gone, explained=purged(LOGS)),
        facts(missing=gone, explained=purged(ACME, generation=ELSEWHERE)),
        facts(segments=unlisted, explained=aged(ACME)),
    ):
        with pytest.raises(DamageError, match="a section is missing"):
            decide(asked(), one)
    assert ACME not in kept(decide(asked(selection=tenant("globex")), facts(missing=gone)))


def test_segments_are_apart_and_of_one_database() -> None:
    """Two of one tenant and class would mix their rows; what is left out is not looked at."""
    twice = {GLOBEX: SegmentFacts(NAME[ACME], CLASS[ACME])}
    elsewhere = {GLOBEX: SegmentFacts(SegmentName("other", "uploaded", "globex"), CLASS[GLOBEX])}
    for segments in (twice, elsewhere):
        with pytest.raises(DamageError, match="contradict each other about whose they are"):
            decide(asked(), facts(segments=segments))
        assert decide(asked(), facts(segments=segments, explained=purged(GLOBEX))).purged == 1


def test_a_reduced_record_counts_more_than_it_holds() -> None:
    """Its totals are those of the record it was made from."""
    assert not decide(asked(), facts(record(extra={REDUCED: True}))).exact


def test_a_selection_is_closed_where_no_class_or_table_is_left_out() -> None:
    """Rows of other tenants are never referred to."""
    assert Selection().closed
    assert tenant("acme").closed
    assert not Selection(tables=("public.t",)).closed
