"""The scenario of a soak test is drawn from a seed before anything begins: what happens, and at which step.

The moments within a run of a job are drawn, too, but how far the job is by then is the machine's affair.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

STEPS = ("00:00", "00:35", "01:35", "02:35", "03:35", "04:35", "05:35", "10:00", "16:00", "22:00", "23:35")
"""UTC, behind the times of the timetables, whose zone has summer time."""
NIGHT = STEPS[1:7] + STEPS[10:]
"""When jobs run."""
WORK = ("10:00", "16:00", "22:00")
TROUBLES = ("kill-daemon", "kill-daemon", "kill-job", "store-gone", "postgres-restarts", "change-during")
MORE_TROUBLES = (*TROUBLES, "second-gone", "second-gone", "migrate", "migrate")
HELD = "zwartewater-held"
"""A tenant that is held in every other week, and never leaves."""


@dataclass(frozen=True, slots=True)
class Act:
    """Something that is done at a step, by its name; `delay` is in seconds of the job that then runs."""

    what: str
    tenant: str = ""
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """By day, counted from 0, and step."""

    acts: dict[tuple[int, str], list[Act]] = field(default_factory=dict)

    def at(self, day: int, step: str) -> list[Act]:
        return self.acts.get((day, step), [])

    def add(self, day: int, step: str, act: Act) -> None:
        self.acts.setdefault((day, step), []).append(act)


def draw(seed: int, days: int, tenants: list[str], *, plain: bool = False) -> Scenario:
    """Return the scenario of a seed. A plain one has one store, and no holds, wrong clocks or DDL."""
    rnd = random.Random(seed)
    scenario = Scenario()
    staying = list(tenants)
    rnd.shuffle(staying)
    for day, act in _departures(rnd, days, staying):
        if 0 <= day < days:
            scenario.add(day, rnd.choice(WORK), act)
    for day in range(days):
        for step in WORK:
            scenario.add(day, step, Act("work"))
        for what in _kinds_of(rnd, day, TROUBLES if plain else MORE_TROUBLES):
            scenario.add(day, rnd.choice(NIGHT), Act(what, delay=round(rnd.uniform(0.05, 1.8), 2)))
    for week in range(0, days, 7):
        scenario.add(week + 1, "22:00", Act("second-keeper"))
        scenario.add(week + 3, "10:00", Act("second-keeper-stops"))
    if not plain:
        _more(rnd, days, scenario)
    return scenario


def _more(rnd: random.Random, days: int, scenario: Scenario) -> None:
    """A tenant is held in every other week; each day a clock is wrong; what a store missed is brought, twice a week."""
    scenario.add(0, "10:00", Act("join", HELD))
    for week in range(0, days, 7):
        scenario.add(week + 1, "16:00", Act("hold" if week % 14 == 0 else "release", HELD))
        for day in (week + 2, week + 5):
            scenario.add(day, "16:00", Act("replicate"))
    for day in range(days):
        scenario.add(day, rnd.choice(WORK), Act(rnd.choice(("clock-back", "clock-ahead"))))


def _kinds_of(rnd: random.Random, day: int, troubles: Sequence[str]) -> list[str]:
    """One or two troubles a night; none on every fourth, so that some night shows how it is without."""
    return [] if day % 4 == 3 else [rnd.choice(troubles) for _ in range(rnd.choice((1, 1, 2)))]


def _departures(rnd: random.Random, days: int, staying: list[str]) -> Iterator[tuple[int, Act]]:
    """Each week: one unsubscribes for good, one for a day, one is erased; who is gone long enough returns."""
    for first in range(0, days, 7):
        gone, back, erased = staying.pop(), staying[0], staying.pop()
        start = first + (0 if first == 0 else rnd.randrange(3))
        yield start, Act("leave", gone)
        yield start + 2, Act("take-out", gone)
        yield start + rnd.randrange(2), Act("erase", erased)
        yield start + 1, Act("leave", back)
        yield start + 2, Act("come-back", back)
        yield start + 9, Act("join", erased)
        yield start + 12, Act("join", gone)
        staying.insert(0, f"zwartewater-new-{first:03d}")
        yield start + 3, Act("join", staying[0])
