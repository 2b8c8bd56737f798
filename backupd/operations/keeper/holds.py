"""Holds: what they pin of snapshots that expire, and the listing of a store that expiry works on.

When a snapshot with segments of a held tenant expires, a reduced record takes its place: the held tenant's sections,
and those of the structure that restoring them needs. All others go.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern
from typing import TYPE_CHECKING, Final

import msgspec

from backupd.errors import BackupdError, DamageError, ObjectMissingError, RefusedError, StoreError
from backupd.model.documents import REDUCED, PackRef, Record
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RunId, SnapshotName, TenantId
from backupd.model.ledger import Reduced
from backupd.model.ranges import from_ranges, to_ranges
from backupd.model.text import parse_stamp, stamp
from backupd.operations.keeper.types import Keeper
from backupd.parallel import in_parallel
from backupd.planning.expiry import Item
from backupd.planning.retention import Decision
from backupd.repository import layout
from backupd.repository.repository import Repository, signed_record
from backupd.seal.tags import NOBODY

if TYPE_CHECKING:
    from backupd.repository.state.keyring_cache import KeyringCache
    from backupd.repository.state.pack_cache import PackCache
    from backupd.store.base import ObjectInfo

_MOST_NUMBERS: Final = 50_000_000
"""Numbers of all records' ranges together, 8 bytes each: at most two for each section that a snapshot names."""
STRUCTURE: Final = "structure"
"""The data class of schemas, roles and facts (FORMAT.md §7)."""


class NamedSections:
    """The segments and sections that records name, by the headers of their packs, each decoded once."""

    def __init__(self, packs: PackCache) -> None:
        self._packs = packs
        self._rows: dict[tuple[GenerationId, ObjectHash], tuple[list[Pseudonym], array[int]]] = {}

    def segments(self, record: Record) -> frozenset[Pseudonym]:
        """Return the segments that a record names sections of. Raises DamageError."""
        return frozenset(
            segment
            for sha256, manifests, others in record.packs
            for ranges in (manifests, others)
            for segment in self._named(record, sha256, ranges)
        )

    def only(self, record: Record, kept: frozenset[Pseudonym]) -> tuple[list[PackRef], int]:
        """Return what is left of a record's packs with the sections of some segments only, and their bytes."""
        packs, size = list[PackRef](), 0
        for sha256, *both in record.packs:
            segments, lengths = self._of(record, sha256)
            left = [
                [place for place in from_ranges(ranges, len(segments)) if segments[place] in kept] for ranges in both
            ]
            if any(left):
                packs.append((sha256, to_ranges(left[0]), to_ranges(left[1])))
            size += sum(lengths[place] for places in left for place in places)
        return packs, size

    def _named(self, record: Record, sha256: ObjectHash, ranges: Sequence[int]) -> list[Pseudonym]:
        segments, _ = self._of(record, sha256)
        try:
            return [segments[place] for place in from_ranges(ranges, len(segments))]
        except ValueError as error:
            raise DamageError(
                f"a record names sections that '{layout.pack_name(record.generation, sha256)}' does not list"
            ) from error

    def _of(self, record: Record, sha256: ObjectHash) -> tuple[list[Pseudonym], array[int]]:
        key = record.generation, sha256
        if key not in self._rows:
            header = self._packs.header(*key)
            if header is None:
                raise DamageError(f"'{layout.pack_name(*key)}' is missing, and a record names it")
            self._rows[key] = (
                [Pseudonym(intern(row.segment)) for row in header.rows],
                array("Q", (row.length for row in header.rows)),
            )
        return self._rows[key]


