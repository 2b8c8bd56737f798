"""Examples show which snapshots stay and which expire."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from backupd.model.ids import SnapshotName
from backupd.planning.retention import Dated, RetentionPolicy, decide, upcoming_losses

NOW = datetime(2026, 6, 17, 12, tzinfo=UTC)
"""A Wednesday."""
NOTHING = RetentionPolicy(
    keep_within=timedelta(), daily=0, weekly=0, monthly=0, max_age=timedelta(days=400), keep_minimum=0
)


def at(moment, group="app", proven=True):
    instant = moment if isinstance(moment, datetime) else NOW - timedelta(days=moment)
    return Dated(SnapshotName(f"{instant:%Y%m%dT%H%M%SZ}-{group}"), group, instant, proven)


def kept(snapshots, policy, now=NOW):
    """Ages in days of what stays."""
    return [(now - d.snapshot.exported) / timedelta(days=1) for d in decide(snapshots, policy, now) if d.keep]


def reasons(snapshots, policy):
    return [decision.reasons for decision in decide(snapshots, policy, NOW)]


def test_everything_young_is_kept():
    """Within the span each snapshot stays, to its very end."""
    policy = replace(NOTHING, keep_within=timedelta(days=14))

    assert kept(map(at, (0, 3.5, 13.9, 14, 14.1, 20)), policy) == [14, 13.9, 3.5, 0]
    assert reasons([at(14.1), at(1)], policy) == [("no rule keeps it",), ("within 14 d",)]


def test_the_newest_of_each_day_is_kept_and_days_are_counted_from_today():
    """Of two on one day the later stays; days without a snapshot count, too, and today is the first."""
    policy = replace(NOTHING, daily=3)
    morning, evening = datetime(2026, 6, 15, 0, 0, tzinfo=UTC), datetime(2026, 6, 15, 23, 59, tzinfo=UTC)

    assert reasons([at(morning), at(evening)], policy) == [("no rule keeps it",), ("daily 3 of 3",)]
    assert kept([at(evening), at(3), at(4), at(5)], policy) == [(NOW - evening) / timedelta(days=1)]


def test_the_newest_of_a_day_stays_until_it_is_proven():
    """One that was proven is worth more, and both are kept today."""
    policy = replace(NOTHING, daily=2)
    said = reasons([at(0.2), at(0.1, proven=False)], policy)
    assert said == [("daily 1 of 2",), ("daily 1 of 2, not proven yet",)]
    assert reasons([at(1.2), at(1.1, proven=False)], policy) == [("daily 2 of 2",), ("no rule keeps it",)]


def test_weeks_begin_on_monday_and_months_on_the_first():
    """The newest snapshot of a week is its Sunday's, that of a month its last day's."""
    monday, sunday = datetime(2026, 6, 15, 1, tzinfo=UTC), datetime(2026, 6, 14, 23, tzinfo=UTC)
    first, last = datetime(2026, 6, 1, 0, tzinfo=UTC), datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    old = datetime(2025, 12, 31, 12, tzinfo=UTC)

    assert reasons([at(sunday), at(monday)], replace(NOTHING, weekly=2)) == [("weekly 2 of 2",), ("weekly 1 of 2",)]
    assert reasons([at(sunday), at(monday)], replace(NOTHING, weekly=1))[0] == ("no rule keeps it",)
    assert reasons([at(old), at(last), at(first)], replace(NOTHING, monthly=7)) == [
        ("monthly 7 of 7",),
        ("monthly 2 of 7",),
        ("monthly 1 of 7",),
    ]


def test_days_are_those_of_utc():
    """A snapshot's day does not depend on the time zone it is written in, nor on that of the present."""
    eastern = timezone(timedelta(hours=-5))
    night = datetime(2026, 6, 15, 22, 0, tzinfo=eastern)  # the 16th in UTC

    for now in (NOW, NOW.astimezone(eastern), NOW.astimezone(timezone(timedelta(hours=13)))):
        (decision,) = decide([at(night)], replace(NOTHING, daily=2), now)
        assert decision.reasons == ("daily 2 of 2",)


