"""The report of one restore drill as a page, and what it shares with the page of a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from backupd.model.amounts import human_bytes
from backupd.model.instants import parse_stamp
from backupd.model.stored.report import CheckName, Report
from backupd.pages.charts import Bar, Chart, Point, bars, trend
from backupd.pages.environment import environment
from backupd.pages.findings import sentence
from backupd.pages.frameworks import QUESTIONS
from backupd.pages.words import readable, spell_count, spell_seconds

CHECKS: Final = {
    CheckName.RECORDS: "Records are signed, in their place, and follow each other",
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
    CheckName.CANARY: "A tenant taken for purged was there, and a second restore left out just that one",
    CheckName.PURGED: "Purged tenants are absent, and what is left of them does not open",
    CheckName.ESCROW: "The identity in escrow opens the backup",
    CheckName.OBJECTIVES: "Recovery time and recovery point are within their objectives",
    CheckName.DAMAGE: "Damage done on purpose was noticed",
    CheckName.DISPOSAL: "All that the drill made is gone",
}
VERDICTS: Final = {"pass": "Passed", "fail": "Failed", "error": "No verdict", "missed": "Missed"}
TYPES: Final = {
    "automatic": "by the timetable",
    "human": "asked for",
    "damage": "with damage done on purpose, which must be noticed",
}


class Drill(NamedTuple):
    """One line of a population."""

    at: datetime
    outcome: str
    """`pass`, `fail`, `error`, `missed`."""
    report: Report | None = None
    """None of a missed one."""
    sha256: str = ""
    link: str = ""
    """Where its own page lies beside this one."""


def render_report(report: Report, sha256: str, history: Sequence[Report] = ()) -> str:
    """One HTML page of a report whose document has this SHA-256; `history` are the reports up to it, for its charts.

    The caller checked its signature: a page proves nothing.
    """
    drills = [Drill(parse_stamp(one.started), one.verdict, one) for one in history]
    return (
        environment()
        .get_template("report.html")
        .render(
            one=report,
            sha256=sha256,
            charts=[_phases(report), _against(report)],
            trends=trends(drills) if len(drills) > 1 else [],
            failed=[check for check in report.checks if check.verdict in ("fail", "error")],
            skipped=[check for check in report.checks if check.verdict == "skip"],
            **words(),
        )
    )


def words() -> dict[str, object]:
    """What templates of reports say things with."""
    return {
        "time": readable,
        "day": lambda at: f"{at:%Y-%m-%d}",
        "span": spell_seconds,
        "size": human_bytes,
        "number": lambda count: f"{count:,}".replace(",", "\u202f"),
        "check_sentences": {name.value: sentence for name, sentence in CHECKS.items()},
        "finding": sentence,
        "verdicts": VERDICTS,
        "types": TYPES,
        "questions": QUESTIONS,
    }


def trends(drills: Sequence[Drill]) -> list[Chart]:
    """Recovery time and point against objectives, and what was restored, over time. Not of one tenant alone."""
    whole = [one for one in drills if one.report is None or one.report.whole]
    return [
        trend("Recovery time (RTO)", [_rto(one) for one in whole], spell_seconds),
        trend("Recovery point (RPO)", [_rpo(one) for one in whole], spell_seconds),
        trend("Restored bytes", [_size(one, "bytes") for one in whole], human_bytes),
        trend("Restored rows", [_size(one, "rows") for one in whole], spell_count),
    ]


def _phases(report: Report) -> Chart:
    rows = [Bar(phase.name, phase.ms / 1000, spell_seconds(round(phase.ms / 1000, 1))) for phase in report.phases]
    return bars("Time of each phase", rows)


def _against(report: Report) -> Chart:
    """Parts of an objective, so that minutes and days stand beside each other."""
    rows = [
        _part("recovery time", report.measured.rto, report.objectives.rto),
        _part("recovery point", report.measured.rpo, report.objectives.rpo),
    ]
    return bars("Measured, as a part of the objective", rows)


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
