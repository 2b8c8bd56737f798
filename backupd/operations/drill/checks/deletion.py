"""Checks 13 and 14: purged tenants, and the identity that is kept for a disaster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.errors import BackupdError, KeyRefusedError
from backupd.model.stored.ledger import PurgeBegan, Shredded
from backupd.model.stored.report import CheckName, Deletion
from backupd.operations.drill.scene import Findings, skipped

if TYPE_CHECKING:
    from backupd.model.ids import Pseudonym
    from backupd.model.stored.report import Check
    from backupd.operations.drill.scene import Scene


def check_purged(scene: Scene) -> tuple[Check, Deletion]:
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


def check_escrow(scene: Scene) -> Check:
    """The identity kept for a disaster opens every key that the drill's opens, and they are the same."""
    escrow, subject = scene.world.escrow, scene.subject
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


def _opens(scene: Scene, segment: Pseudonym) -> bool:
    """Try to open what the segment's key sealed: the key itself first, without which there is no second step."""
    try:
        return bool(scene.subject.choice.keys[segment].secret)
    except BackupdError:
        return False


def _shredded(scene: Scene) -> set[Pseudonym]:
    """Segments whose keys the ledger says are gone from this store."""
    lives: dict[tuple[str, int, str], set[Pseudonym]] = {}
    found: set[Pseudonym] = set()
    for entry in scene.subject.history.chain.entries():
        for event in entry.events:
            if isinstance(event, PurgeBegan):
                listed = {segment for _, segment in event.segments}
                lives.setdefault((event.tenant, event.incarnation, event.scope), set()).update(listed)
            elif isinstance(event, Shredded) and event.store == scene.world.store:
                found |= lives.get((event.tenant, event.incarnation, event.scope), set())
    return found
