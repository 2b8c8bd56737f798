"""Holds: what they pin of snapshots that expire, and nothing else.

When a snapshot that holds a held tenant expires, a reduced record takes its place: the held tenant's parts, and the
structure they cannot be restored without. Everybody else's parts go.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from backupd.catalog.repository import signed_record
from backupd.model.instants import parse_stamp, stamp
from backupd.model.stored.documents import REDUCED
from backupd.model.stored.ledger import Reduced
from backupd.planning.deletion.retention import Decision
from backupd.seal.keys.tags import NOBODY

if TYPE_CHECKING:
    from backupd.catalog.memory.census import KeyringCache
    from backupd.model.ids import GenerationId, Pseudonym, SnapshotName, TenantId
    from backupd.model.stored.documents import Record
    from backupd.operations.keeper.values import Keeper

STRUCTURE: Final = "structure"
"""The class of schemas, roles and facts (FORMAT.md §7)."""


@dataclass(frozen=True, slots=True)
class HoldPins:
    """What the holds in force pin on one store."""

    segments: Mapping[GenerationId, Mapping[Pseudonym, datetime]]
    """Of held tenants, with the newest instant a hold on them began: snapshots exported before it are kept."""
    structure: Mapping[GenerationId, frozenset[Pseudonym]]

    def pinned(self, generation: GenerationId) -> frozenset[Pseudonym]:
        return frozenset(self.segments.get(generation, {}))

    def keeps(self, record: Record) -> frozenset[Pseudonym]:
        """The segments of a snapshot that must stay; none when no hold is about it."""
        exported = parse_stamp(record.exported)
        held = self.segments.get(record.generation, {})
        kept = {segment for segment, _, _ in record.parts if segment in held and exported <= held[segment]}
        if not kept:
            return frozenset()
        structure = self.structure.get(record.generation, frozenset())
        return frozenset(kept | {segment for segment, _, _ in record.parts if segment in structure})

    def overrule(self, decision: Decision, records: Mapping[SnapshotName, Record]) -> Decision:
        """A reduced record stays as long as holds are about all of it; else it is reduced again."""
        record = records[decision.snapshot.name]
        if decision.keep or REDUCED not in record.extra or self.keeps(record) != segments_of(record):
            return decision
        return Decision(decision.snapshot, keep=True, reasons=("held",))


def find_held(keeper: Keeper, census: KeyringCache) -> HoldPins:
    """Look for the segments of held tenants in every generation."""
    lives = keeper.book.lives
    began: dict[TenantId, datetime] = {}
    for hold in lives.holds.values():
        if hold.released is None:
            began[hold.tenant] = max(hold.since, began.get(hold.tenant, hold.since))
    gone = {ref for life in lives.lives.values() if life.purge for ref in life.purge.segments}
    segments: dict[GenerationId, dict[Pseudonym, datetime]] = {}
    structure: dict[GenerationId, frozenset[Pseudonym]] = {}
    for generation in census.generations() if began else ():
        of_generation = segments.setdefault(generation, {})
        for tenant, since in began.items():
            newest = max((life.key.incarnation for life in lives.of(tenant)), default=1)
            for incarnation in range(1, newest + 1):
                tag = keeper.tags.tenant_tag(generation, tenant, incarnation)
                of_generation.update(
                    (one.pseudonym, since)
                    for one in census.of_tenant(generation, tag)
                    if (generation, one.pseudonym) not in gone
                )
        wanted = keeper.tags.class_tag(generation, STRUCTURE)
        nobody = census.of_tenant(generation, keeper.tags.tenant_tag(generation, NOBODY, 0))
        structure[generation] = frozenset(one.pseudonym for one in nobody if one.data_class == wanted)
    return HoldPins(segments, structure)


def segments_of(record: Record) -> frozenset[Pseudonym]:
    return frozenset(segment for segment, _, _ in record.parts)


def to_reduce(
    held: HoldPins, records: Mapping[SnapshotName, Record], leaving: Collection[SnapshotName]
) -> dict[SnapshotName, frozenset[Pseudonym]]:
    """Of which expiring snapshots what must stay; those left out that a run which was cut off has reduced already."""
    there = {
        (record.extra[REDUCED], segments_of(record))
        for name, record in records.items()
        if REDUCED in record.extra and name not in leaving
    }
    found = {name: held.keeps(records[name]) for name in leaving}
    return {
        name: kept
        for name, kept in found.items()
        if kept and (records[name].extra.get(REDUCED, name), kept) not in there
    }


def reduced(keeper: Keeper, store: str, name: SnapshotName, kept: frozenset[Pseudonym]) -> SnapshotName:
    """Publish a record of what a hold keeps of an expiring snapshot, signed by the keeper."""
    repository = keeper.stores[store]
    record = repository.record(name)
    parts = [part for part in record.parts if part[0] in kept]
    totals = msgspec.structs.replace(record.totals, stored=sum(size for _, _, size in parts), added=0)
    smaller = msgspec.structs.replace(
        record,
        parts=parts,
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
