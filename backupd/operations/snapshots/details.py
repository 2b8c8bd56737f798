"""Details of a region and of one snapshot that need no key, as `backupd info` shows them.

Nothing here holds a row, a secret or a name that only sealed data has: databases are named by their labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from backupd.model.documents import Totals
from backupd.model.ids import GenerationId, SnapshotName
from backupd.operations.snapshots.catalog import Catalog, SeenStore
from backupd.operations.snapshots.lines import record_lines
from backupd.operations.snapshots.records import SnapshotInfo
from backupd.planning.retention import Dated, Lines, RetentionPolicy, decide, kept_until


class SnapshotOnStore(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot on one store of its region."""

    store: str
    there: bool
    verified_at: datetime | None = None
    """When the ledger first said that every byte of it was read from this store and was right."""
    kept: bool = False
    """Whether a rule of retention, by this machine's configuration, keeps it now."""
    reasons: tuple[str, ...] = ()
    """The rules that keep it, or why none does."""
    until: datetime | None = None
    """From when on no rule keeps it, if nothing newer comes meanwhile; what is newer may end it earlier."""


class SnapshotDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of a region."""

    snapshot: SnapshotName
    region: str
    database: str
    """The configured label of the database."""
    member: str | None
    """Opaque mark of one of several databases under the label."""
    exported: datetime
    published: datetime
    generation: GenerationId
    server: int
    """PostgreSQL's version as `server_version_num`."""
    segments: int
    packs: int
    totals: Totals
    restored_at: datetime | None
    """When it was last restored, by a person or by a drill that passed."""
    latest_end: datetime
    """When its maximum age ends: no rule keeps it longer."""
    stores: tuple[SnapshotOnStore, ...]


class DatabaseOnStore(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of one database on one store."""

    store: str
    snapshots: int
    verified: SnapshotName | None = None
    """The newest of them whose every byte was read from this store and was right."""
    verified_at: datetime | None = None


class DatabaseDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of one database of a region."""

    database: str
    member: str | None
    snapshots: int
    oldest: datetime
    newest: SnapshotDetails
    added: int
    """Bytes that the runs of all these snapshots added."""
    restored: SnapshotName | None
    restored_at: datetime | None
    stores: tuple[DatabaseOnStore, ...]


class StoreDetails(msgspec.Struct, frozen=True, kw_only=True):
    """One store of a region that answered."""

    store: str
    snapshots: int
    ledger: int
    """Number of the ledger's entries there."""
    free: int | None = None
    total: int | None = None


class RegionDetails(msgspec.Struct, frozen=True, kw_only=True):
    """A region: its stores, and its databases as its snapshots show them."""

    region: str
    repository: str
    generations: tuple[GenerationId, ...]
    """Generations that snapshots are of, oldest first."""
    stores: tuple[StoreDetails, ...]
    databases: tuple[DatabaseDetails, ...]


def region_details(catalog: Catalog, policy: RetentionPolicy, now: datetime) -> RegionDetails:
    """Return what is known of a region. Raises the errors of asking a store for its room."""
    groups: dict[str, list[SnapshotInfo]] = {}
    for one in catalog.snapshots.values():
        groups.setdefault(one.group, []).append(one)
    return RegionDetails(
        region=catalog.region,
        repository=catalog.stores[0].repository.info().repository,
        generations=tuple(sorted({one.generation for one in catalog.snapshots.values()})),
        stores=tuple(map(_store_details, catalog.stores)),
        databases=tuple(_database_details(catalog, group, policy, now) for _, group in sorted(groups.items())),
    )


def snapshot_details(catalog: Catalog, one: SnapshotInfo, policy: RetentionPolicy, now: datetime) -> SnapshotDetails:
    """Return what is known of one snapshot: where it lies, who looked at it, and what keeps it."""
    return SnapshotDetails(
        snapshot=one.name,
        region=catalog.region,
        database=one.database,
        member=one.member,
        exported=one.exported,
        published=one.published,
        generation=one.generation,
        server=one.server,
        segments=one.segments,
        packs=one.packs,
        totals=one.totals,
        restored_at=_restored(catalog).get(one.name),
        latest_end=one.exported + policy.max_age,
        stores=tuple(_on_stores(catalog, one, policy, now)),
    )


def _on_stores(
    catalog: Catalog, one: SnapshotInfo, policy: RetentionPolicy, now: datetime
) -> Iterator[SnapshotOnStore]:
    for store in catalog.stores:
        if one.name not in store.places:
            yield SnapshotOnStore(store=store.name, there=False)
            continue
        proven = store.facts.stores[store.name].proven
        group = [
            Dated(other.name, other.group, other.exported, other.name in proven, empty=not other.packs)
            for other in catalog.group_of(one)
            if other.name in store.places
        ]
        lines = _lines(catalog, store)
        decision = next(found for found in decide(group, policy, now, lines) if found.snapshot.name == one.name)
        yield SnapshotOnStore(
            store=store.name,
            there=True,
            verified_at=proven.get(one.name),
            kept=decision.keep,
            reasons=decision.reasons,
            until=kept_until(decision.snapshot, group, policy, now, lines),
        )


def _lines(catalog: Catalog, store: SeenStore) -> Lines:
    """Return the lines of a store's records, as far as they show without a keeper's memory of those that are gone."""
    there = {one.name: one.follows for one in catalog.snapshots.values() if one.name in store.places}
    reduced = {name for name, follows in there.items() if follows is None}
    lines = record_lines({name: follows for name, follows in there.items() if follows is not None}, {})
    return tuple(line | reduced for line in lines)


def _restored(catalog: Catalog) -> dict[SnapshotName, datetime]:
    """Return when each snapshot was last restored, as the longest ledger says: all stores have the same."""
    return max(catalog.stores, key=lambda store: len(store.reading.chain.links)).facts.restored


def _database_details(
    catalog: Catalog, group: list[SnapshotInfo], policy: RetentionPolicy, now: datetime
) -> DatabaseDetails:
    restored = _restored(catalog)
    back = next((one.name for one in reversed(group) if one.name in restored), None)
    return DatabaseDetails(
        database=group[-1].database,
        member=group[-1].member,
        snapshots=len(group),
        oldest=group[0].exported,
        newest=snapshot_details(catalog, group[-1], policy, now),
        added=sum(one.totals.added for one in group),
        restored=back,
        restored_at=restored.get(back) if back is not None else None,
        stores=tuple(_database_on(store, group) for store in catalog.stores),
    )


def _database_on(store: SeenStore, group: list[SnapshotInfo]) -> DatabaseOnStore:
    there = [one.name for one in group if one.name in store.places]
    proven = store.facts.stores[store.name].proven
    verified = next((name for name in reversed(there) if name in proven), None)
    return DatabaseOnStore(
        store=store.name,
        snapshots=len(there),
        verified=verified,
        verified_at=proven[verified] if verified is not None else None,
    )


def _store_details(store: SeenStore) -> StoreDetails:
    space = store.repository.store.space()
    return StoreDetails(
        store=store.name,
        snapshots=len(store.places),
        ledger=len(store.reading.chain.links),
        free=space.free if space is not None else None,
        total=space.total if space is not None else None,
    )
