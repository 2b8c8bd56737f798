"""Choose which snapshot is restored, and what of it: read the ledger, fetch the facts, and decide by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backupd.errors import DamageError
from backupd.model.documents import PartRef, Record
from backupd.model.ids import GenerationId, Pseudonym, SnapshotName
from backupd.operations.ledger.history import LedgerHistory, read_ledger
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import Explained
from backupd.planning.selection import (
    Choice,
    SegmentFacts,
    SelectionFacts,
    SnapshotRequest,
    candidates,
    decide,
    doubtful_parts,
    fits,
    meant_snapshot,
    same_second,
    unpurged_parts,
)
from backupd.planning.verify import ContainerKey, Stored
from backupd.repository import layout
from backupd.repository.container_check import ContainerChecker
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository
from backupd.trace import Warned

if TYPE_CHECKING:
    from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest

_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedChoice(Choice):
    """A choice, with the keys of its snapshot's generation."""

    keys: SecretKeys


def read_history(repository: Repository, environment: RestoreEnvironment) -> LedgerHistory:
    """Read the store's ledger.

    Raises DamageError when it cannot be believed, or is behind this machine's own copy.
    """
    seen = read_ledger(repository, environment.own_ledger)
    if seen.findings:
        raise DamageError(
            f"the ledger cannot be followed: {seen.findings[0].sentence}",
            hint="What was purged might come back. If an entry's signer is a keeper of yours, add its public key to "
            "trust.keepers in the configuration, past ones too. Otherwise restore from another store, or put the "
            "entries right: every store and every keeper's state folder has the same (`backupd manual incidents`).",
        )
    return LedgerHistory(repository, seen, environment.store)


def choose(
    request: RestoreRequest, repository: Repository, environment: RestoreEnvironment, history: LedgerHistory
) -> OpenedChoice:
    """Return the snapshot the request means, the keys of its generation, and what of it is restored.

    Raises what `decide` raises, KeyRefusedError, and DamageError also when the ledger is older than the snapshot.
    """
    wanted = SnapshotRequest(request.label, request.snapshot, request.member, request.selection)
    generations = GenerationKeys(repository, environment.identity)
    records = _records(wanted, repository, generations, history)
    name = meant_snapshot(wanted, records)
    if name in history.explained.expired:
        environment.trace.emit(Warned("this snapshot has expired", hint="Some of its objects may be missing already."))
    keys = generations.keys(records[name].generation)
    facts = SelectionFacts(records, history.explained, _segments(records[name], keys))
    gone = _gone(doubtful_parts(wanted, facts), repository, records[name].generation)
    choice = decide(wanted, replace(facts, gone=frozenset(gone)))
    return OpenedChoice(
        choice.snapshot, choice.record, choice.purged, choice.aged, choice.unselected, choice.partial, keys=keys
    )


def real_name(record: Record, keys: SecretKeys, explained: Explained) -> str | None:
    """Return the real name of a record's database, from its first segment; None where a purge lists all segments.

    Raises DamageError, KeyRefusedError.
    """
    for segment, _, _ in unpurged_parts(record, explained)[:1]:
        keys.require_unshredded(segment)
        return keys[segment].name.database
    return None


class GenerationKeys:
    """The keys of generations, each opened when it is first asked for."""

    def __init__(self, repository: Repository, identity: bytes) -> None:
        self._repository = repository
        self._identity = identity
        self._opened: dict[GenerationId, SecretKeys] = {}

    def keys(self, generation: GenerationId) -> SecretKeys:
        """Return the keys of one generation. Raises KeyRefusedError, DamageError."""
        if generation not in self._opened:
            self._opened[generation] = self._repository.open_keys(self._identity, [generation])
        return self._opened[generation]


def _records(
    wanted: SnapshotRequest, repository: Repository, generations: GenerationKeys, history: LedgerHistory
) -> dict[SnapshotName, Record]:
    """Return the records that fit, newest first; no more of them are read than can be meant.

    Raises UsageError, DamageError, RefusedError, and KeyRefusedError where a member is asked for.
    """
    names, one = candidates(repository.snapshots(), wanted.snapshot)
    found: dict[SnapshotName, Record] = {}
    for name in names:
        if found and not one and not same_second(name, next(iter(found))):
            break
        record = repository.record(name)
        if record.database != wanted.label:
            continue
        history.chain.require(record.ledger, layout.record_name(record.generation, name))
        member = wanted.member is not None
        called = real_name(record, generations.keys(record.generation), history.explained) if member else None
        if fits(wanted, record, called):
            found[name] = record
    return found


def _segments(record: Record, keys: SecretKeys) -> dict[Pseudonym, SegmentFacts]:
    return {segment: _segment(keys, segment) for segment, _, _ in record.parts}


def _segment(keys: SecretKeys, segment: Pseudonym) -> SegmentFacts:
    try:
        keys.require_unshredded(segment)
    except DamageError as error:
        return SegmentFacts(None, keys.class_of(segment), error)
    return SegmentFacts(keys[segment].name if segment in keys else None, keys.class_of(segment))


def _gone(parts: Iterable[PartRef], repository: Repository, generation: GenerationId) -> Iterator[PartRef]:
    """Yield the parts that are not on the store, or lack a container they name."""
    containers = ContainerChecker(repository.store, repository.info().repository, generation)

    def is_gone(part: PartRef) -> bool:
        segment, sha256, size = part
        there = repository.contents(generation, segment)
        if sha256 not in there:
            return True
        header, _ = containers.header(ContainerKey(segment, sha256), Stored(there[sha256].name, "part", size))
        return any(pack not in there for pack, _ in header.packs)

    for part, result in in_parallel(is_gone, parts, _THREADS):
        if result.result():
            yield part
