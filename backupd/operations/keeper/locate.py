"""Find where a tenant's rows still are, as the answer to a customer's question; and find tenants whom the application
says it purged, and whose rows are still in the newest snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from backupd.errors import OUT_OF_REACH, UNSOUND, BackupdError, ObjectMissingError, StoreGoneError
from backupd.model.attestation import NOT_COVERED
from backupd.model.documents import Record
from backupd.model.ids import GenerationId, ObjectName, Pseudonym, SnapshotName, TenantId
from backupd.model.text import day, parse_stamp
from backupd.operations.keeper.holds import NamedSections
from backupd.operations.keeper.incarnation_segments import find_segments
from backupd.operations.keeper.server_snapshots import holds_key, holds_section
from backupd.operations.keeper.types import Keeper
from backupd.operations.tenants.standing import TenantStanding, incarnations_of, standing
from backupd.planning.attestation import declared_copies
from backupd.planning.deadlines import DeletionBudget
from backupd.planning.incarnations import Incarnation, State
from backupd.repository import layout
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.repository.state.pack_cache import StoredPack, segments_by_generation
from backupd.trace import Warned


@dataclass(frozen=True, slots=True)
class Copy:
    """The remains of an incarnation in one generation on one store."""

    store: str
    generation: GenerationId
    segments: int
    objects: int
    """Packs that hold a section of the segments."""
    readable: int
    """Segments of which a keyring there still holds a key."""
    snapshots: tuple[SnapshotName, ...]
    """Snapshots whose records name a section of the segments, whether or not it is still there."""
    server_snapshots: tuple[str, ...]
    """The store's own snapshots that hold a section of them."""
    keyrings: tuple[ObjectName, ...] = ()
    """Keyrings that hold a key of them."""
    key_snapshots: tuple[str, ...] = ()
    """The store's own snapshots that hold a keyring with a key of them."""


@dataclass(frozen=True, slots=True)
class Unseen:
    """A place that may hold something of an incarnation, and that cannot be searched for it."""

    kind: Literal["handed-in", "uploads", "retired", "declared", "away"]
    """`handed-in` and `uploads`: what nodes handed in or upload on a store, which may be anybody's; `retired`: a store
    that was declared gone; `declared`: a kind of copy that the configuration declares; `away`: a store that does not
    answer now."""
    name: str
    objects: int = 0
    until: datetime | None = None
    """By when the last copy that holds something is gone, if the declaration is right; None when that is not known
    yet."""


@dataclass(frozen=True, slots=True)
class TenantLocation:
    """Every place that can hold something of one incarnation."""

    standing: TenantStanding
    copies: tuple[Copy, ...]
    unreadable_since: datetime | None
    """Since when no live keyring holds a key."""
    gone_by: datetime | None
    """By when nothing is left; in the past when that was seen. None when the tenant is active or held."""
    rule: str
    """One sentence that explains the date."""
    unseen: tuple[Unseen, ...] = ()
    not_covered: tuple[str, ...] = NOT_COVERED
    """Codes of what nobody here can look for (FORMAT.md §13)."""


def locate_tenant(
    keeper: Keeper, budget: DeletionBudget, tenant: TenantId, *, known: bool = True
) -> list[TenantLocation]:
    """Look on every store for each of the tenant's incarnations. Reads records, keyrings and headers of packs.

    One that nothing knows, as `search_for_tenant` finds, has the state `unknown`.
    """
    found = [locate_incarnation(keeper, budget, one) for one in incarnations_of(keeper.book.states, tenant)]
    if known:
        return found
    rule = "unknown: no ledger entry, no keyring and no query names it"
    return [replace(one, standing=replace(one.standing, state=State.UNKNOWN), rule=rule) for one in found]


def locate_incarnation(keeper: Keeper, budget: DeletionBudget, incarnation: Incarnation) -> TenantLocation:
    """Look on every store for one incarnation, which need not stand in the ledger as it is given.

    A store that does not answer is one of the places that nobody saw. Raises StoreGoneError when none answers.
    """
    copies: list[Copy] = []
    unseen: list[Unseen] = []
    for name in keeper.stores:
        try:
            found = _on_store(keeper, name, incarnation), list(_unfinished(keeper, name))
        except OUT_OF_REACH:
            unseen.append(Unseen("away", name))
        else:
            copies += found[0]
            unseen += found[1]
    if all(one.kind == "away" for one in unseen) and len(unseen) == len(keeper.stores):
        raise StoreGoneError("no store of the region answers", hint="Nothing can be said of where the tenant is.")
    now = keeper.clock.now()
    stands = standing(keeper.book.states, incarnation, now, budget.expiry_gap)
    gone_by, rule = _gone_by(incarnation, stands, budget, now)
    places = (*unseen, *_said(keeper, incarnation))
    return TenantLocation(stands, tuple(copies), _unreadable_since(incarnation), gone_by, rule, places)


