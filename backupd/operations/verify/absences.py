"""Judge by the ledger which absences are damage.

Absences are judged after everything was read: a keeper may have been at work meanwhile, and wrote into the ledger
before it removed anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from backupd.model.ids import ClassTag, GenerationId, Pseudonym, SnapshotName
from backupd.planning.ledger_facts import Explained
from backupd.planning.verify import Mismatch


@dataclass(frozen=True, slots=True)
class Absence:
    """A record, pack, section, keyring or key that is needed and not there."""

    finding: Mismatch
    """What it is, if nothing explains it."""
    users: tuple[SnapshotName, ...]
    """The records that need it."""
    segment: Pseudonym | None = None
    """The segment whose it is; None where nobody can know."""
    data_class: ClassTag | None = None
    """For a section, the tag of its segment's class: it may have gone with the age of that."""


@dataclass(frozen=True, slots=True)
class JudgedAbsences:
    """One generation's absences under one state of the ledger."""

    findings: list[Mismatch] = field(default_factory=list)
    """Absences that the ledger does not explain."""
    unfit: set[SnapshotName] = field(default_factory=set)
    """The records that need what is absent and not explained."""
    aged: int = 0
    """Number of sections that went with the age of their class."""


def judge(
    absences: Iterable[Absence],
    exported: Mapping[SnapshotName, datetime],
    generation: GenerationId,
    explained: Explained,
) -> JudgedAbsences:
    """Judge the absences of one generation; `exported` says when its records were."""
    findings: list[Mismatch] = []
    unfit: set[SnapshotName] = set()
    aged = 0
    for absence in absences:
        if absence.segment is not None and explained.is_purged(generation, absence.segment):
            continue
        left, tag = [name for name in absence.users if name not in explained.expired], absence.data_class
        if any(tag is None or not explained.is_aged(generation, tag, exported[name]) for name in left):
            findings.append(absence.finding)
            unfit.update(absence.users)
        elif left:
            aged += 1
    return JudgedAbsences(findings, unfit, aged)
