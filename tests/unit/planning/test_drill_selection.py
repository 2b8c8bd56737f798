"""All who have the same reports choose the same snapshot for a drill, and in time each kind of snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import UsageError
from backupd.model.ids import DrillId, GenerationId, RegionName, RepositoryId, SnapshotName
from backupd.model.report import (
    Disposal,
    DrillSelection,
    Measured,
    Objectives,
    Report,
    Versions,
    every_check,
)
from backupd.model.text import compact, stamp
from backupd.planning.drill import (
    RULES,
    Chosen,
    DrillCandidate,
    choose_named,
    choose_snapshot,
    damage_is_due,
    drill_type,
    find_failed,
)

START = datetime(2030, 1, 1, tzinfo=UTC)


def candidate(day: int, database: str = "app", generation: int = 0, member: str | None = None) -> DrillCandidate:
    instant = START + timedelta(days=day)
    name = SnapshotName(f"{compact(instant)}-{day:032x}{database.encode().hex():0>32}")
    return DrillCandidate(name, GenerationId(f"20300101T000000Z-{generation:08x}"), database, member, instant)


def report_of(chosen: Chosen | None, kind: str = "automatic") -> Report:
    """What a drill of it leaves for the next choice."""
    one = chosen.candidate if chosen else None
    selection = chosen and one and DrillSelection(
        snapshot=one.name,
        store="disk",
        database=one.database,
        exported=stamp(one.exported),
        generation=one.generation,
        rule=chosen.rule,
        seed=chosen.seed,
        population=chosen.population,
    )  # fmt: skip
    return Report(
        repository=RepositoryId("0" * 32),
        region=RegionName("be"),
        drill=DrillId("20300101T000000Z-00000000"),
        type=kind,
        trigger="command",
        started=stamp(START),
        finished=stamp(START),
        machine="test",
        versions=Versions(backupd="0"),
        selection=selection,
        objectives=Objectives(),
        phases=[],
        measured=Measured(),
        checks=every_check([]),
        sizes=None,
        deletion=None,
        disposal=Disposal(destroyed=[]),
        verdict="error",
    )


def drills(candidates: list[DrillCandidate], number: int, seed: str = "ab") -> list[Chosen]:
    past: list[Report] = []
    chosen = []
    for _ in range(number):
        chosen.append(choose_snapshot(candidates, past, seed))
        past.append(report_of(chosen[-1]))
    return chosen


def test_rules_take_turns() -> None:
    """Latest, oldest, random, and again; only the random choice has a seed."""
    candidates = [candidate(day) for day in range(9)]
    done = drills(candidates, 6)
    assert [one.rule for one in done] == [*RULES, *RULES]
    assert [one.candidate.exported for one in done[:2]] == [candidates[8].exported, candidates[0].exported]
    assert [one.seed for one in done[:3]] == [None, None, "ab"]
    assert done[0].population.number == 9
    assert (done[0].population.oldest, done[0].population.newest) == (stamp(START), stamp(candidates[8].exported))


def test_databases_take_turns_and_each_has_its_own_rule() -> None:
    """Also databases that share a label."""
    candidates = [candidate(day, database) for day in range(4) for database in ("app", "billing")]
    done = drills(candidates, 6)
    assert [one.candidate.database for one in done] == ["app", "billing"] * 3
    assert [one.rule for one in done] == ["latest", "latest", "oldest", "oldest", "random", "random"]
    members = [candidate(1, member="a" * 16), candidate(2, member="b" * 16)]
    done = drills(members, 6)
    assert [one.candidate.member for one in done] == ["a" * 16, "b" * 16] * 3
    assert [one.rule for one in done] == ["latest", "latest", "oldest", "oldest", "random", "random"]


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=20), st.text("0123456789abcdef", min_size=1, max_size=16))
def test_every_generation_gets_its_turn(generations: list[int], seed: str) -> None:
    """Three rounds for each generation are enough, whatever the seed; the population is what it was chosen from."""
    candidates = [candidate(day, generation=generation) for day, generation in enumerate(generations)]
    done = drills(candidates, 3 * (len(set(generations)) + 2), seed)
    assert {one.candidate.generation for one in done} == {one.generation for one in candidates}
    assert all(one.population.number == len(candidates) for one in done)


@settings(deadline=None)
@given(st.randoms(), st.text("0123456789abcdef", min_size=1, max_size=16))
def test_the_same_reports_lead_to_the_same_choice(random: object, seed: str) -> None:
    """Whatever order the store lists snapshots in; and another one that is removed changes nothing for the rest."""
    candidates = [candidate(day) for day in range(12)]
    past = [report_of(one) for one in drills(candidates, 2, seed)]
    chosen = choose_snapshot(candidates, past, seed)
    shuffled = list(candidates)
    random.shuffle(shuffled)
    assert choose_snapshot(shuffled, past, seed) == chosen
    fewer = [one for one in candidates if one in (chosen.candidate, candidates[0], candidates[11])]
    assert choose_snapshot(fewer, past, seed).candidate == chosen.candidate


def test_seeds_matter() -> None:
    """Over enough of them every snapshot is drawn."""
    candidates = [candidate(day) for day in range(5)]
    past = [report_of(one) for one in drills(candidates, 2)]
    drawn = {choose_snapshot(candidates, past, f"{seed:x}").candidate.name for seed in range(100)}
    assert drawn == {one.name for one in candidates}


def test_drills_somebody_asked_for_do_not_move_the_rules_on() -> None:
    """Nor do drills that damage, or that chose nothing."""
    candidates = [candidate(day) for day in range(3)]
    by_name = choose_named(candidates, candidates[1].name)
    assert (by_name.rule, by_name.seed) == ("named", None)
    past = [report_of(by_name), report_of(None), report_of(choose_snapshot(candidates, [], "0"), "damage")]
    assert choose_snapshot(candidates, past, "0").rule == "latest"


def test_nothing_to_choose_is_said() -> None:
    """No snapshot, or not the one that was named."""
    with pytest.raises(UsageError, match="no snapshot to drill"):
        choose_snapshot([], [], "0")
    with pytest.raises(UsageError, match="is not there"):
        choose_named([candidate(1)], candidate(2).name)


def test_every_so_many_drills_one_damages() -> None:
    """Counted from the last that did; never when it is switched off."""
    plain, damaging = report_of(None), report_of(None, "damage")
    kinds, past = [], []
    for _ in range(9):
        kinds.append(damage_is_due(past, 3))
        past.append(damaging if kinds[-1] else plain)
    assert kinds == [False, False, True] * 3
    assert not damage_is_due([plain] * 99, 0)
    assert damage_is_due([], 1)


def test_the_newest_drill_that_failed_is_found() -> None:
    """Not one without a verdict or that damaged what it fetched, and none where all passed."""
    first, second, third = (choose_named([candidate(day)], candidate(day).name) for day in range(3))
    failed = [msgspec.structs.replace(report_of(one), verdict="fail") for one in (first, second)]
    past = [*failed, report_of(third), msgspec.structs.replace(report_of(third, "damage"), verdict="fail")]

    found = find_failed(past)

    assert found is not None
    assert found.snapshot == second.candidate.name
    assert find_failed([report_of(third)]) is None


@pytest.mark.parametrize(
    ("trigger", "damage", "kind"),
    [
        ("command", False, "human"),
        ("timetable", False, "automatic"),
        ("catch-up", False, "automatic"),
        ("command", True, "damage"),
        ("timetable", True, "damage"),
    ],
)
def test_a_report_says_who_a_drill_was_for(trigger: str, damage: bool, kind: str) -> None:
    """Auditors count the drills of the timetable apart from those that somebody asked for."""
    assert drill_type(trigger, damage=damage) == kind
