"""The pages of restore drills: the report of one drill, and all drills of a period.

The page of a period also shows drills that failed, and those that were due and never ran.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from backupd.model.report import Check, CheckName, Report
from backupd.model.text import counted, human_bytes, parse_stamp
from backupd.pages.charts import Bar, Chart, Point, bars, trend
from backupd.pages.environment import environment, readable, spell_count, spell_seconds
from backupd.pages.findings import QUESTIONS, sentence

CHECKS: Final = {
    CheckName.RECORDS: "Every backup's signed record is genuine, in its place, and follows the one before",
    CheckName.AUTHENTIC: "Every byte fetched is the one that was sealed",
    CheckName.EQUALITY: "Every restored row equals the row backed up, in number and order",
    CheckName.SEQUENCES: "Sequences stand where they stood",
    CheckName.CONSTRAINTS: "Constraints are there, and valid",
    CheckName.INDEXES: "Indexes are there, and valid",
    CheckName.EXTENSIONS: "Extensions and collations are of the versions backed up",
    CheckName.GLOBALS: "Roles and their settings are there",
    CheckName.FRESHNESS: "There is a snapshot as new as was promised",
    CheckName.COMPARISON: "Nothing shrank or vanished since the drill before",
    CheckName.ASSERTIONS: "The operator's own questions get the answers expected",
    CheckName.CANARY: "One tenant was treated as deleted, and a second restore left out exactly that one",
    CheckName.PURGED: "Deleted tenants are absent, and what is left of them does not open",
    CheckName.ESCROW: "The spare key that is kept in escrow opens the backup",
    CheckName.OBJECTIVES: "Recovery time and recovery point are within their objectives",
    CheckName.DAMAGE: "Damage done on purpose was noticed",
    CheckName.DISPOSAL: "All that the drill made is gone",
}
LOOKED_AT: Final = {
    CheckName.RECORDS: "record",
    CheckName.AUTHENTIC: "section",
    CheckName.EQUALITY: "row set",
    CheckName.SEQUENCES: "sequence",
    CheckName.CONSTRAINTS: "constraint",
    CheckName.INDEXES: "index",
    CheckName.EXTENSIONS: "version",
    CheckName.GLOBALS: "role statement",
    CheckName.FRESHNESS: "snapshot",
    CheckName.COMPARISON: "earlier drill",
    CheckName.ASSERTIONS: "question",
    CheckName.CANARY: "segment",
    CheckName.PURGED: "segment",
    CheckName.ESCROW: "key",
    CheckName.OBJECTIVES: "objective",
    CheckName.DAMAGE: "try",
    CheckName.DISPOSAL: "search",
}
"""What the number of a check counts."""
RULES: Final = {
    "latest": "its turn, as the newest one",
    "oldest": "its turn, as the oldest one",
    "random": "its turn, drawn at random",
    "named": "name, by the person who started the drill; it was not its turn",
}
PHASES: Final = {
    "queue": "preparing",
    "keys": "opening keys",
    "fetch": "fetching rows",
    "restore": "schema, indexes",
    "verify": "checking",
    "canary": "trial deletion",
    "disposal": "destroying",
}
"""What a drill did in a phase, in as many letters as a chart has room for."""
DISPOSED: Final = {
    "scratch-server": "The server it was restored on",
    "data-folder": "That server's files",
    "database": "The restored database",
    "roles": "The restored roles",
    "spool": "What was fetched",
    "keys": "The keys",
    "process-gone": "its processes have ended",
    "listed-absent": "a listing no longer shows it",
    "never-on-disk": "in memory only, never on a disk",
}
VERDICTS: Final = {"pass": "Passed", "fail": "Failed", "error": "No verdict", "missed": "Missed"}
TYPES: Final = {
    "automatic": "by the timetable",
    "human": "started by hand",
    "damage": "with damage done on purpose, which must be noticed",
}


class Drill(NamedTuple):
    """One drill of a page: one that ran, with its report, or one that was missed."""

    at: datetime
    outcome: str
    """The outcome: `pass`, `fail`, `error` or `missed`."""
    report: Report | None = None
    """None for a drill that was missed."""
    sha256: str = ""
    link: str = ""
    """The path of the drill's own page, relative to this one."""


def render_report(report: Report, sha256: str, history: Sequence[Report] = ()) -> str:
    """Render the page of a report whose document has this SHA-256; `history` are the reports up to it, for its charts.

    The caller has checked its signature: a page proves nothing.
    """
    drills = [Drill(parse_stamp(one.started), one.verdict, one) for one in history]
    return (
        environment()
        .get_template("report.html")
        .render(
            one=report,
            story=_story(report),
            sha256=sha256,
            charts=[_phases(report), *_against(report)],
            trends=trends(drills) if len(drills) > 1 else [],
            dashed=_aimed(drills),
            failed=[check for check in report.checks if check.verdict in ("fail", "error")],
            skipped=[check for check in report.checks if check.verdict == "skip"],
            idle=[check for check in report.checks if check.verdict == "pass" and not check.examined],
            **words(),
        )
    )


