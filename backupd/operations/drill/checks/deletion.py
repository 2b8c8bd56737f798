"""Checks 12 to 14: the canary, purged tenants, and the identity that is kept for a disaster."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, KeyRefusedError, RefusedError
from backupd.model.ids import ObjectName
from backupd.model.stored.ledger import PurgeBegan, Shredded
from backupd.model.stored.report import Canary, CheckName, Deletion
from backupd.operations.drill.scene import Findings, skipped
from backupd.operations.restore.choosing import choose
from backupd.operations.restore.contents import Contents
from backupd.operations.restore.values import RestoreRequest
from backupd.operations.restore.values import World as RestoreWorld
from backupd.operations.verify.ledger import History, LedgerSeen
from backupd.seal.keys.opening import parse_keyring, without_lines

if TYPE_CHECKING:
    from backupd.model.ids import Pseudonym
    from backupd.model.stored.documents import PartRef
    from backupd.model.stored.report import Check
    from backupd.operations.drill.scene import Scene


def _purged_too(scene: Scene, segments: frozenset[Pseudonym]) -> History:
    """A history that says one tenant's segments were purged, beside what it says already."""
    subject = scene.subject
    history = History(subject.repository, LedgerSeen(subject.history.chain, ()), scene.world.store)
    places = {(subject.record.generation, segment) for segment in segments}
    history.explained = replace(history.explained, purged=history.explained.purged | places)
    return history


def check_canary(scene: Scene, restore: tuple[RestoreRequest, RestoreWorld]) -> tuple[Check, Canary | None]:
    """The positive control of check 13: that a tenant can come back, that a purge keeps it away, that a shredded key
    is missed.

    A tenant of the snapshot is taken for one that was purged, in memory only. It was restored with the others; under a
    ledger that lists it the same restore plans not one row of it, and a keyring without its lines does not open them.
    """
    subject = scene.subject
    ours = _smallest_tenant(scene)
    if not ours:
        return skipped(CheckName.CANARY, "no-tenants"), None
    findings = Findings(CheckName.CANARY, len(ours))
    tenants = {subject.choice.keys[segment].name.tenant for segment in ours}
    before = bool(ours & _filled(scene)) and all(segment in subject.choice.keys for segment in ours)
    findings.add("canary-not-restored", int(not before))
    after = _is_left_out(scene, restore, ours, tenants)
    findings.add("canary-came-back", int(not after))
    findings.add("canary-key-opens-when-shredded", _still_open(scene, ours))
    return findings.check(), Canary(resurrected=before, removed=after)


def _is_left_out(
    scene: Scene, restore: tuple[RestoreRequest, RestoreWorld], ours: frozenset[Pseudonym], tenants: set[str | None]
) -> bool:
    """Whether a restore under a ledger that lists these segments plans no row of theirs, and fewer in all."""
    request, world = restore
    subject = scene.subject
    try:
        left = choose(request, subject.repository, world, _purged_too(scene, ours))
        with Contents(subject.repository, left.record, left.keys, 1) as contents:
            plan = contents.plan(exact=False)
    except RefusedError:
        return True  # nothing of the snapshot is anybody else's
    still = [part for part, _, _ in left.record.parts if left.keys[part].name.tenant in tenants]
    return not still and plan.rows < scene.restored.plan.rows


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
    findings.add("tenants-of-no-segment", scene.restored.strangers or 0)
    # Without the rows compared nobody knows who has some.
    findings.add("rows-not-compared", int(scene.restored.strangers is None))
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


def _smallest_tenant(scene: Scene) -> frozenset[Pseudonym]:
    """The segments of the tenant with rows whose parts are the smallest, so that looking again costs little."""
    choice, filled = scene.subject.choice, _filled(scene)
    by_tenant: dict[str, list[PartRef]] = {}
    for part in choice.record.parts:
        tenant = choice.keys[part[0]].name.tenant
        if tenant is not None:
            by_tenant.setdefault(tenant, []).append(part)
    with_rows = [parts for parts in by_tenant.values() if any(segment in filled for segment, _, _ in parts)]
    if not with_rows:
        return frozenset()
    smallest = min(with_rows, key=lambda parts: (sum(size for _, _, size in parts), parts[0]))
    return frozenset(segment for segment, _, _ in smallest)


def _filled(scene: Scene) -> set[Pseudonym]:
    """Segments of which the restore had rows to load."""
    parts = scene.subject.choice.record.parts
    pieces = (piece for bundles in scene.restored.plan.passes for bundle in bundles for piece in bundle)
    return {parts[piece.part][0] for piece in pieces}


def _still_open(scene: Scene, segments: frozenset[Pseudonym]) -> int:
    """How many of the segments open from keyrings without their lines, as a shred leaves them; none must."""
    repository = scene.subject.repository
    still = 0
    for keyring in repository.keyrings(scene.subject.record.generation):
        if any(segment in segments for segment, _ in keyring.index):
            whole = repository.read(ObjectName(keyring.where), "keyring")
            cut = parse_keyring(without_lines(whole, segments, keyring.where), repository.signers, keyring.where)
            try:
                still += len(segments & cut.open(scene.world.identity).segments.keys())
            except (KeyRefusedError, RefusedError):
                continue
    return still
