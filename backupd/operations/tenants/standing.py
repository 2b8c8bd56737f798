"""The standing of tenants, for people and programs: ids, states and dates, never names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.model.ids import TenantId
from backupd.model.ledger import Event
from backupd.planning.incarnations import Incarnation, State, TenantStates

if TYPE_CHECKING:
    from backupd.operations.ledger import Book


@dataclass(frozen=True, slots=True)
class TenantStanding:
    """The standing of one incarnation of a tenant, in one line."""

    tenant: TenantId
    incarnation: int
    scope: str
    state: State
    cause: str | None
    since: datetime | None
    deadline: datetime | None
    purge_by: datetime | None
    holds: tuple[str, ...]
    overdue: str | None
    """What should have happened by now and did not; None when nothing is late."""
    stores: tuple[str, ...] = ()
    """Stores that the purge has not cleared yet."""
    absent: tuple[str, ...] = ()
    """Stores that were seen to hold nothing any more, nor do their own snapshots."""


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a tenant's history, with its entry's number and date."""

    seq: int
    at: str
    event: Event


def standing(lives: TenantStates, life: Incarnation, now: datetime, gap: timedelta) -> TenantStanding:
    """Return how one incarnation stands; `gap` is the longest time that may pass between two runs of the keeper."""
    clock, purge = life.clock, life.purge
    return TenantStanding(
        tenant=life.key.tenant,
        incarnation=life.key.incarnation,
        scope=life.key.scope,
        state=life.state,
        cause=clock.cause if clock else None,
        since=clock.since if clock else None,
        deadline=lives.deadline(life) if clock else None,
        purge_by=lives.purge_by(life) if clock else None,
        holds=tuple(hold.reference for hold in lives.held(life.key.tenant)),
        overdue=_overdue(lives, life, now, gap),
        stores=tuple(sorted(purge.stores - purge.cleared.keys())) if purge else (),
        absent=tuple(sorted(purge.absent)) if purge else (),
    )


def standings(lives: TenantStates, now: datetime, gap: timedelta) -> list[TenantStanding]:
    """Return every incarnation in the ledger; those that are late first, then by the next date."""
    found = [standing(lives, life, now, gap) for life in lives.incarnations.values()]
    far = datetime.max.replace(tzinfo=now.tzinfo)
    return sorted(found, key=lambda one: (one.overdue is None, one.purge_by or far, one.tenant, one.incarnation))


def history(book: Book, tenant: TenantId) -> list[Happened]:
    """Return everything the ledger says of one tenant, oldest first."""
    return [
        Happened(entry.seq, entry.at, event)
        for entry in book.chain.entries()
        for event in entry.events
        if getattr(event, "tenant", None) == tenant
    ]


def incarnations_of(lives: TenantStates, tenant: TenantId) -> Iterator[Incarnation]:
    """Yield the tenant's incarnations; for one that the ledger does not know, a single active one."""
    found = lives.of(tenant)
    yield from found or [lives.current(tenant)]


def _overdue(lives: TenantStates, life: Incarnation, now: datetime, gap: timedelta) -> str | None:
    if life.clock is None or lives.held(life.key.tenant):
        return None
    if life.purge is None:
        # The keeper's first run from that date on is the one that purges: every purge waits for one.
        latest = min(lives.purge_by(life) + gap, lives.deadline(life))
        return "not purged" if now > latest else None
    if now > lives.deadline(life) and not life.purge.stores <= life.purge.absent.keys():
        return "not gone everywhere"
    return None
