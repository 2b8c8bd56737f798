"""Every drill of a period on one page: also those that failed, and those that never came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from backupd.pages.charts import Bar, Chart, bars
from backupd.pages.drills import Drill, trends, words
from backupd.pages.environment import environment
from backupd.pages.words import spell_seconds


class RegionPart(NamedTuple):
    """One region's population."""

    region: str
    drills: Sequence[Drill]
    """Oldest first."""
    proven: datetime | None
    """When the newest drill began that passed, be it before the period."""
    every: timedelta | None
    """The longest time between two drills."""
    faults: Sequence[str]
    """What is wrong with the chain."""
    not_checked: Sequence[str]

    @property
    def counts(self) -> Counter[str]:
        return Counter(one.outcome for one in self.drills)

    @property
    def charts(self) -> list[Chart]:
        return trends(self.drills)


class PeriodPage(NamedTuple):
    """What the page of a period is made of."""

    since: datetime
    until: datetime
    made: datetime
    regions: Sequence[RegionPart]


def render_period(page: PeriodPage) -> str:
    """One HTML page of a period's population. The caller checked the reports: a page proves nothing."""
    performers = {one.report.performer for part in page.regions for one in part.drills if one.report}
    return (
        environment()
        .get_template("period.html")
        .render(page=page, ages=_ages(page), performers=sorted(performers), **words())
    )


def _ages(page: PeriodPage) -> Chart:
    end = min(page.until, page.made)
    return bars("Age of the newest proof", [_age(part, end) for part in page.regions])


def _age(part: RegionPart, end: datetime) -> Bar:
    limit = part.every.total_seconds() if part.every else None
    if part.proven is None:
        return Bar(part.region, None, "no proof", limit)
    age = max(0.0, (end - part.proven).total_seconds())
    return Bar(part.region, age, spell_seconds(round(age)), limit)
