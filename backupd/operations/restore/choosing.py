"""Which snapshot is restored, and what of it: the ledger is read first, and obeyed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from backupd.catalog import layout
from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.instants import parse_stamp
from backupd.model.stored.documents import REDUCED
from backupd.operations.verify.ledger import History, look_at_ledger
from backupd.operations.verify.reading import Containers
from backupd.parallel import in_parallel
from backupd.planning.restoring.choosing import candidates, same_second
from backupd.planning.verify import Key, Stored
from backupd.trace import Warned

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.catalog.keys import SecretKeys
    from backupd.catalog.repository import Repository
    from backupd.model.ids import SnapshotName
    from backupd.model.stored.documents import PartRef, Record
    from backupd.operations.restore.values import RestoreRequest, World
    from backupd.planning.deletion.explained import Explained
    from backupd.planning.restoring.selection import Selection

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """A snapshot, less what the ledger says of it."""

    snapshot: SnapshotName
    record: Record
    """With the parts to be restored only."""
    keys: SecretKeys
    purged: int = 0
    aged: int = 0
    unselected: int = 0
    partial: bool = False
    """Whether only a selection is restored."""

    @property
    def exact(self) -> bool:
        """Whether the record's totals are those of its parts."""
        return not (self.purged or self.aged or self.partial or REDUCED in self.record.extra)


def read_history(repository: Repository, world: World) -> History:
    """The store's ledger.

    Raises DamageError when it cannot be believed, or is behind this machine's own copy.
    """
    seen = look_at_ledger(repository, world.own_ledger)
    if seen.findings:
        raise DamageError(
            f"the ledger cannot be followed: {seen.findings[0].sentence}",
            hint="What was purged might come back. Restore from another store, or put the entries right: every store "
            "and every keeper's state folder has the same.",
        )
    return History(repository, seen, world.store)


def choose(request: RestoreRequest, repository: Repository, world: World, history: History) -> Choice:
    """The snapshot the request means, the keys of its generation, and what of it is restored.

    Raises UsageError when there is none, or when it means more than one, KeyRefusedError, DamageError when the ledger
    is older than the snapshot or something is missing that it does not explain, and RefusedError when nothing is left.
    """
    names, one = candidates(repository.snapshots(), request.snapshot)
    found: list[Choice] = []
    for name in names:
        # A name tells the second only: of several that fit, those of the newest second are told apart by their records.
        if found and not one and not same_second(name, found[0].snapshot):
            break
        record = repository.record(name)
        if record.database != request.label:
            continue
        history.chain.require(record.ledger, layout.record_name(record.generation, name))
        choice = _unpurged(Choice(name, record, repository.open_keys(world.identity, [record.generation])), history)
        if _means(choice, request, one=one):
            found.append(choice)
    if not one:
        found = sorted(found, key=lambda choice: choice.record.exported)[-1:]
    if not found:
        raise UsageError(
            f"no snapshot of '{request.label}' fits what is asked for", hint="`backupd snapshots` lists what there is."
        )
    if len(found) > 1:
        raise UsageError("several snapshots begin like that", hint="Give more of the snapshot's name.")
    if found[0].snapshot in history.explained.expired:
        world.trace.emit(Warned("this snapshot has expired", hint="Some of its objects may be missing already."))
    return _whole(_selected(found[0], request.selection), repository, history.explained)


def _selected(choice: Choice, selection: Selection) -> Choice:
    """Only the segments that are wanted; those whose key is gone are judged later."""
    if selection.everything:
        return choice
    record, keys = choice.record, choice.keys
    names = {part[0]: keys[part[0]].name for part in record.parts if part[0] in keys}
    selection.require_found(set(names.values()))
    kept = [part for part in record.parts if part[0] not in names or selection.takes_segment(names[part[0]])]
    return replace(choice, record=_with(record, kept), unselected=len(record.parts) - len(kept), partial=True)


def _unpurged(choice: Choice, history: History) -> Choice:
    """Without the segments that a purge lists, whether or not their keys and bytes are still there."""
    record = choice.record
    gone = history.explained.purged_in(record.generation)
    kept = [part for part in record.parts if part[0] not in gone]
    return Choice(choice.snapshot, _with(record, kept), choice.keys, purged=len(record.parts) - len(kept))


def _means(choice: Choice, request: RestoreRequest, *, one: bool) -> bool:
    record, keys = choice.record, choice.keys
    if request.member is not None:
        for segment, _, _ in record.parts[:1]:
            keys.require_unshredded(segment)
            return keys[segment].name.database == request.member
        return False
    if record.member is not None and not one:
        raise UsageError(
            f"'{request.label}' stands for several databases", hint="Say which, or give the name of a snapshot."
        )
    return True


def _whole(choice: Choice, repository: Repository, explained: Explained) -> Choice:
    """Without parts that went with the age of their class; with a key for every other."""
    record = choice.record
    for segment, _, _ in record.parts:
        choice.keys.require_unshredded(segment)
    exported = parse_stamp(record.exported)
    old = [
        part for part in record.parts if explained.is_aged(record.generation, choice.keys.class_of(part[0]), exported)
    ]
    gone = set(_gone(old, repository, record))
    kept = [part for part in record.parts if part not in gone]
    if choice.purged and not kept:
        raise RefusedError(
            f"everything in snapshot '{choice.snapshot}' was purged", hint="There is nothing left to restore."
        )
    return replace(choice, record=_with(record, kept), aged=len(gone))


def _gone(parts: Iterable[PartRef], repository: Repository, record: Record) -> Iterable[PartRef]:
    """Those of the parts that are not on the store, or lack a container they name."""
    containers = Containers(repository.store, repository.info().repository, record.generation)

    def is_gone(part: PartRef) -> bool:
        segment, sha256, size = part
        there = repository.contents(record.generation, segment)
        if sha256 not in there:
            return True
        header, _ = containers.header(Key(segment, sha256), Stored(there[sha256].name, "part", size))
        return any(pack not in there for pack, _ in header.packs)

    for part, result in in_parallel(is_gone, parts, _THREADS):
        if result.result():
            yield part


def _with(record: Record, parts: list[PartRef]) -> Record:
    return msgspec.structs.replace(record, parts=parts)
