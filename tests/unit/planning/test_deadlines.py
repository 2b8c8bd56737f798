"""The arithmetic of deadlines gives exact numbers, explains them as a proof, and is compared with observed ones."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from time import tzset

import pytest

from backupd.model.findings import Severity
from backupd.model.text import spell, spell_about
from backupd.planning.deadlines import (
    Deadlines,
    DeletionBudget,
    Observation,
    as_observed,
    check_observed,
    check_repair_slack,
    dates,
    prove,
    repair_terms,
)


def days(number):
    return timedelta(days=number)


def budget(store=8, gap=1, **others):
    """The terms that the research's table has in common, and defaults."""
    return replace(
        DeletionBudget(
            window=days(180),
            expiry_gap=days(gap),
            store_snapshots=days(store),
            clock=days(1),
            repair=days(7),
            grace=days(30),
            early=days(3),
        ),
        **others,
    )


@pytest.mark.parametrize(("store", "day"), [(8, 163), (100, 71)])
def test_a_store_that_keeps_its_own_snapshots_leaves_fewer_days(store, day):
    """Months are possible, as a tenant's segments go by themselves; the last byte is gone before the repair slack."""
    proof = prove(budget(store))

    assert (proof.latest_purge, proof.holds) == (days(day), True)
    assert proof.gone == days(180 - 7)


def test_the_proof_is_written_out_with_its_numbers():
    """Whoever reads it can add it up, and finds each number's key."""
    proof = prove(budget(gap=2))

    assert proof.inequality == "180 d >= 30 d + 2 d + 8 d + 1 d + 7 d"
    assert [(term.name, spell(term.value), term.source) for term in proof.terms] == [
        ("grace", "30 d", "lifecycle.grace"),
        ("expiry gap", "2 d", "lifecycle.expiry_gap"),
        ("store snapshots", "8 d", "lifecycle.store_snapshots"),
        ("clock tolerance", "1 d", "lifecycle.clock_tolerance"),
        ("repair slack", "7 d", "lifecycle.repair_slack"),
    ]


def test_a_chosen_time_of_the_purge_lies_between_grace_and_what_is_left():
    """Both limits are allowed, and nothing beyond them; the inequality tells both."""
    for after, holds in [(29, False), (30, True), (163, True), (164, False)]:
        assert prove(budget(purge_after=days(after))).holds == holds

    proof = prove(budget(purge_after=days(60)))

    assert (proof.terms[0].name, proof.terms[0].source) == ("purge after", "lifecycle.purge_after")
    assert proof.inequality == "180 d >= 60 d + 1 d + 8 d + 1 d + 7 d and 60 d >= 30 d"
    assert (proof.latest_purge, proof.gone) == (days(163), days(70))


def test_the_grace_is_the_least_the_window_must_leave():
    """A day less of grace is a day more of slack; at the limit it holds, and beyond it does not."""
    assert prove(budget(grace=days(163))).holds
    assert not prove(budget(grace=days(163) + timedelta(microseconds=1))).holds


def test_the_deadline_is_the_start_of_the_last_day():
    """Who unsubscribed in the afternoon has all bytes gone before that day begins, in UTC."""
    since = datetime(2026, 1, 1, 15, 30, tzinfo=UTC)

    assert dates(since, budget(), early=False) == Deadlines(
        deadline=datetime(2026, 6, 30, tzinfo=UTC),
        purge_by=datetime(2026, 6, 13, tzinfo=UTC),
        gone_by=datetime(2026, 6, 23, tzinfo=UTC),
    )


def test_civil_dates_are_those_of_utc():
    """An evening in New York is the next day in UTC, and that day counts."""
    eastern = timezone(timedelta(hours=-5))

    late = dates(datetime(2025, 12, 31, 22, 0, tzinfo=eastern), budget(), early=False)

    assert late == dates(datetime(2026, 1, 1, 3, 0, tzinfo=UTC), budget(), early=False)
    assert late.purge_by.utcoffset() == timedelta()


@pytest.fixture
def far_west(monkeypatch):
    """A machine in a zone eleven hours behind."""
    monkeypatch.setenv("TZ", "<-11>11")
    tzset()
    yield
    monkeypatch.undo()
    tzset()


@pytest.mark.usefixtures("far_west")
def test_the_machine_s_own_zone_decides_nothing():
    """Its date is the day before, when the window's last day begins."""
    told = dates(datetime(2026, 1, 1, 3, tzinfo=UTC), budget(), early=False)

    assert told.deadline == datetime(2026, 6, 30, tzinfo=UTC)


def test_a_chosen_time_of_the_purge_is_the_tenant_s():
    """It counts to the minute from unsubscribing, not to the start of a day."""
    chosen = dates(datetime(2026, 1, 1, 15, tzinfo=UTC), budget(purge_after=days(60)), early=False)

    assert chosen.purge_by == datetime(2026, 3, 2, 15, tzinfo=UTC)
    assert chosen.gone_by == datetime(2026, 3, 12, 15, tzinfo=UTC)


def test_who_asks_to_be_erased_does_not_wait_for_the_grace():
    """The purge is due within days of the request, and what is left of it soon after."""
    asked = datetime(2026, 1, 1, 15, tzinfo=UTC)

    told = dates(asked, budget(), early=True)

    assert told.purge_by == asked + days(3)
    assert told.gone_by == asked + days(3 + 1 + 8 + 1)