def test_when_backups_stop_expiry_does_not():
    """Rules are counted from the present: without anything new, all of it expires in its time."""
    policy = RetentionPolicy(timedelta(days=14), 30, 8, 0, timedelta(days=90), 3)
    snapshots = [at(age) for age in range(40)]

    left = [len(kept(snapshots, policy, NOW + timedelta(days=later))) for later in (0, 20, 50, 89, 90.5, 91)]

    assert left == [32, 13, 3, 2, 0, 0]


def test_monthlies_do_not_reach_beyond_the_maximum():
    """A rule that would keep for seven months is ended by a maximum of 90 days, which says so."""
    policy = replace(NOTHING, monthly=7, max_age=timedelta(days=90))
    snapshots = [at(age) for age in (200, 150, 95, 60, 30)]

    assert reasons(snapshots, policy)[:3] == [("older than the maximum of 90 d",)] * 3
    assert kept(snapshots, policy) == [60, 30]


def test_the_minimum_counts_only_what_is_proven():
    """The newest proven ones stay without a rule; unproven ones are no reason to drop them."""
    policy = replace(NOTHING, keep_minimum=2)
    snapshots = [at(50), at(40), at(30), at(20, proven=False), at(10, proven=False)]

    assert kept(snapshots, policy) == [40, 30]
    assert reasons(snapshots, policy)[1] == ("among the 2 newest proven",)


def test_the_minimum_yields_to_the_maximum():
    """The last proven snapshot goes when it is too old, although there is nothing newer."""
    policy = replace(NOTHING, keep_minimum=3, max_age=timedelta(days=90))

    assert kept([at(91), at(90), at(89)], policy) == [90, 89]


def test_each_database_is_decided_on_its_own():
    """A busy database does not use up the places of a quiet one."""
    policy = replace(NOTHING, keep_minimum=1)
    busy = [at(age, "busy") for age in range(9)]

    decisions = decide([*busy, at(60, "quiet")], policy, NOW)

    assert [decision.snapshot.group for decision in decisions if decision.keep] == ["quiet", "busy"]


def test_a_snapshot_from_the_future_is_kept_and_takes_no_place():
    """Its clock or ours is wrong: it is told, and the rules go on without it."""
    policy = replace(NOTHING, daily=1, keep_minimum=1)

    assert reasons([at(0.1), at(-0.1), at(-300)], policy) == [
        ("daily 1 of 1", "among the 1 newest proven"),
        ("dated after the present: a clock is wrong",),
        ("dated after the present: a clock is wrong",),
    ]


@pytest.mark.parametrize(
    ("doubtful", "doubt"),
    [
        ({"late": True}, "came to the store later than any run would bring it"),
        ({"early": True}, "was on the store before its own export"),
        ({"late": True, "early": True}, "came to the store later than any run would bring it"),
        ({"empty": True}, "names nothing"),
    ],
    ids=["late", "early", "both", "empty"],
)
def test_what_nobody_has_to_believe_takes_no_place(doubtful, doubt):
    """Though it is newer, and proven; what is doubted is told behind the rules that keep it."""
    policy = replace(NOTHING, daily=1, keep_within=timedelta(hours=1))
    snapshots = [at(0.2, proven=False), replace(at(0.1), **doubtful), replace(at(0.01), **doubtful)]

    assert reasons(snapshots, policy) == [("daily 1 of 1",), ("no rule keeps it", doubt), ("within 1 h", doubt)]


def test_each_line_of_records_keeps_its_own():
    """One of them is false, and nobody knows which."""
    policy = replace(NOTHING, daily=1)
    first, second = at(0.2), at(0.1)

    def told(*lines):
        return [(one.keep, one.reasons) for one in decide([first, second], policy, NOW, lines)]

    usual = [(False, ("no rule keeps it",)), (True, ("daily 1 of 1",))]
    assert told() == told({first.name, second.name}) == usual
    assert told({first.name}, {second.name}) == [
        (True, ("daily 1 of 1", "a newer one stands in another line of records")),
        (True, ("daily 1 of 1",)),
    ]


def test_what_is_too_old_says_the_maximum():
    """Whatever else would keep it."""
    policy = replace(NOTHING, keep_minimum=9, max_age=timedelta(days=90))

    assert reasons([at(90.1), at(90)], policy) == [
        ("older than the maximum of 90 d",),
        ("among the 9 newest proven",),
    ]


