"""Choose which snapshot is restored, and what of it: read the ledger, fetch the facts, and decide by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.errors import UNSOUND, BackupdError, DamageError, KeyRefusedError, ObjectMissingError, RefusedError
from backupd.model.documents import Record
from backupd.model.ids import SHORT_NAME, GenerationId, Pseudonym, SnapshotName
from backupd.operations.ledger.history import LedgerHistory, read_ledger
from backupd.operations.restore.opened_choice import OpenedChoice
from backupd.planning.ledger_facts import Explained
from backupd.planning.selection import (
    STRUCTURE,
    Choice,
    SegmentFacts,
    SelectionFacts,
    SnapshotRequest,
    candidates,
    decide,
    fits,
    meant_snapshot,
    same_second,
    unpurged,
)
from backupd.repository import layout
from backupd.repository.keys import SecretKeys
from backupd.repository.packs import Section, SnapshotSections
from backupd.repository.repository import Repository
from backupd.trace import Trace, Warned

if TYPE_CHECKING:
    from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest


def read_history(repository: Repository, environment: RestoreEnvironment) -> LedgerHistory:
    """Read the store's ledger.

    Where this machine's own copy goes on behind its end, the copy is followed, with a warning. Raises DamageError
    when it cannot be believed, or is behind what the caller knows of it.
    """
    seen = read_ledger(repository, environment.own_ledger, at_least=environment.at_least)
    if seen.findings:
        raise DamageError(
            f"the ledger cannot be followed: {seen.findings[0].sentence}",
            hint="What was purged might come back. If an entry's signer is a keeper of yours, add its public key to "
            "trust.keepers in the configuration, past ones too. Otherwise restore from another store, or put the "
            "entries right: every store and every keeper's state folder has the same (`backupd manual incidents`).",
        )
    for one in seen.lacking:
        hint = "The copy was followed, so nothing that was purged comes back. The store was away when the entry was "
        environment.trace.emit(Warned(one.sentence, hint + "written, or was put back to an older state."))
    for one in seen.left_out:
        hint = "It was left out, and a keeper removes it. If a keeper of yours signed it, what was purged since might "
        hint += "come back: add its public key to trust.keepers first (`backupd manual incidents`)."
        environment.trace.emit(Warned(one.sentence, hint))
    return LedgerHistory(repository, seen, environment.store)


@contextmanager
def naming(snapshot: SnapshotName) -> Iterator[None]:
    """Have damage that is found within the block name the snapshot it was found in, and say what else there is."""
    try:
        yield
    except DamageError as error:
        raise DamageError(
            f"in snapshot {snapshot[:SHORT_NAME]}: {error.message}",
            hint=f"{error.hint} Another store may have it whole (--store NAME), an older --snapshot not need it, and "
            "`backupd verify` names all that is damaged.".lstrip(),
        ) from error


def choose(
    request: RestoreRequest, repository: Repository, environment: RestoreEnvironment, history: LedgerHistory
) -> OpenedChoice:
    """Return the snapshot the request means, the keys of its generation, and what of it is restored.

    A keeper may be at work: as often as something is missing and the ledger has come to explain more, it is obeyed as
    it is then. Raises what `decide` raises, KeyRefusedError, and DamageError also when the ledger is older than the
    snapshot.
    """
    while True:
        before = history.explained
        try:
            return _choose(request, repository, environment, history)
        except (DamageError, ObjectMissingError):
            if not history.explains_more(before):
                raise


def _choose(
    request: RestoreRequest, repository: Repository, environment: RestoreEnvironment, history: LedgerHistory
) -> OpenedChoice:
    wanted = SnapshotRequest(request.label, request.snapshot, request.member, request.selection)
    generations = GenerationKeys(repository, environment.identity)
    records = _records(wanted, repository, generations, history, environment.trace)
    name = meant_snapshot(wanted, records)
    record = records[name]
    if name in history.explained.expired:
        environment.trace.emit(Warned("this snapshot has expired", hint="Some of its objects may be missing already."))
    with naming(name):
        keys, sections = generations.keys(record.generation), read_sections(repository, record)
        facts = _segments(record, sections, keys, history.explained)
    choice = decide(wanted, SelectionFacts(records, history.explained, facts))
    return OpenedChoice(
        choice.snapshot,
        choice.record,
        choice.segments,
        choice.purged,
        choice.aged,
        choice.unselected,
        choice.partial,
        keys=keys,
        sections=sections,
        names={segment: one.name for segment, one in facts.items() if one.name is not None},
        undefined=_undefined(choice, facts, keys, sections, history.explained),
    )


def _undefined(
    choice: Choice,
    facts: Mapping[Pseudonym, SegmentFacts],
    keys: SecretKeys,
    sections: SnapshotSections,
    explained: Explained,
) -> frozenset[Pseudonym]:
    """Return the segments to be restored of tenants whose segment of the class `structure` was purged."""
    structure = {one.data_class for one in facts.values() if one.name is not None and one.name.data_class == STRUCTURE}
    tags_of = {segment: keys.tags_of(section.row) for segment, section in sections.manifests.items()}
    gone = (tags_of[segment] for segment in explained.purged_in(choice.record.generation) if segment in facts)
    tenants = {tags.tenant for tags in gone if tags is not None and tags.data_class in structure}
    tagged = ((segment, tags_of[segment]) for segment in choice.segments if tenants)
    return frozenset(segment for segment, tags in tagged if tags is not None and tags.tenant in tenants)


def read_sections(repository: Repository, record: Record) -> SnapshotSections:
    """Return the sections of a record. Raises DamageError, also when a pack is missing, and RefusedError."""
    try:
        return repository.sections(record)
    except ObjectMissingError as error:
        raise DamageError(
            f"{error.message}, and a record names it",
            hint="Nothing but the record's expiry explains that: fetch the pack from another store.",
        ) from error


def real_name(repository: Repository, record: Record, keys: SecretKeys, explained: Explained) -> str | None:
    """Return the real name of a record's database, from its first segment; None where a purge lists all segments.

    Raises DamageError, KeyRefusedError.
    """
    sections = read_sections(repository, record)
    for segment in unpurged(record, sections.manifests, explained)[:1]:
        row = sections.manifests[segment].row
        keys.require_unshredded(row)
        return keys.of(row).name.database
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
    wanted: SnapshotRequest,
    repository: Repository,
    generations: GenerationKeys,
    history: LedgerHistory,
    trace: Trace,
) -> dict[SnapshotName, Record]:
    """Return the records that fit, newest first; no more of them are read than can be meant.

    One that cannot be believed is left out with a warning where another one fits.

    Raises UsageError, DamageError, RefusedError, and KeyRefusedError where a member is asked for.
    """
    names, one = candidates(repository.snapshots(), wanted.snapshot)
    found: dict[SnapshotName, Record] = {}
    unsound: dict[SnapshotName, BackupdError] = {}
    names_of: dict[tuple[GenerationId, str | None], str | None] = {}
    for name in names:
        if found and not one and not same_second(name, next(iter(found))):
            break
        try:
            record = repository.record(name)
        except UNSOUND as error:
            unsound[name] = error
            continue
        if record.database != wanted.label:
            continue
        history.chain.require(record.ledger, layout.record_name(record.generation, name))
        called = None
        if wanted.member is not None:
            member = record.generation, record.member  # it stands for one database in all of the generation
            called = names_of.get(member) if record.member is not None else None
            called = called or real_name(repository, record, generations.keys(record.generation), history.explained)
            names_of[member] = called
        if fits(wanted, record, called):
            found[name] = record
    if unsound and not found:
        raise next(iter(unsound.values()))
    hint = "It was left out: a true one that was damaged may be newer than what is restored. See `backupd verify`."
    for left_out in unsound.values():
        trace.emit(Warned(left_out.message, hint))
    return found


def _segments(
    record: Record, sections: SnapshotSections, keys: SecretKeys, explained: Explained
) -> dict[Pseudonym, SegmentFacts]:
    """Return the facts about every segment, by pseudonym: the order in which each pack has its sections."""
    gone = explained.purged_in(record.generation)
    by_segment: dict[Pseudonym, list[Section]] = {segment: [] for segment in sorted(sections.manifests)}
    for (segment, _), section in sections.sections.items():
        if segment not in gone:
            by_segment[segment].append(section)
    return {
        segment: _segment(keys, sections.manifests[segment], found) if segment not in gone else SegmentFacts()
        for segment, found in by_segment.items()
    }


def _segment(keys: SecretKeys, manifest: Section, sections: Iterable[Section]) -> SegmentFacts:
    data_class = keys.class_of(manifest.row)
    name, missing = None, None
    try:
        for section in sections:
            if section.is_there:
                keys.require_unshredded(section.row)
            else:
                missing = missing or _missing(section)
    except DamageError as error:
        return SegmentFacts(None, data_class, missing, error)
    try:
        name = keys.of(manifest.row).name
    except (KeyRefusedError, RefusedError, DamageError):
        if missing is None:
            return SegmentFacts(None, data_class)
    return SegmentFacts(name, data_class, missing)


def _missing(section: Section) -> DamageError:
    return DamageError(
        f"'{section.where}' of segment {section.row.segment} is missing",
        hint="If the segment was purged, the ledger says so; otherwise fetch the pack from another store.",
    )