def seen(ages=(), runs=(), since=0, now=20):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    return Observation(
        tuple(map(days, ages)), tuple(start + days(run) for run in runs), start + days(since), start + days(now)
    )


EVERY_DAY = range(1, 21)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (seen([1, 2, 8], EVERY_DAY), None),
        (seen([1, 35, 2], EVERY_DAY), "store snapshots live up to 35 d, 8 d declared"),
        (seen([8.01], EVERY_DAY), "store snapshots live up to 8 d 1 h, 8 d declared"),
        (seen([], [*range(1, 10), *range(13, 20)]), "keeper runs are up to 4 d apart, 1 d declared"),
        (seen([], [*range(1, 18)]), "keeper runs are up to 3 d apart, 1 d declared"),
        (seen([], range(6, 20)), "keeper runs are up to 6 d apart, 1 d declared"),
        (seen([], []), "keeper runs are up to 20 d apart, 1 d declared"),
        (seen([], [25]), "keeper runs are up to 20 d apart, 1 d declared"),
        (seen([], [0, -5, 2, *EVERY_DAY]), None),
        (seen([], [-3, *EVERY_DAY]), "keeper runs are up to 4 d apart, 1 d declared"),
        (seen([], [], since=30), None),
    ],
    ids=[
        "as declared",
        "old",
        "a little",
        "hole",
        "stopped",
        "late",
        "never",
        "future",
        "any order",
        "before",
        "clock",
    ],
)
def test_what_is_observed_is_held_against_what_is_declared(observation, message):
    """A term that reality exceeds is named with both numbers; one that it does not is not."""
    found = check_observed(budget(), observation)

    assert [finding.message for finding in found] == ([message] if message else [])
    assert {finding.severity for finding in found} <= {Severity.ERROR}


def test_what_is_longer_than_declared_says_what_to_do():
    """Each by its key, with the two ways out."""
    found = check_observed(budget(), seen([35], [10]))

    assert [(finding.code, finding.hint) for finding in found] == [
        (
            "store_snapshots",
            "Have the store keep its own snapshots for less long, or declare the truth as lifecycle.store_snapshots.",
        ),
        ("expiry_gap", "Find out why runs fail or do not start, or declare the truth as lifecycle.expiry_gap."),
    ]


def test_what_was_observed_can_be_proved_again():
    """A proof with what is really so fails where the declared one held, and says by how much."""
    truth = as_observed(budget(), seen([120], [10]))

    assert (truth.store_snapshots, truth.expiry_gap) == (days(120), days(10))
    assert prove(budget()).holds
    assert prove(truth).holds
    assert not prove(as_observed(budget(), seen([140], [10]))).holds
    assert as_observed(budget(gap=2), seen([1], EVERY_DAY)) == budget(gap=2)


@pytest.mark.parametrize(
    ("span", "told", "about"),
    [
        (days(30), "30 d", "30 d"),
        (timedelta(), "0 d", "0 h"),
        (timedelta(hours=36), "36 h", "1 d 12 h"),
        (timedelta(minutes=90), "90 min", "2 h"),
        (timedelta(seconds=1.5), "1.5 s", "1 h"),
        (timedelta(days=2, seconds=1), "172801 s", "2 d 1 h"),
        (days(-51), "-51 d", None),
    ],
)
def test_spans_are_told_exactly_or_rounded_up(span, told, about):
    """What is declared is told exactly; what was measured, in days and hours, and never as less."""
    assert spell(span) == told
    assert about is None or spell_about(span) == about


def test_declared_copies_live_as_long_as_is_said():
    """A copy made before the last removal is waited for, where it outlives the store's own snapshots."""
    assert prove(budget(copies=days(8))) == prove(budget())
    proof = prove(budget(copies=days(30)))
    assert proof.inequality == "180 d >= 30 d + 1 d + 8 d + 22 d + 1 d + 7 d"
    assert [(term.name, term.source) for term in proof.terms if term.value == days(22)] == [
        ("declared copies beyond", "copies.keep")
    ]
    assert not prove(budget(copies=days(142))).holds
    told = dates(datetime(2030, 1, 1, tzinfo=UTC), budget(copies=days(30)), early=True)
    assert told.gone_by - told.purge_by == days(1 + 8 + 22 + 1)


def test_the_repair_slack_has_room_for_a_run_that_was_cut_off():
    """Else an error says what it lacks room for, with the numbers."""
    room = budget(gap=2, run=days(1), leftovers=days(2))
    assert sum((term.value for term in repair_terms(room)), days(0)) == days(5)
    assert check_repair_slack(replace(room, repair=days(5))) == ()
    (finding,) = check_repair_slack(replace(room, repair=days(4)))
    assert finding.message == (
        "repair slack 4 d < run under way 1 d + grace of leftovers 2 d + one more keeper run 2 d"
    )
    assert (finding.severity, finding.code, finding.hint) == (
        Severity.ERROR,
        "repair_slack",
        "Raise lifecycle.repair_slack: a run under way at a purge may be cut off, and its leftovers count, too.",
    )
    assert [(term.name, term.source) for term in repair_terms(room)] == [
        ("run under way", "the longest a run lasts"),
        ("grace of leftovers", "the age from which uploads that were cut off are removed"),
        ("one more keeper run", "lifecycle.expiry_gap"),
    ]