def _story(report: Report) -> str:
    """Say what the drill did, as far as its report shows that it did it."""
    restored = report.sizes is not None
    if report.selection is None:
        told = "It ended before a backup was chosen."
    elif report.type == "damage":
        told = "A backup was fetched, damaged on purpose, and its restore tried on a server that holds nothing else."
    elif restored and any(
        check.name is CheckName.EQUALITY and check.verdict in ("pass", "fail") for check in report.checks
    ):
        told = "A backup was fetched, restored on a server that holds nothing else, and checked."
    elif restored:
        told = "A backup was fetched and restored on a server that holds nothing else; it was not checked to the end."
    else:
        told = "A backup was chosen, and was not restored to the end."
    if report.disposal.remaining:
        return f"{told} {counted(report.disposal.remaining, 'thing')} that it made could not be destroyed."
    return f"{told} What it made was destroyed." if report.disposal.destroyed else told


def words() -> dict[str, object]:
    """Return the functions and sentences that templates of reports use."""
    return {
        "time": readable,
        "day": lambda at: f"{at:%Y-%m-%d}",
        "minute": lambda at: f"{at:%Y-%m-%d %H:%M}",
        "span": spell_seconds,
        "size": human_bytes,
        "number": _grouped,
        "many": lambda count, noun: counted(count, noun).replace(str(count), _grouped(count), 1),
        "check_sentences": {name.value: sentence for name, sentence in CHECKS.items()},
        "finding": sentence,
        "looked": _looked,
        "rule": lambda code: RULES.get(code, code),
        "disposed": lambda code: DISPOSED.get(code, code),
        "verdicts": VERDICTS,
        "types": TYPES,
        "questions": QUESTIONS,
    }


def _looked(check: Check) -> str:
    """Say how many of what a check looked at; nothing where it was skipped, or did not get so far."""
    if check.verdict == "skip" or (check.verdict != "pass" and not check.examined):
        return "-"
    said = counted(check.examined, LOOKED_AT.get(check.name, "thing"))
    return said.replace(str(check.examined), _grouped(check.examined), 1)


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def trends(drills: Sequence[Drill]) -> list[Chart]:
    """Draw recovery time and point against objectives, and the restored amounts, over time; only of whole snapshots."""
    whole = [one for one in drills if one.report is None or one.report.whole]
    return [
        trend("Recovery time (RTO)", [_rto(one) for one in whole], spell_seconds),
        trend("Recovery point (RPO)", [_rpo(one) for one in whole], spell_seconds),
        trend("Restored bytes", [_size(one, "bytes") for one in whole], human_bytes),
        trend("Restored rows", [_size(one, "rows") for one in whole], spell_count),
    ]


def _aimed(drills: Sequence[Drill]) -> bool:
    """Say whether any drill had an objective, which a chart then shows."""
    aims = [one.report.objectives for one in drills if one.report]
    return any(aim.rto is not None or aim.rpo is not None for aim in aims)


def _phases(report: Report) -> Chart:
    rows = [
        Bar(PHASES.get(phase.name, phase.name), phase.ms / 1000, spell_seconds(round(phase.ms / 1000, 1)))
        for phase in report.phases
    ]
    return bars("Time of each phase", rows)


def _against(report: Report) -> list[Chart]:
    """Draw measured times as parts of their objectives, so that minutes and days can be compared; nothing where no
    objective is set.
    """
    if report.objectives.rto is None and report.objectives.rpo is None:
        return []
    rows = [
        _part("recovery time", report.measured.rto, report.objectives.rto),
        _part("recovery point", report.measured.rpo, report.objectives.rpo),
    ]
    return [bars("Measured, as a part of the objective", rows)]


def _part(label: str, measured: int | None, objective: int | None) -> Bar:
    if measured is None:
        return Bar(label, None, "not measured", 1.0 if objective else None)
    if not objective:
        return Bar(label, None, spell_seconds(measured))
    return Bar(label, measured / objective, spell_seconds(measured), 1.0)


def _rto(one: Drill) -> Point:
    said = one.report
    return Point(one.at, said.measured.rto if said else None, one.outcome, said.objectives.rto if said else None)


def _rpo(one: Drill) -> Point:
    said = one.report
    return Point(one.at, said.measured.rpo if said else None, one.outcome, said.objectives.rpo if said else None)


def _size(one: Drill, what: str) -> Point:
    sizes = one.report.sizes if one.report else None
    return Point(one.at, getattr(sizes, what) if sizes else None, one.outcome)


class RegionPart(NamedTuple):
    """One region's drills of a period."""

    region: str
    drills: Sequence[Drill]
    """The region's drills, oldest first."""
    proven: datetime | None
    """When the newest drill that passed began, even if before the period."""
    every: timedelta | None
    """The longest time between two drills."""
    faults: Sequence[str]
    """Faults of the region's chain of reports."""
    not_checked: Sequence[str]

    @property
    def counts(self) -> Counter[str]:
        """The number of drills by outcome."""
        return Counter(one.outcome for one in self.drills)

    @property
    def charts(self) -> list[Chart]:
        """The trends of the region's drills."""
        return trends(self.drills)


class PeriodPage(NamedTuple):
    """The content of the page of a period."""

    since: datetime
    until: datetime
    made: datetime
    regions: Sequence[RegionPart]


def render_period(page: PeriodPage) -> str:
    """Render the page of all drills of a period. The caller has checked the reports: a page proves nothing."""
    performers = {one.report.performer for part in page.regions for one in part.drills if one.report}
    return (
        environment()
        .get_template("period.html")
        .render(
            page=page,
            ages=_ages(page),
            performers=sorted(performers),
            dashed=_aimed([one for part in page.regions for one in part.drills]),
            **words(),
        )
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
