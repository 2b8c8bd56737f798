"""Checks 13 and 14: purged tenants, and the identity that is kept for a disaster.

Checks 9, 10, 11 and 15: age, size beside the drill before, the operator's own queries, and objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, KeyRefusedError
from backupd.model.ids import Pseudonym
from backupd.model.ledger import PurgeBegan, Shredded
from backupd.model.report import Check, CheckName, Deletion, Measured, Objectives, Report
from backupd.model.text import parse_stamp
from backupd.operations.drill.types import Findings, skipped
from backupd.postgres.scratch.watch import whole_number

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillScene


def check_purged(scene: DrillScene) -> tuple[Check, Deletion]:
    """Nothing of a purged tenant was restored, and what its keys sealed cannot be opened with the drill's identity.

    A purge that is under way, its keys not shredded on this store yet, is told, and is no fault.
    """
    subject = scene.subject
    gone = subject.history.explained.purged_in(subject.record.generation)
    purged = [segment for segment, _, _ in subject.record.parts if segment in gone]
    findings = Findings(CheckName.PURGED, len(purged))
    kept = {part[0] for part in subject.choice.record.parts}
    returned = [segment for segment in purged if segment in kept]
    findings.add("purged-restored", len(returned))
    compared = scene.restored.compared
    findings.add("tenants-of-no-segment", len(compared.strangers) if compared else 0)
    # Without the rows compared nobody knows who has some.
    findings.add("rows-not-compared", int(compared is None))
    opened = [segment for segment in purged if _opens(scene, segment)]
    shredded = _shredded(scene)
    findings.add("shredded-key-opens", sum(segment in shredded for segment in opened))
    findings.note("purge-under-way", sum(segment not in shredded for segment in opened))
    deletion = Deletion(
        ledger=subject.history.chain.head,
        purged=len(purged),
        absent=len(purged) - len(returned),
        attempted=len(purged),
        refused=len(purged) - len(opened),
    )
    return findings.check(), deletion


def check_escrow(scene: DrillScene) -> Check:
    """The identity kept for a disaster opens every key that the drill's opens, and they are the same."""
    escrow, subject = scene.environment.escrow, scene.subject
    if escrow is None:
        return skipped(CheckName.ESCROW, "not-configured")
    findings = Findings(CheckName.ESCROW, len(subject.choice.record.parts))
    try:
        theirs = subject.repository.open_keys(escrow, [subject.record.generation])
    except KeyRefusedError:
        findings.add("escrow-refused")
        return findings.check()
    for segment, _, _ in subject.choice.record.parts:
        if segment not in theirs:
            findings.add("escrow-lacks-key")
        elif theirs[segment] != subject.choice.keys[segment]:
            findings.add("escrow-key-differs")
    return findings.check()


def _opens(scene: DrillScene, segment: Pseudonym) -> bool:
    """Try to open what the segment's key sealed: the key itself first, without which there is no second step."""
    try:
        return bool(scene.subject.choice.keys[segment].secret)
    except BackupdError:
        return False


def _shredded(scene: DrillScene) -> set[Pseudonym]:
    """Segments whose keys the ledger says are gone from this store."""
    lives: dict[tuple[str, int, str], set[Pseudonym]] = {}
    found: set[Pseudonym] = set()
    for entry in scene.subject.history.chain.entries():
        for event in entry.events:
            if isinstance(event, PurgeBegan):
                listed = {segment for _, segment in event.segments}
                lives.setdefault((event.tenant, event.incarnation, event.scope), set()).update(listed)
            elif isinstance(event, Shredded) and event.store == scene.environment.store:
                found |= lives.get((event.tenant, event.incarnation, event.scope), set())
    return found


_QUERY_SECONDS = 300
_LEAST_SHARE = 2
"""A database that has less than one part in so many of the rows it had at the drill before is told as a fault."""


def check_freshness(scene: DrillScene, rpo: int) -> Check:
    """The newest snapshot of the database is no older than the objective: a drill of an old one says nothing of it."""
    objective = scene.environment.objectives.rpo
    if objective is None:
        return skipped(CheckName.FRESHNESS, "not-configured")
    findings = Findings(CheckName.FRESHNESS, 1)
    findings.add("older-than-objective", int(rpo > objective))
    return findings.check()


def check_comparison(scene: DrillScene, rows: int) -> Check:
    """Beside the drill of an older snapshot of the same database: rows do not vanish by the half unnoticed."""
    record = scene.subject.record
    if scene.subject.tenant is not None:
        return skipped(CheckName.COMPARISON, "one-tenant")
    before = _before(scene.environment.past, record.database, record.exported)
    if before is None or before.sizes is None:
        return skipped(CheckName.COMPARISON, "no-earlier-drill")
    findings = Findings(CheckName.COMPARISON, 1)
    findings.add("rows-fell-by-half", int(rows * _LEAST_SHARE < before.sizes.rows))
    findings.note("rows-fell", int(rows < before.sizes.rows <= rows * _LEAST_SHARE))
    return findings.check()


def check_assertions(scene: DrillScene) -> Check:
    """The operator's queries return what they must; only that is told, not what they returned."""
    ours = [one for one in scene.environment.assertions if one.database == scene.subject.record.database]
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
