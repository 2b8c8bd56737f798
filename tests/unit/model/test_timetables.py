"""Timetables as people write them, and the days on which clocks are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backupd.model.timetables import parse_timetable
from backupd.planning.schedule import longest_gap, next_slot


def slots(text: str, after: str, number: int) -> list[str]:
    at, found = datetime.fromisoformat(after).replace(tzinfo=UTC), []
    for _ in range(number):
        at = next_slot(parse_timetable(text), at)
        found.append(f"{at:%m-%d %H:%M}")
    return found


def test_a_skipped_hour_runs_once():
    """Brussels, 2030-03-31: 02:30 does not exist. It runs at what clocks show as 03:30."""
    found = slots("daily 02:30 Europe/Brussels", "2030-03-29T12:00", 3)

    assert found == ["03-30 01:30", "03-31 01:30", "04-01 00:30"]


def test_a_doubled_hour_runs_once():
    """Brussels, 2030-10-27: 02:30 comes twice. It runs at the first."""
    found = slots("daily 02:30 Europe/Brussels", "2030-10-25T12:00", 3)

    assert found == ["10-26 00:30", "10-27 00:30", "10-28 01:30"]


def test_several_times_and_days():
    """Each of the days has each of the times."""
    found = slots("weekly mon,thu 06:00,18:00", "2030-01-01T00:00", 5)

    assert found == ["01-03 06:00", "01-03 18:00", "01-07 06:00", "01-07 18:00", "01-10 06:00"]


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("every 6h", 6),
        ("daily 02:30", 24),
        ("daily 02:30 Europe/Brussels", 25),
        ("daily 06:00,18:00", 12),
        ("daily 06:00,07:00", 23),
        ("weekly sun 04:00", 168),
        ("weekly sat,sun 04:00", 144),
    ],
)
def test_the_longest_gap(text, hours):
    """What a promise can count on: the longest time without a run, daylight saving included."""
    assert longest_gap(parse_timetable(text)) == timedelta(hours=hours)


def test_never_has_no_slot_and_no_gap():
    """Nothing is due by itself."""
    assert next_slot(parse_timetable("never"), datetime(2030, 1, 1, tzinfo=UTC)) is None
    assert longest_gap(parse_timetable("never")) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("dialy 02:30", "is no timetable; write one as"),
        ("", "is no timetable; write one as"),
        ("daily", "needs a time of day"),
        ("daily 24:00", "has no time of day from 00:00 to 23:59"),
        ("daily 2:30", "has no time of day"),
        ("daily 02:30 Europe/Brusels", "has no known time zone"),
        ("daily 02:30 ../../etc/passwd", "has no known time zone"),
        ("daily 02:30 UTC or so", "says more than days, times and a time zone"),
        ("weekly 04:00", "needs days of mon, tue"),
        ("weekly sunday 04:00", "needs days of mon, tue"),
        ("weekly", "needs days of mon, tue"),
        ("every", "needs a time span from 1s to 366d"),
        ("every 0s", "needs a time span"),
        ("every 999999999w", "needs a time span"),
        ("every day", "needs a time span"),
        ("never ever", "says more than never"),
    ],
)
def test_faults_are_told_in_a_sentence(text, sentence):
    """Each mistake is told with what to write instead."""
    with pytest.raises(ValueError, match=sentence):
        parse_timetable(text)