def _on_store(keeper: Keeper, name: str, incarnation: Incarnation) -> list[Copy]:
    """Look on one store for an incarnation. Raises the store's errors, and those of what cannot be believed."""
    with KeyringCache.opened(keeper.cache_path(name), keeper.repository, keeper.tags) as cache:
        _refresh(keeper, name, cache)
        refs = set(find_segments(keeper, cache, incarnation.key)) | set(
            incarnation.purge.segments if incarnation.purge else ()
        )
        return _copies(keeper, name, cache, refs)


def _unfinished(keeper: Keeper, name: str) -> Iterator[Unseen]:
    """Yield what lies on a store and is not part of a repository."""
    kinds: tuple[tuple[Literal["handed-in", "uploads"], ObjectName], ...] = (
        ("handed-in", layout.INCOMING),
        ("uploads", layout.TEMPORARY),
    )
    for kind, folder in kinds:
        number = sum(1 for _ in keeper.stores[name].store.list(folder))
        if number:
            yield Unseen(kind, name, number)


def _said(keeper: Keeper, incarnation: Incarnation) -> Iterator[Unseen]:
    """Yield copies that somebody declared, in the ledger or in the configuration."""
    retired = keeper.book.states.retired
    yield from (Unseen("retired", name) for name in sorted(retired.keys() - keeper.stores.keys()))
    done = incarnation.purge is not None and incarnation.state in (State.CLEARED, State.ATTESTED)
    for copy in declared_copies(incarnation.purge, keeper.rules.copies) if incarnation.purge and done else ():
        yield Unseen("declared", copy.copy, until=parse_stamp(copy.until))
    if not done:
        yield from (Unseen("declared", name) for name in sorted(keeper.rules.copies))


def _copies(keeper: Keeper, store: str, cache: KeyringCache, refs: set[tuple[GenerationId, Pseudonym]]) -> list[Copy]:
    repository, listed = keeper.stores[store], cache.find(refs)
    by_generation = segments_by_generation(refs)
    # Before the records are looked at: what these name is known by the headers of packs.
    packs = {generation: _packs(keeper, store, cache, generation) for generation in by_generation}
    named = _named(repository, NamedSections(cache.packs), by_generation)
    views = [(snapshot.name, repository.store.view(snapshot)) for snapshot in repository.store.snapshots()]
    found = []
    for generation, segments in sorted(by_generation.items()):
        rings = repository.keyrings(generation, {})
        holding = [ring for ring in rings if (segments & ring.segments) - ring.shredded]
        ours = [one for one in listed if one.generation == generation]
        wanted = {(generation, segment) for segment in segments}
        copy = Copy(
            store=store,
            generation=generation,
            segments=len(segments),
            objects=sum(_holds(repository, cache, pack, segments) for pack in packs[generation]),
            readable=len({one for ring in holding for one in (segments & ring.segments) - ring.shredded}),
            snapshots=tuple(sorted(named.get(generation, ()))),
            server_snapshots=tuple(name for name, view in views if holds_section(view, repository, wanted, cache)),
            keyrings=tuple(ObjectName(ring.where) for ring in holding),
            key_snapshots=tuple(name for name, view in views if holds_key(view, repository, wanted, ours)),
        )
        if copy.objects or copy.readable or copy.server_snapshots or copy.key_snapshots:
            found.append(copy)
    return found


def _refresh(keeper: Keeper, store: str, cache: KeyringCache) -> None:
    """Read the new keyrings, and warn of those that cannot be believed: what they hold is not known."""
    unsound: dict[ObjectName, BackupdError] = {}
    cache.refresh(keeper.stores[store], unsound, keeper.threads)
    for error in unsound.values():
        keeper.trace.emit(Warned(f"on store '{store}': {error.message}", "Nobody knows what it holds."))


def _packs(keeper: Keeper, store: str, cache: KeyringCache, generation: GenerationId) -> list[StoredPack]:
    """List a generation's packs, and warn of those that cannot be believed: what they hold is not known."""
    unsound: dict[ObjectName, BackupdError] = {}
    packs = cache.packs.refresh(keeper.stores[store], generation, keeper.threads, unsound)
    for error in unsound.values():
        keeper.trace.emit(Warned(f"on store '{store}': {error.message}", "Nobody knows what it holds."))
    return packs


