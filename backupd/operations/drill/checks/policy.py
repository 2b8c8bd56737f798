"""Checks 9, 10, 11 and 13 to 15: age, size beside the drill before, the operator's own queries, purged tenants, the
identity that is kept for a disaster, and objectives.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, DamageError, KeyRefusedError
from backupd.model.ids import Pseudonym
from backupd.model.ledger import PurgeBegan, Shredded
from backupd.model.report import Check, CheckName, Deletion, Measured, Objectives, Report
from backupd.model.text import parse_stamp
from backupd.operations.drill.types import Findings, skipped
from backupd.postgres.scratch.watch import whole_number

if TYPE_CHECKING:
    from backupd.operations.drill.types import DrillScene, RowComparison


def check_purged(scene: DrillScene, compared: RowComparison | None) -> tuple[Check, Deletion]:
    """Check that nothing of a purged tenant was restored, and that the drill's identity opens nothing its keys sealed.

    A purge that is under way, whose keys are not shredded on this store yet, is noted, and is no fault.
    """
    subject = scene.subject
    gone = subject.history.explained.purged_in(subject.record.generation)
    purged = [segment for segment in subject.choice.sections.manifests if segment in gone]
    findings = Findings(CheckName.PURGED, len(purged), scene.names)
    kept = set(subject.choice.segments)
    returned = [segment for segment in purged if segment in kept]
    findings.each("purged-restored", [_whose(scene, segment) for segment in returned])
    strangers = sorted(compared.strangers) if compared else []
    findings.each("tenants-of-no-segment", [f'tenant "{name}"' for name in strangers])
    # Unless the rows were compared, it is not known which tenants have some.
    findings.add("rows-not-compared", int(compared is None))
    opened = [segment for segment in purged if _opens(scene, segment)]
    shredded = _shredded(scene)
    findings.each("shredded-key-opens", [_whose(scene, segment) for segment in opened if segment in shredded])
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
    """Check that the identity kept for a disaster opens the same keys that the drill's opens."""
    escrow, subject = scene.environment.escrow, scene.subject
    if escrow is None:
        return skipped(CheckName.ESCROW, "not-configured")
    kept = set(subject.choice.segments)
    rows = [section.row for (segment, _), section in subject.choice.sections.sections.items() if segment in kept]
    findings = Findings(CheckName.ESCROW, len(rows))
    try:
        theirs = subject.repository.open_keys(escrow, [subject.record.generation])
    except KeyRefusedError:
        findings.add("escrow-refused")
        return findings.check()
    for row in rows:
        ours = subject.choice.keys.of(row)
        try:
            findings.add("escrow-key-differs", int(theirs.of(row) != ours))
        except KeyRefusedError:
            findings.add("escrow-lacks-key")
        except DamageError:  # its file key is another, and opens no line
            findings.add("escrow-key-differs")
    return findings.check()


def _whose(scene: DrillScene, segment: Pseudonym) -> str:
    """Return the segment's pseudonym, and its tenant where a key opens that says it."""
    with suppress(BackupdError, KeyError):
        tenant = scene.subject.choice.name_of(segment).tenant
        return f"segment {segment}" if tenant is None else f'segment {segment}, tenant "{tenant}"'
    return f"segment {segment}"


def _opens(scene: DrillScene, segment: Pseudonym) -> bool:
    """Check whether a key of the segment can be opened, which is the first step to anything that it sealed."""
    choice = scene.subject.choice
    for (owner, _), section in choice.sections.sections.items():
        if owner == segment:
            with suppress(BackupdError):
                return bool(choice.keys.of(section.row).key)
    return False


def _shredded(scene: DrillScene) -> set[Pseudonym]:
    """Return the segments whose keys the ledger records as shredded on this store."""
    incarnations: dict[tuple[str, int, str], set[Pseudonym]] = {}
    found: set[Pseudonym] = set()
    for entry in scene.subject.history.chain.entries():
        for event in entry.events:
            if isinstance(event, PurgeBegan):
                listed = {segment for _, segment in event.segments}
                incarnations.setdefault((event.tenant, event.incarnation, event.scope), set()).update(listed)
            elif isinstance(event, Shredded) and event.store == scene.environment.store:
                found |= incarnations.get((event.tenant, event.incarnation, event.scope), set())
    return found


_QUERY_SECONDS = 300
"""Seconds that an operator's query may take."""
_LEAST_SHARE = 2
"""A database with fewer rows than one part in so many of those at the drill before fails the comparison."""


def check_freshness(scene: DrillScene, rpo: int) -> Check:
    """Check that the newest snapshot of the database is no older than the objective; `rpo` is its age in seconds."""
    objective = scene.environment.objectives.rpo
    if objective is None:
        return skipped(CheckName.FRESHNESS, "not-configured")
    findings = Findings(CheckName.FRESHNESS, 1)
    findings.add("older-than-objective", int(rpo > objective))
    return findings.check()


def check_comparison(scene: DrillScene, rows: int) -> Check:
    """Compare with the drill of an older snapshot of the same database: fewer than half of its rows fail the check."""
    if scene.subject.tenant is not None:
        return skipped(CheckName.COMPARISON, "one-tenant")
    before = _before(scene)
    if before is None or before.sizes is None:
        return skipped(CheckName.COMPARISON, "no-earlier-drill")
    findings = Findings(CheckName.COMPARISON, 1)
    findings.add("rows-fell-by-half", int(rows * _LEAST_SHARE < before.sizes.rows))
    findings.note("rows-fell", int(rows < before.sizes.rows <= rows * _LEAST_SHARE))
    return findings.check()


def check_assertions(scene: DrillScene) -> Check:
    """Check that the operator's queries return what they must; the report says only that, not what they returned."""
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
    """Check that what was measured is within the objectives."""
    pairs = {"rpo": (measured.rpo, objectives.rpo), "rto": (measured.rto, objectives.rto)}
    asked = {name: pair for name, pair in pairs.items() if pair[1] is not None}
    if not asked:
        return skipped(CheckName.OBJECTIVES, "not-configured")
    findings = Findings(CheckName.OBJECTIVES, len(asked))
    for name, (found, most) in asked.items():
        findings.add(f"{name}-missed", int(found is None or most is None or found > most))
    return findings.check()


def _before(scene: DrillScene) -> Report | None:
    """Return the newest drill of an older snapshot of the database that came to a verdict."""
    subject, record = scene.subject, scene.subject.record
    for report in reversed(scene.environment.past):
        selection = report.selection
        if selection is None or report.sizes is None or report.verdict == "error" or selection.tenants is not None:
            continue
        # A report does not say which of a label's databases it was of: the snapshot's record does, while it is there.
        same = selection.database == record.database if record.member is None else selection.snapshot in subject.alike
        if same and parse_stamp(selection.exported) <= parse_stamp(record.exported):
            return report
    return None