@dataclass(frozen=True, slots=True)
class HoldPins:
    """The segments that the holds in force pin on one store."""

    segments: Mapping[GenerationId, Mapping[Pseudonym, datetime]]
    """Held tenants' segments, with the newest instant at which a hold began: snapshots exported before it are kept."""
    structure: Mapping[GenerationId, frozenset[Pseudonym]]
    named: NamedSections

    def pinned(self, generation: GenerationId) -> frozenset[Pseudonym]:
        return frozenset(self.segments.get(generation, {}))

    def keeps(self, record: Record) -> frozenset[Pseudonym]:
        """Return the segments of a snapshot that must stay; none when no hold concerns it.

        Raises DamageError when a hold may concern it, and a pack that it names is missing or does not list it.
        """
        exported = parse_stamp(record.exported)
        held = self.segments.get(record.generation, {})
        if not any(exported <= since for since in held.values()):
            return frozenset()
        segments = self.named.segments(record)
        kept = {segment for segment in segments if segment in held and exported <= held[segment]}
        return frozenset(kept | (segments & self.structure.get(record.generation, frozenset()) if kept else kept))

    def overrule(self, decision: Decision, records: Mapping[SnapshotName, Record]) -> Decision:
        """Keep a reduced record as long as holds concern all of it; otherwise it may be reduced again.

        A record stays, too, when it is not known which holds concern it.
        """
        record = records[decision.snapshot.name]
        if decision.keep:
            return decision
        try:
            kept = self.keeps(record)
            if REDUCED not in record.extra or not kept or kept != self.named.segments(record):
                return decision
        except DamageError:
            pass
        return Decision(decision.snapshot, keep=True, reasons=("held",))


def find_pins(keeper: Keeper, cache: KeyringCache) -> HoldPins:
    """Find the segments of held tenants in every generation."""
    states = keeper.book.states
    began: dict[TenantId, datetime] = {}
    for hold in states.holds.values():
        if hold.released is None:
            began[hold.tenant] = max(hold.since, began.get(hold.tenant, hold.since))
    gone = {ref for one in states.incarnations.values() if one.purge for ref in one.purge.segments}
    segments: dict[GenerationId, dict[Pseudonym, datetime]] = {}
    structure: dict[GenerationId, frozenset[Pseudonym]] = {}
    for generation in cache.generations() if began else ():
        of_generation = segments.setdefault(generation, {})
        for tenant, since in began.items():
            newest = max((one.key.incarnation for one in states.of(tenant)), default=1)
            for incarnation in range(1, newest + 1):
                tag = keeper.tags.tenant_tag(generation, tenant, incarnation)
                of_generation.update(
                    (one.pseudonym, since)
                    for one in cache.of_tenant(generation, tag)
                    if (generation, one.pseudonym) not in gone
                )
        wanted = keeper.tags.class_tag(generation, STRUCTURE)
        nobody = cache.of_tenant(generation, keeper.tags.tenant_tag(generation, NOBODY, 0))
        structure[generation] = frozenset(one.pseudonym for one in nobody if one.data_class == wanted)
    return HoldPins(segments, structure, NamedSections(cache.packs))


def find_reductions(
    held: HoldPins,
    records: Mapping[SnapshotName, Record],
    leaving: Collection[SnapshotName],
    damaged: Collection[GenerationId],
) -> dict[SnapshotName, frozenset[Pseudonym]]:
    """Return which segments of expiring snapshots must stay, unless an interrupted run has reduced them already."""
    there = {
        (record.extra[REDUCED], held.named.segments(record))
        for name, record in records.items()
        if REDUCED in record.extra and name not in leaving and record.generation not in damaged
    }
    found = {name: held.keeps(records[name]) for name in leaving if name in records}
    return {
        name: kept
        for name, kept in found.items()
        if kept and (records[name].extra.get(REDUCED, name), kept) not in there
    }


def publish_reduced(
    keeper: Keeper, store: str, name: SnapshotName, kept: frozenset[Pseudonym], named: NamedSections
) -> SnapshotName:
    """Publish a record of what a hold keeps of an expiring snapshot, signed by the keeper; returns its name."""
    repository = keeper.stores[store]
    record = repository.record(name)
    packs, size = named.only(record, kept)
    totals = msgspec.structs.replace(record.totals, stored=size, added=0)
    smaller = msgspec.structs.replace(
        record,
        packs=packs,
        totals=totals,
        published=stamp(keeper.clock.now()),
        previous=None,
        ledger=keeper.book.chain.head,
        extra={**record.extra, REDUCED: record.extra.get(REDUCED, name)},
    )
    title, document = signed_record(smaller, keeper.signer)
    repository.put_record(smaller, document)
    keeper.book.append(lambda _: [Reduced(store=store, snapshot=name, into=title)])
    return title


