"""Every drill of a period, also those that were due and never happened. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from backupd.model.instants import parse_stamp
from backupd.planning.reports.chain import Filed

GRACE: Final = 4
"""A drill is missed when it is late by more than a fourth of the time between two."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since`, and before `until`."""

    since: datetime
    until: datetime

    def holds(self, instant: datetime) -> bool:
        return self.since <= instant < self.until


@dataclass(frozen=True, slots=True)
class Occasion:
    """A drill that took place, or one that did not."""

    at: datetime
    """When it began; of a missed one, when it was due."""
    outcome: Literal["pass", "fail", "error", "missed"]
    filed: Filed | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """When drills were due."""

    begins: datetime | None
    """From then on: when the repository was made. None where nobody knows; then the first drill begins it."""
    every: timedelta | None
    """As configured now; None: what the newest report says."""


def population(filed: Sequence[Filed], timetable: Timetable, period: Period, now: datetime) -> list[Occasion]:
    """Every drill that began in the period, and every one that was due in it and missed; oldest first.

    A drill is due `drill_every` after the one before it began, as the report of the one that came says: before the
    first and behind the last, as the timetable says. Any drill of a whole snapshot counts, also one that somebody asked
    for; one of a single tenant proves nothing for the others, and does not.
    """
    held = sorted((parse_stamp(one.report.started), index) for index, one in enumerate(filed))
    found = [Occasion(at, filed[index].report.verdict, filed[index]) for at, index in held]
    counting = [one for one in found if one.filed and one.filed.report.whole]
    missed = [Occasion(at, "missed") for at in _missed(counting, timetable, period, now)]
    return sorted((one for one in [*found, *missed] if period.holds(one.at)), key=lambda one: one.at)


def _missed(held: Sequence[Occasion], timetable: Timetable, period: Period, now: datetime) -> Iterator[datetime]:
    before, every = timetable.begins, timetable.every
    for one in held:
        said = one.filed.report.objectives.drill_every if one.filed else None
        if before is not None and said:
            yield from _due(before, one.at, timedelta(seconds=said), period)
        before = one.at
        every = timetable.every or (timedelta(seconds=said) if said else None)
    if before is not None and every:
        yield from _due(before, now, every, period)


def _due(after: datetime, came: datetime, every: timedelta, period: Period) -> Iterator[datetime]:
    due = after + every * max(1, (period.since - after) // every)
    while due + every / GRACE < came and due < period.until:
        yield due
        due += every
