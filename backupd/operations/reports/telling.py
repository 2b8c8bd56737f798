"""A region's drills as a population, for people, programs and pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from backupd.model.instants import parse_stamp
from backupd.model.stored.report import Report
from backupd.operations.reports.reading import Gathered
from backupd.planning.reports.population import Occasion, Period, Timetable, population

Standing = Literal["pass", "fail", "error", "missed", "none", "damaged"]


@dataclass(frozen=True, slots=True)
class Part:
    """One region's reports, and when drills are due there."""

    gathered: Gathered
    timetable: Timetable

    @property
    def every(self) -> timedelta | None:
        """The longest time between two drills, as configured, else as the newest report says."""
        said = self.gathered.filed[-1].report.objectives.drill_every if self.gathered.filed else None
        return self.timetable.every or (timedelta(seconds=said) if said else None)


def occasions(part: Part, period: Period, now: datetime) -> list[Occasion]:
    """Every drill of the period, missed ones too, oldest first."""
    return population(part.gathered.filed, part.timetable, period, now)


def counts(found: Sequence[Occasion]) -> dict[str, int]:
    """How many of each outcome; every outcome is there."""
    counted = Counter(one.outcome for one in found)
    return {outcome: counted[outcome] for outcome in ("pass", "fail", "error", "missed")}


def standing(part: Part, now: datetime) -> Standing:
    """How the region stands now: whether its chain is sound, then how the newest drill ended, missed or not.

    That one tenant was proven says nothing of the others; that one was not is told as any failure.
    """
    if part.gathered.faults:
        return "damaged"
    ever = Period(datetime.min.replace(tzinfo=now.tzinfo), now)
    every = occasions(part, ever, now)
    found = [one for one in every if one.outcome != "pass" or (one.filed and _proves(one.filed.report))]
    return found[-1].outcome if found else "none"


def _proves(report: Report) -> bool:
    return report.verdict == "pass" and report.whole


def newest_proof(part: Part, before: datetime) -> datetime | None:
    """When the newest drill began that passed, of those that began before an instant."""
    passed = (parse_stamp(one.report.started) for one in part.gathered.filed if _proves(one.report))
    return max((at for at in passed if at < before), default=None)
