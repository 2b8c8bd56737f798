"""Timetables: whatever the zone and the time of year, work is due once, in time, and never twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.model.timetables import Every, Never, Weekly, in_zone, parse_timetable, spell_timetable
from backupd.planning.schedule import (
    TRIES,
    Awake,
    Cause,
    RetryDelays,
    longest_gap,
    next_due,
    next_slot,
    next_try,
    retry_delay,
)

ZONES = ["UTC", "Europe/Brussels", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago"]
HOUR = timedelta(hours=1)
times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
weeklies = st.builds(
    lambda days, at, zone: Weekly(tuple(sorted(days)), tuple(sorted(at)), zone),
    st.sets(st.integers(0, 6), min_size=1),
    st.sets(times, min_size=1, max_size=4),
    st.sampled_from(ZONES),
)
everys = st.builds(Every, st.integers(1, 366 * 86400).map(lambda seconds: timedelta(seconds=seconds)))
timetables = weeklies | everys
instants = st.timedeltas(timedelta(0), timedelta(days=3650)).map(lambda span: datetime(2024, 1, 1, tzinfo=UTC) + span)
spans = st.timedeltas(timedelta(0), timedelta(days=40))


@given(timetables | st.just(Never()))
def test_what_is_spelt_is_read_as_the_same(timetable):
    """Whatever a timetable is, its text is read as exactly that."""
    assert parse_timetable(spell_timetable(timetable)) == timetable


@given(timetables, instants)
def test_slots_follow_each_other_without_a_rest(timetable, after):
    """The next slot is later, nothing lies between, and two are never further apart than the longest gap."""
    slot = next_slot(timetable, after)
    following = next_slot(timetable, slot)

    assert after < slot < following
    assert next_slot(timetable, slot - timedelta(microseconds=1)) == slot
    assert slot - after <= longest_gap(timetable)
    assert following - slot <= longest_gap(timetable)


@pytest.mark.parametrize("zone", ZONES)
def test_the_longest_gap_covers_the_days_on_which_clocks_are_set(zone):
    """Followed for more than a year, no two are further apart, and where clocks are set some are more than a day."""
    timetable, at, gaps = Weekly(tuple(range(7)), (time(2, 30),), zone), datetime(2030, 1, 1, tzinfo=UTC), []
    for _ in range(400):
        following = next_slot(timetable, at)
        gaps.append(following - at)
        at = following
    sets_clocks = zone not in ("UTC", "Asia/Kathmandu")

    assert max(gaps[1:]) <= longest_gap(timetable)
    assert (max(gaps[1:]) > timedelta(days=1)) is sets_clocks


@given(st.sampled_from(ZONES), times, st.dates(date(2024, 1, 3), date(2033, 12, 28)))
def test_every_day_has_its_time_once(zone, at, day):
    """Skipped or doubled hours or not: between two noons that time of day comes exactly once, or is made up for."""
    timetable, local = Weekly(tuple(range(7)), (at,), zone), ZoneInfo(zone)
    found, slot = [], datetime.combine(day - timedelta(days=2), time(12), local).astimezone(UTC)
    while len(found) < 5:
        slot = next_slot(timetable, slot)
        found.append(slot.astimezone(local))
    dates = [one.date() for one in found]

    assert len(set(dates)) == len(dates)
    assert [one.toordinal() - dates[0].toordinal() for one in dates] == [0, 1, 2, 3, 4]
    for one in found:
        shown = one.time().replace(fold=0)
        assert shown == at or timedelta(0) < datetime.combine(one, shown) - datetime.combine(one, at) <= HOUR


@given(weeklies, instants, st.integers(2, 40))
def test_whoever_follows_the_timetable_misses_nothing(timetable, start, number):
    """Running each time it is due runs exactly the slots, none left out and none twice."""
    awake = Awake(start, "node/be", timedelta(0))
    last, ran = start, []
    for _ in range(number):
        due = next_due(timetable, last, last, awake)
        ran.append(due.at)
        assert not due.missed
        last = due.at
    slots, at = [], start
    for _ in range(number):
        at = next_slot(timetable, at)
        slots.append(at)

    assert ran == slots


@given(timetables, instants, spans, st.text(max_size=20))
def test_all_that_was_missed_is_caught_up_with_once(timetable, last, asleep, seed):
    """However long nobody was awake, one run makes up for it, within the spread; the next is on the timetable."""
    awake = Awake(last + asleep, seed, timedelta(minutes=10))
    due = next_due(timetable, last, awake.since, awake)
    if due.missed:
        assert next_slot(timetable, last) == due.slot < awake.since
        assert awake.since <= due.at < awake.since + awake.spread
    else:
        assert due.at == due.slot == next_slot(timetable, last) >= awake.since
    after = next_due(timetable, due.at, due.at, awake)
    assert not after.missed or after.at <= due.at
    assert after.slot == next_slot(timetable, due.at)


@given(timetables, instants, spans)
def test_a_clock_that_was_ahead_stops_nothing(timetable, now, ahead):
    """A last run in the future is one of now: the next one comes as if it had just been."""
    awake = Awake(now - timedelta(days=400), "x", timedelta(0))

    assert next_due(timetable, now + ahead, now, awake) == next_due(timetable, now, now, awake)


@given(timetables, instants, st.text(max_size=20))
def test_what_never_ran_runs_soon(timetable, since, seed):
    """A machine that starts for the first time does everything once, within the spread."""
    due = next_due(timetable, None, since, Awake(since, seed, timedelta(minutes=10)))

    assert due.missed
    assert since <= due.at < since + timedelta(minutes=10)


@given(st.sampled_from(Cause), st.integers(1, 200), st.integers(1, 86400), st.text(max_size=10))
def test_delays_grow_and_end(cause, attempt, first, seed):
    """Never sooner than asked for, at most an hour and a fifth, growing but for the spread; final is final."""
    patience = RetryDelays(timedelta(seconds=first), seed)
    delay, following = retry_delay(cause, attempt, patience), retry_delay(cause, attempt + 1, patience)
    if cause is Cause.FINAL:
        assert delay is None
    if delay is not None:
        assert patience.first <= delay <= max(HOUR, patience.first) * 1.2
    if delay is not None and following is not None:
        assert following >= delay / 1.2


@given(st.integers(1, 20), st.floats(0, 1e6), st.floats(1, 1e6))
def test_a_run_tries_again_a_few_times_and_leaves_time_for_the_last(tries, spent, deadline):
    """What is busy is tried again, each time after a longer pause: never in the deadline's second half."""
    pause = next_try(tries, spent, deadline)
    assert (pause is None) == (tries >= TRIES or spent > deadline / 2)
    if pause is not None:
        assert 1 <= pause <= 8


def test_zones_are_given_to_those_that_name_none():
    """A time without a zone is one of the default; one with keeps its own; spans have none."""
    assert in_zone(parse_timetable("daily 02:30"), "Europe/Brussels").zone == "Europe/Brussels"
    assert in_zone(parse_timetable("daily 02:30 UTC"), "Europe/Brussels").zone == "UTC"
    assert in_zone(parse_timetable("every 6h"), "Europe/Brussels") == Every(6 * HOUR)
