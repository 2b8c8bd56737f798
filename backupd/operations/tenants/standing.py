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


def standing(states: TenantStates, incarnation: Incarnation, now: datetime, gap: timedelta) -> TenantStanding:
    """Return how one incarnation stands; `gap` is the longest time that may pass between two runs of the keeper."""
    clock, purge = incarnation.clock, incarnation.purge
    return TenantStanding(
        tenant=incarnation.key.tenant,
        incarnation=incarnation.key.incarnation,
        scope=incarnation.key.scope,
        state=incarnation.state,
        cause=clock.cause if clock else None,
        since=clock.since if clock else None,
        deadline=states.deadline(incarnation) if clock else None,
        purge_by=states.purge_by(incarnation) if clock else None,
        holds=tuple(hold.reference for hold in states.held(incarnation.key.tenant)),
        overdue=_overdue(states, incarnation, now, gap),
        stores=tuple(sorted(purge.stores - purge.cleared.keys())) if purge else (),
        absent=tuple(sorted(purge.absent)) if purge else (),
    )


def standings(states: TenantStates, now: datetime, gap: timedelta) -> list[TenantStanding]:
    """Return every incarnation in the ledger; those that are late first, then by the next date."""
    found = [standing(states, one, now, gap) for one in states.incarnations.values()]
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


def incarnations_of(states: TenantStates, tenant: TenantId) -> Iterator[Incarnation]:
    """Yield the tenant's incarnations; for one that the ledger does not know, a single active one."""
    found = states.of(tenant)
    yield from found or [states.current(tenant)]


def _overdue(states: TenantStates, incarnation: Incarnation, now: datetime, gap: timedelta) -> str | None:
    if incarnation.clock is None or states.held(incarnation.key.tenant):
        return None
    if incarnation.purge is None:
        # The keeper's first run from that date on is the one that purges: every purge waits for one.
        latest = min(states.purge_by(incarnation) + gap, states.deadline(incarnation))
        return "not purged" if now > latest else None
    if now > states.deadline(incarnation) and not incarnation.purge.stores <= incarnation.purge.absent.keys():
        return "not gone everywhere"
    return None
