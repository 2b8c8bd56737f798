"""Pages of drills that never took place."""

from __future__ import annotations

from doubles.samples.reports import START, WEEK, checks, sample, selection

from backupd.model.report import (
    Check,
    CheckFinding,
    CheckName,
    Disposal,
    Disposed,
    Measured,
    Phase,
    Report,
    every_check,
)
from backupd.model.text import parse_stamp
from backupd.pages import Drill, PeriodPage, RegionPart, render_period

FAILED = sample(
    3, checks=checks(failed=(CheckName.EQUALITY, CheckName.OBJECTIVES)), measured=Measured(rpo=99999, rto=20000)
)
ERRED = sample(
    4,
    checks=every_check([Check.of(CheckName.RECORDS, "error", 0, [CheckFinding("store-gone")])]),
    selection=None,
    sizes=None,
    deletion=None,
    measured=Measured(),
    phases=[],
    disposal=Disposal(destroyed=[], remaining=2),
)


def drills(*reports: Report, missed: tuple[int, ...] = (), link: str = "") -> list[Drill]:
    held = [Drill(parse_stamp(one.started), one.verdict, one, "ab" * 32, link) for one in reports]
    return sorted([*held, *(Drill(START + week * WEEK, "missed") for week in missed)], key=lambda one: one.at)


def period(*parts: RegionPart) -> str:
    return render_period(PeriodPage(START, START + 12 * WEEK, START + 13 * WEEK, parts))


def part(region: str = "be", found: list[Drill] | None = None, **changes: object) -> RegionPart:
    said = {"drills": found or [], "proven": None, "every": WEEK, "faults": (), "not_checked": ()}
    return RegionPart(region=region, **{**said, **changes})


def hostile(name: str) -> Report:
    return sample(
        0,
        machine=name,
        location=name,
        selection=selection(START, store=name, database=name),
        phases=[Phase("other-phase", 3)],
        disposal=Disposal(destroyed=[Disposed("other-thing", "other-way")]),
    )