def _holds(repository: Repository, cache: KeyringCache, pack: StoredPack, segments: set[Pseudonym]) -> bool:
    generation = layout.place_of(pack.name).generation
    if generation is None or pack.sha256 not in cache.packs.listing(generation, segments):
        return False
    try:
        there = repository.pack(generation, pack.sha256).there
    except ObjectMissingError:
        return False  # expired meanwhile
    return any(there.header.rows[place].segment in segments for place in there.there)


def _named(
    repository: Repository, sections: NamedSections, wanted: dict[GenerationId, set[Pseudonym]]
) -> dict[GenerationId, set[SnapshotName]]:
    found: dict[GenerationId, set[SnapshotName]] = {}
    for generation, name in repository.records():
        if generation not in wanted:
            continue
        try:
            names = sections.segments(repository.record(name, generation)) & wanted[generation]
        except UNSOUND:
            names = frozenset(wanted[generation])  # it may name them: that cannot be known
        if names:
            found.setdefault(generation, set()).add(name)
    return found


def _unreadable_since(incarnation: Incarnation) -> datetime | None:
    if incarnation.purge is None or not incarnation.purge.stores <= incarnation.purge.shredded.keys():
        return None
    return max(incarnation.purge.shredded.values(), default=incarnation.purge.began)


def _gone_by(
    incarnation: Incarnation, stands: TenantStanding, budget: DeletionBudget, now: datetime
) -> tuple[datetime | None, str]:
    if stands.holds:
        return None, f"held by {', '.join(stands.holds)}: no date until the hold is released"
    if incarnation.state is State.ACTIVE or stands.deadline is None:
        window = _days(budget.window)
        return None, f"active: no date; {window} after unsubscribing at the latest nothing is left"
    if incarnation.purge is None:
        return (
            stands.deadline,
            f"{stands.cause} on {day(stands.since)}: purged by {day(stands.purge_by)}, gone by the deadline",
        )
    if incarnation.purge.stores <= incarnation.purge.absent.keys():
        seen = max((at for at, _ in incarnation.purge.absent.values()), default=incarnation.purge.began)
        return seen, f"purged on {day(incarnation.purge.began)}, seen to be gone from every store"
    rest = max(incarnation.purge.began, max(incarnation.purge.cleared.values(), default=now)) + budget.aging
    late = min(max(rest, now), stands.deadline) if now <= stands.deadline else rest
    return (
        late,
        f"purged on {day(incarnation.purge.began)}: gone when the stores' own snapshots of before have aged out",
    )


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.0f} d"


def find_remaining_rows(keeper: Keeper, purged: Mapping[TenantId, datetime]) -> set[TenantId]:
    """Return those tenants of whom a snapshot has rows that is later than when the application says it removed them.

    `purged` gives that instant for each tenant. Looks at the newest snapshot of each database on every store. Purging
    the backups of such a tenant is in vain: the application's purge missed something.
    """
    found: set[TenantId] = set()
    for name, repository in keeper.stores.items():
        newest: dict[tuple[str, str | None], Record] = {}
        for generation, snapshot in repository.records():
            try:
                record = repository.record(snapshot, generation)
            except UNSOUND:
                continue
            newest[record.database, record.member] = record
        with KeyringCache.opened(keeper.cache_path(name), keeper.repository, keeper.tags) as cache:
            _refresh(keeper, name, cache)
            for generation in {record.generation for record in newest.values()}:
                _packs(keeper, name, cache, generation)
            for record in newest.values():
                found |= _in_record(keeper, cache, record, purged)
    return found


def _in_record(
    keeper: Keeper, cache: KeyringCache, record: Record, purged: Mapping[TenantId, datetime]
) -> set[TenantId]:
    exported = parse_stamp(record.exported)
    late = {tenant for tenant, at in purged.items() if at < exported}
    segments = NamedSections(cache.packs).segments(record) if late else frozenset[Pseudonym]()
    return {
        tenant
        for tenant in late
        if any(
            listed.pseudonym in segments
            for one in (keeper.book.states.of(tenant) or [keeper.book.states.current(tenant)])
            for listed in cache.of_tenant(
                record.generation, keeper.tags.tenant_tag(record.generation, tenant, one.key.incarnation)
            )
        )
    }