def test_every_rule_that_keeps_is_told():
    """A snapshot kept by four rules has four reasons."""
    policy = RetentionPolicy(timedelta(days=1), 2, 2, 2, timedelta(days=90), 1)

    assert reasons([at(0)], policy) == [
        ("within 1 d", "daily 1 of 2", "weekly 1 of 2", "monthly 1 of 2", "among the 1 newest proven")
    ]


USUAL = RetentionPolicy(timedelta(days=14), 30, 8, 0, timedelta(days=90), 3)


@pytest.mark.parametrize(
    ("snapshots", "expected"),
    [
        ([at(age) for age in range(80)], None),
        ([at(1)], None),
        ([at(1, proven=False)], None),
        ([], None),
        ([at(67), at(1), at(0)], None),
        (
            [at(68), at(1), at(0)],
            "3 proven, 3 wanted: the maximum of 90 d leaves 2 of them on 2026-07-09",
        ),
        (
            [at(80), at(70), at(1), at(0), at(-9)],
            "4 proven, 3 wanted: the maximum of 90 d leaves 2 of them on 2026-07-07",
        ),
        (
            [at(69), *(at(age, proven=False) for age in range(60))],
            "1 proven, 3 wanted: the maximum of 90 d leaves 0 of them on 2026-07-08",
        ),
        (
            [at(age, proven=False) for age in range(70)],
            "none proven, 3 wanted: the maximum of 90 d takes the oldest snapshot on 2026-07-08",
        ),
        (
            [at(95), at(1, proven=False)],
            "none proven, 3 wanted: the maximum of 90 d takes the oldest snapshot on 2026-06-12",
        ),
    ],
    ids=["daily", "new", "new, unproven", "none", "enough", "stopped", "future", "unproven", "never", "over"],
)
def test_it_is_told_long_before_the_maximum_takes_the_minimum(snapshots, expected):
    """A quarter of the maximum ahead, when nothing newer is proven; and not otherwise."""
    alarms = upcoming_losses(snapshots, USUAL, NOW)

    assert [alarm.message for alarm in alarms] == ([expected] if expected else [])


def test_what_is_dated_ahead_alone_raises_no_alarm():
    """Nothing of it is lost before its date has come; the clocks are another matter."""
    assert upcoming_losses([at(-1), at(-2)], replace(USUAL, max_age=timedelta(days=1)), NOW) == []


def test_the_most_urgent_database_comes_first():
    """Each has its own alarm, with the day on which it loses something, and how much is left."""
    snapshots = [at(80, "b"), at(85, "a"), at(70, "c"), at(1, "d")]

    alarms = upcoming_losses(snapshots, USUAL, NOW)

    assert [(alarm.group, alarm.lost - NOW, alarm.proven) for alarm in alarms] == [
        ("a", timedelta(days=5), 1),
        ("b", timedelta(days=10), 1),
        ("c", timedelta(days=20), 1),
    ]


@pytest.mark.parametrize(("max_age", "notice"), [(400, 100), (90, 22.5), (20, 7), (10, 5), (4, 2)])
def test_the_notice_is_a_quarter_at_least_a_week_at_most_a_half(max_age, notice):
    """A short maximum does not mean an alarm that never ends."""
    policy = replace(USUAL, max_age=timedelta(days=max_age), keep_minimum=1)

    assert upcoming_losses([at(max_age - notice)], policy, NOW) != []
    assert upcoming_losses([at(max_age - notice - 0.01)], policy, NOW) == []


def test_without_a_minimum_the_last_proven_one_counts():
    """Whoever asks for no minimum is still told before nothing proven is left, and not at each old snapshot's end."""
    policy = replace(USUAL, keep_minimum=0)

    assert upcoming_losses([at(85), at(80), at(1)], policy, NOW) == []
    assert [alarm.proven for alarm in upcoming_losses([at(85), at(80)], policy, NOW)] == [2]


def test_the_group_is_not_in_the_message():
    """A database can be named after a tenant."""
    (alarm,) = upcoming_losses([at(80, "customer_acme")], USUAL, NOW)

    assert "acme" not in alarm.message
