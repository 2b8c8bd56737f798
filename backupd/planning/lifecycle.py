"""What may happen to a tenant: each command answers with the events that make it so, or with none when it is so.

They are decided on one state of the ledger and appended behind exactly that one, so that of two commands at once the
second decides again (compare and set).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from backupd.errors import RefusedError
from backupd.model.ids import TenantId
from backupd.model.ledger import (
    WHOLE,
    ErasureRequested,
    Event,
    Held,
    Moved,
    Released,
    Resubscribed,
    Returned,
    Unsubscribed,
)
from backupd.model.text import stamp
from backupd.planning.incarnations import DeletionClock, Incarnation, State, TenantStates


class ClockDates(NamedTuple):
    """The dates of a life's clock; see `planning.window`."""

    since: datetime
    deadline: datetime
    purge_by: datetime
    by: str = "command"
    """Or `query`."""


def unsubscribe(lives: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """Mark the tenant; its dates run from `dates.since`.

    Raises RefusedError when it is marked with another beginning: dates never move silently.
    """
    life = lives.current(tenant, scope)
    match life.state:
        case State.ACTIVE:
            return [Unsubscribed(**_of(life), **_told(dates))]
        case State.MARKED if life.clock and life.clock.since != dates.since and life.clock.cause == "unsubscribed":
            raise RefusedError(
                f"tenant {tenant} is marked since {stamp(life.clock.since)} already",
                hint="If it came back in between, say `tenant resubscribe` first: its dates then start anew.",
            )
        case _:
            return []


def unsubscribe_anew(lives: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """A marked tenant came back and left again, at `dates.since`: both are told, and the dates start anew."""
    life = lives.current(tenant, scope)
    return [Resubscribed(**_of(life)), Unsubscribed(**_of(life), **_told(dates))]


def resubscribe(lives: TenantStates, tenant: TenantId, scope: str = WHOLE) -> list[Event]:
    """Cancel the dates of a marked tenant; one that was purged begins a new incarnation, with nothing of the old."""
    life = lives.current(tenant, scope)
    match life.state:
        case State.ACTIVE:
            return []
        case State.MARKED:
            return [Resubscribed(**_of(life))]
        case _:
            return [Returned(tenant=tenant, incarnation=life.key.incarnation + 1, scope=scope)]


def erase(lives: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """Purge now, on request. An earlier deadline stays.

    Raises RefusedError while a hold is in force.
    """
    life = lives.current(tenant, scope)
    if life.purged:
        return []
    holds = lives.held(tenant)
    if holds:
        raise RefusedError(
            f"tenant {tenant} is held by {', '.join(hold.reference for hold in holds)}",
            hint="Release the hold first, if whoever ordered it agrees.",
        )
    if life.clock is not None:
        # As it is, not as it was told: a released hold may have left more time than the request does.
        if lives.purge_by(life) <= dates.purge_by:
            return []
        dates = dates._replace(since=life.clock.since, deadline=min(lives.deadline(life), dates.deadline))
        if (life.clock.cause, *_of_clock(life.clock)) == ("erasure-requested", *dates):
            return []
    return [ErasureRequested(**_of(life), **_told(dates))]


def move(lives: TenantStates, tenant: TenantId, dates: ClockDates, to: str) -> list[Event]:
    """The tenant lives in region `to` from now on; here it is purged, on a clock of its own.

    Said again with another region, that one is told, and the dates stay.
    """
    life = lives.current(tenant)
    if life.purged or (life.clock is not None and (life.clock.cause, life.clock.to) == ("moved", to)):
        return []
    if life.clock is not None:
        dates = dates._replace(
            since=life.clock.since,
            deadline=min(life.clock.deadline, dates.deadline),
            purge_by=min(life.clock.purge_by, dates.purge_by),
        )
    return [Moved(**_of(life), **_told(dates), to=to)]


def hold(lives: TenantStates, tenant: TenantId, reference: str, review: datetime) -> list[Event]:
    """Keep what there is of the tenant until the hold is released.

    Raises RefusedError when its purge has begun: a hold that kept nothing would be a lie.
    """
    known = lives.holds.get((tenant, reference))
    if known is not None and known.released is None:
        return [] if known.review == review else [Held(tenant=tenant, hold=reference, review=stamp(review))]
    if known is not None:
        raise RefusedError(f"hold {reference} on this tenant was released", hint="Give a new hold a new reference.")
    current = lives.current(tenant)
    if current.purged:
        raise RefusedError(
            f"the purge of tenant {tenant} began at {stamp(current.purge.began) if current.purge else ''}",
            hint="Nothing of it can be held any more.",
        )
    return [Held(tenant=tenant, hold=reference, review=stamp(review))]


def release(lives: TenantStates, tenant: TenantId, reference: str, due: datetime) -> list[Event]:
    """End a hold; what it kept beyond its date is purged by `due`.

    Raises RefusedError when there is no such hold.
    """
    known = lives.holds.get((tenant, reference))
    if known is None:
        raise RefusedError(f"tenant {tenant} has no hold {reference}", hint="`backupd tenant show` lists its holds.")
    return [] if known.released else [Released(tenant=tenant, hold=reference, due=stamp(due))]


def _of(life: Incarnation) -> dict[str, Any]:
    return life.key._asdict()


def _of_clock(clock: DeletionClock) -> ClockDates:
    return ClockDates(clock.since, clock.deadline, clock.purge_by, clock.by)


def _told(dates: ClockDates) -> dict[str, Any]:
    return {name: value if name == "by" else stamp(value) for name, value in dates._asdict().items()}