@dataclass(slots=True)
class SurveyedStore:
    """Everything on one store: its records, and all other objects by generation."""

    records: dict[SnapshotName, Record] = field(default_factory=dict)
    known: frozenset[SnapshotName] = frozenset()
    found: dict[ObjectName, Item] = field(default_factory=dict)
    """Every object under a record's name, readable or not."""
    unread: dict[ObjectName, BackupdError] = field(default_factory=dict)
    """Those of them that cannot be believed, and why."""
    junk: dict[ObjectName, BackupdError] = field(default_factory=dict)
    """Packs and keyrings that cannot be believed and that no record needs, and why."""
    damaged: dict[GenerationId, str] = field(default_factory=dict)
    """Generations with a record that cannot be believed: what it needs is not known, so everything there is needed."""
    lacking: set[GenerationId] = field(default_factory=set)
    """Generations that lack something that was there once, as far as is known: it may lie under another name."""
    moved: dict[ObjectName, str] = field(default_factory=dict)
    """Names that are to be cleared, under which something lies that is missing in its own place, and why they stay."""
    packs: dict[GenerationId, dict[ObjectHash, ObjectInfo]] = field(default_factory=lambda: defaultdict(dict))
    keyrings: dict[GenerationId, dict[RunId, Item]] = field(default_factory=lambda: defaultdict(dict))
    marks: dict[GenerationId, list[Item]] = field(default_factory=lambda: defaultdict(list))
    uploads: list[Item] = field(default_factory=list)

    def generations(self) -> list[GenerationId]:
        recorded = {record.generation for record in self.records.values()}
        return sorted({*self.packs, *self.keyrings, *self.marks, *recorded})

    def lack(self, generation: GenerationId, error: BackupdError) -> None:
        """Note that something is missing that a record needs, or a record that could be believed once."""
        self.damaged[generation] = error.message
        self.lacking.add(generation)

    def ended(self) -> dict[RunId, set[str]]:
        """Return the runs whose record is there, with the marks that it says are over, even if they are left."""
        ended: dict[RunId, set[str]] = defaultdict(set)
        for record in self.records.values():
            if record.ended_mark is not None:
                ended[record.run].add(record.ended_mark)
        return dict(ended)


def survey(repository: Repository, threads: int) -> SurveyedStore:
    """Read a store's records, so many at once, and list its objects.

    Raises the store's errors, and StoreError for more than fits into memory; damaged records are noted, not raised.
    """
    listed = repository.records()
    seen = SurveyedStore(known=frozenset(name for _, name in listed))
    _read_records(repository, threads, listed, seen)
    for info in repository.store.list(ObjectName("")):
        place, item = layout.place_of(info.name), Item(info.name, info.size, info.modified)
        match place.kind:
            case layout.ObjectKind.PACK if place.generation and place.sha256:
                seen.packs[place.generation][place.sha256] = info
            case layout.ObjectKind.KEYRING if place.generation and place.run:
                seen.keyrings[place.generation][place.run] = item
            case layout.ObjectKind.RECORD:
                seen.found[info.name] = item
            case layout.ObjectKind.MARK if place.generation:
                seen.marks[place.generation].append(item)
            case layout.ObjectKind.TEMPORARY:
                seen.uploads.append(item)
    return seen


def _read_records(
    repository: Repository, threads: int, listed: Sequence[tuple[GenerationId, SnapshotName]], seen: SurveyedStore
) -> None:
    numbers = 0
    for (generation, name), read in in_parallel(lambda one: repository.record(one[1], one[0]), listed, threads):
        try:
            seen.records[name] = read.result().lean
            numbers += seen.records[name].range_numbers
        except (DamageError, RefusedError) as error:
            seen.damaged[generation] = error.message
            seen.unread[layout.record_name(generation, name)] = error
        except ObjectMissingError:
            continue
        if numbers > _MOST_NUMBERS:
            raise _too_much(seen.records)


def _too_much(records: Mapping[SnapshotName, Record]) -> StoreError:
    largest = max(records, key=lambda name: (records[name].range_numbers, name))
    return StoreError(
        f"the snapshots on the store name more ranges of sections than a keeper holds in memory; most has '{largest}'",
        hint="Nothing expires until some are gone. If nobody of yours made it: `backupd expire --false SNAPSHOT`.",
    )
