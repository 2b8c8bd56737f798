"""Checks 9, 10, 11 and 15: age, size beside the drill before, the operator's own queries, and objectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.model.instants import parse_stamp
from backupd.model.stored.report import CheckName, Measured, Objectives
from backupd.operations.drill.scene import Findings, skipped
from backupd.postgres.scratch.looking import whole_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backupd.model.stored.report import Check, Report
    from backupd.operations.drill.scene import Scene

_QUERY_SECONDS = 300
_LEAST_SHARE = 2
"""A database that has less than one part in so many of the rows it had at the drill before is told as a fault."""


def check_freshness(scene: Scene, rpo: int) -> Check:
    """The newest snapshot of the database is no older than the objective: a drill of an old one says nothing of it."""
    objective = scene.world.objectives.rpo
    if objective is None:
        return skipped(CheckName.FRESHNESS, "not-configured")
    findings = Findings(CheckName.FRESHNESS, 1)
    findings.add("older-than-objective", int(rpo > objective))
    return findings.check()


def check_comparison(scene: Scene, rows: int) -> Check:
    """Beside the drill of an older snapshot of the same database: rows do not vanish by the half unnoticed."""
    record = scene.subject.record
    if scene.subject.tenant is not None:
        return skipped(CheckName.COMPARISON, "one-tenant")
    before = _before(scene.world.past, record.database, record.exported)
    if before is None or before.sizes is None:
        return skipped(CheckName.COMPARISON, "no-earlier-drill")
    findings = Findings(CheckName.COMPARISON, 1)
    findings.add("rows-fell-by-half", int(rows * _LEAST_SHARE < before.sizes.rows))
    findings.note("rows-fell", int(rows < before.sizes.rows <= rows * _LEAST_SHARE))
    return findings.check()


def check_assertions(scene: Scene) -> Check:
    """The operator's queries return what they must; only that is told, not what they returned."""
    ours = [one for one in scene.world.assertions if one.database == scene.subject.record.database]
    if not ours:
        return skipped(CheckName.ASSERTIONS, "not-configured")
    if scene.subject.tenant is not None:  # they were written about the whole database
        return skipped(CheckName.ASSERTIONS, "one-tenant")
    findings = Findings(CheckName.ASSERTIONS, len(ours))
    for one in ours:
        number = whole_number(scene.restored.source, one.sql, _QUERY_SECONDS)
        if number is None:
            findings.add(f"{one.name}-returns-no-number")
        elif not one.holds(number):
            findings.add(f"{one.name}-differs")
    return findings.check()


def check_objectives(objectives: Objectives, measured: Measured) -> Check:
    """What was measured is within what was promised."""
    pairs = {"rpo": (measured.rpo, objectives.rpo), "rto": (measured.rto, objectives.rto)}
    asked = {name: pair for name, pair in pairs.items() if pair[1] is not None}
    if not asked:
        return skipped(CheckName.OBJECTIVES, "not-configured")
    findings = Findings(CheckName.OBJECTIVES, len(asked))
    for name, (found, most) in asked.items():
        findings.add(f"{name}-missed", int(found is None or most is None or found > most))
    return findings.check()


def _before(past: Sequence[Report], database: str, exported: str) -> Report | None:
    """The newest drill of an older snapshot of the database that came to a verdict."""
    for report in reversed(past):
        selection = report.selection
        if selection is None or report.sizes is None or report.verdict == "error" or selection.tenants is not None:
            continue
        if selection.database == database and parse_stamp(selection.exported) <= parse_stamp(exported):
            return report
    return None
