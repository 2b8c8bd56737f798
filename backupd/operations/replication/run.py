"""Replicate: copy to a store of the region the snapshots it lacks of another one's, byte for byte and without a key.

1. Check that both hold the region's one repository and the same ledger.
2. Copy attestations and reports.
3. Copy one generation after the other, oldest first: keyrings, packs, and last the records.

Nothing is overwritten, and nothing is removed but what a purge took meanwhile, so the next run continues one that was
interrupted: what is there already is not copied again.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from backupd.errors import ObjectMissingError, RefusedError, SpoolFullError
from backupd.model.ids import GenerationId, SnapshotName
from backupd.model.ledger import Replicated
from backupd.operations.phases import Phases
from backupd.operations.replication.generation import GenerationCopy
from backupd.operations.replication.objects import Copier, Replication
from backupd.planning.ledger_facts import explain_absences

if TYPE_CHECKING:
    from backupd.operations.replication.objects import Copying


def replicate(copying: Copying) -> Replication:
    """Bring the target up to date from the origin; returns what was copied, and what is wrong at the origin.

    Memory holds one generation's lists, and a piece of each object under way. Raises RefusedError when the target has
    no repository or another one, DamageError for a target that is not what it should be, the stores' errors.
    """
    keeper = copying.keeper
    _check(copying)
    if not copying.dry_run:
        keeper.book.require_dates()
    with Phases(keeper.clock, keeper.trace, copying.target).phase("replicating"):
        done = Replication(copying.origin, copying.target)
        copier = Copier(copying, done)
        copier.documents()
        there = _records(copying, copying.target)
        for generation, names in sorted(_records(copying, copying.origin).items()):
            wanted = _wanted(copying, names, there.get(generation, set()), done)
            if wanted:
                _generation(copying, generation, (wanted, there.get(generation, set())), copier, done)
    return done


def _generation(
    copying: Copying,
    generation: GenerationId,
    names: tuple[list[SnapshotName], set[SnapshotName]],
    copier: Copier,
    done: Replication,
) -> None:
    before, objects, size = len(done.snapshots), done.objects, done.bytes
    with GenerationCopy(copying, generation, copier, done) as copy:
        copy.run(*names)
    made = done.snapshots[before:]
    if made and not copying.dry_run:
        event = Replicated(
            store=copying.target,
            origin=copying.origin,
            snapshots=made,
            objects=done.objects - objects,
            bytes=done.bytes - size,
        )
        copying.keeper.book.append(lambda _: [event])


def _check(copying: Copying) -> None:
    if copying.origin == copying.target:
        raise RefusedError("a store cannot be copied onto itself", hint="Name two stores of the region.")
    for name in (copying.origin, copying.target):
        try:
            info = copying.keeper.stores[name].info()
        except ObjectMissingError as error:
            raise RefusedError(
                f"store '{name}' has no repository",
                hint=f"`backupd init {copying.keeper.region}` makes the region's there, too.",
            ) from error
        if info.repository != copying.keeper.repository:
            raise RefusedError(f"store '{name}' holds another repository", hint="Give it a path of its own.")
        copying.keeper.book.give(name)
    try:
        copying.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolFullError(
            f"the spool folder cannot be used ({error.strerror})", hint="Check node.spool_dir, its owner and its disk."
        ) from error


def _records(copying: Copying, store: str) -> dict[GenerationId, set[SnapshotName]]:
    found: dict[GenerationId, set[SnapshotName]] = defaultdict(set)
    for generation, name in copying.keeper.stores[store].records():
        found[generation].add(name)
    return found


def _wanted(
    copying: Copying, names: set[SnapshotName], there: set[SnapshotName], done: Replication
) -> list[SnapshotName]:
    """Return the snapshots that the target lacks and that expired on neither store, oldest first."""
    entries = list(copying.keeper.book.chain.entries())
    expired = explain_absences(entries, copying.origin).expired | explain_absences(entries, copying.target).expired
    done.already += len(names & there)
    done.left_out += len((names - there) & expired)
    return sorted(names - there - expired)
