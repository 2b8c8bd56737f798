"""Where a tenant's rows still are: the answer to a customer's question."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.catalog.memory.census import Census
from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.operations.keeper.removing.purge import find_segments
from backupd.operations.tenants.told import Standing, lives_of, standing
from backupd.planning.lifecycle.lives import State

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.ids import GenerationId, Pseudonym, SnapshotName, TenantId
    from backupd.operations.keeper.values import Keeper
    from backupd.planning.deletion.window import Budget
    from backupd.planning.lifecycle.lives import Life

_UNSOUND = (DamageError, RefusedError, ObjectMissingError)


@dataclass(frozen=True, slots=True)
class Copy:
    """What one generation on one store can still hold of a life."""

    store: str
    generation: GenerationId
    segments: int
    objects: int
    """In the segments' folders."""
    readable: int
    """Segments whose key a keyring there still holds."""
    snapshots: tuple[SnapshotName, ...]
    """Records that name a part of the segments, whether or not it is still there."""
    server_snapshots: tuple[str, ...]
    """The store's own, which hold an object of them."""


@dataclass(frozen=True, slots=True)
class Where:
    """One life, and every place that can hold something of it."""

    standing: Standing
    copies: tuple[Copy, ...]
    unreadable_since: datetime | None
    """Since when no live keyring holds a key."""
    gone_by: datetime | None
    """By when nothing is left; in the past when that was seen. None: the tenant is active, and nothing is to go."""
    rule: str
    """In one line, why."""


def find_where(keeper: Keeper, budget: Budget, tenant: TenantId) -> list[Where]:
    """Look on every store for each of the tenant's lives. Reads records and keyrings, no packs."""
    found = []
    lives = keeper.book.lives
    for life in lives_of(lives, tenant):
        copies: list[Copy] = []
        for name, repository in keeper.stores.items():
            with Census.opened(keeper.census(name), keeper.repository) as census:
                census.refresh(repository)
                refs = set(find_segments(keeper, census, life.key)) | set(life.purge.segments if life.purge else ())
            copies += _copies(name, repository, refs)
        told = standing(lives, life, keeper.clock.now())
        gone_by, rule = _gone_by(life, told, budget, keeper.clock.now())
        found.append(Where(told, tuple(copies), _unreadable_since(life), gone_by, rule))
    return found


def _copies(store: str, repository: Repository, refs: set[tuple[GenerationId, Pseudonym]]) -> list[Copy]:
    by_generation: dict[GenerationId, set[Pseudonym]] = {}
    for generation, pseudonym in refs:
        by_generation.setdefault(generation, set()).add(pseudonym)
    named = _named(repository, by_generation)
    found = []
    for generation, segments in sorted(by_generation.items()):
        folders = [layout.segment_folder(generation, pseudonym) for pseudonym in sorted(segments)]
        listed = {pseudonym for ring in repository.keyrings(generation) for pseudonym, _ in ring.index}
        shredded = {pseudonym for ring in repository.keyrings(generation) for pseudonym in ring.shredded}
        copy = Copy(
            store=store,
            generation=generation,
            segments=len(segments),
            objects=sum(1 for folder in folders for _ in repository.store.list(folder)),
            readable=len((segments & listed) - shredded),
            snapshots=tuple(sorted(named.get(generation, ()))),
            server_snapshots=tuple(
                snapshot.name
                for snapshot in repository.store.snapshots()
                if any(True for folder in folders for _ in repository.store.view(snapshot).list(folder))
            ),
        )
        if copy.objects or copy.readable or copy.server_snapshots:
            found.append(copy)
    return found


def _named(repository: Repository, wanted: dict[GenerationId, set[Pseudonym]]) -> dict[GenerationId, set[SnapshotName]]:
    found: dict[GenerationId, set[SnapshotName]] = {}
    for generation, name in repository.records():
        if generation not in wanted:
            continue
        try:
            record = repository.record(name, generation)
        except _UNSOUND:
            found.setdefault(generation, set()).add(name)  # it may: nobody can tell
            continue
        if any(segment in wanted[generation] for segment, _, _ in record.parts):
            found.setdefault(generation, set()).add(name)
    return found


def _unreadable_since(life: Life) -> datetime | None:
    if life.purge is None or not life.purge.stores <= life.purge.shredded.keys():
        return None
    return max(life.purge.shredded.values(), default=life.purge.began)


def _gone_by(life: Life, told: Standing, budget: Budget, now: datetime) -> tuple[datetime | None, str]:
    if told.holds:
        return None, f"held by {', '.join(told.holds)}: no date until the hold is released"
    if life.state is State.ACTIVE or told.deadline is None:
        window = _days(budget.window)
        return None, f"active: no date; {window} after unsubscribing at the latest nothing is left"
    if life.purge is None:
        return (
            told.deadline,
            f"{told.cause} on {_day(told.since)}: purged by {_day(told.purge_by)}, gone by the deadline",
        )
    if life.purge.stores <= life.purge.absent.keys():
        seen = max((at for at, _ in life.purge.absent.values()), default=life.purge.began)
        return seen, f"purged on {_day(life.purge.began)}, seen to be gone everywhere"
    rest = max(life.purge.began, max(life.purge.cleared.values(), default=now)) + budget.store_snapshots
    late = min(max(rest, now), told.deadline) if now <= told.deadline else rest
    return late, f"purged on {_day(life.purge.began)}: gone when the stores' own snapshots of before have aged out"


def _day(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant:%Y-%m-%d}"


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.0f} d"
