"""The commands that change a tenant's state: each returns the events to append, or none when nothing changes. Pure.

Events are decided on one state of the ledger and appended behind exactly that state. Of two commands at once the second
therefore decides again (compare and set).
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
from backupd.model.text import did_you_mean, stamp
from backupd.planning.incarnations import DeletionClock, Incarnation, State, TenantStates


class ClockDates(NamedTuple):
    """The dates of an incarnation's clock; `planning.deadlines` computes them."""

    since: datetime
    deadline: datetime
    purge_by: datetime
    by: str = "command"
    """Who sets the dates: `command` or `query`."""


def unsubscribe(states: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """Mark the tenant; its dates run from `dates.since`.

    Raises RefusedError when it is marked with another beginning: dates must not change silently.
    """
    incarnation = states.current(tenant, scope)
    match incarnation.state:
        case State.ACTIVE:
            return [Unsubscribed(**_of(incarnation), **_as_stamps(dates))]
        case State.MARKED if (
            incarnation.clock and incarnation.clock.since != dates.since and incarnation.clock.cause == "unsubscribed"
        ):
            raise RefusedError(
                f"tenant {tenant} is marked since {stamp(incarnation.clock.since)} already",
                hint="If it came back in between, say `tenant resubscribe` first: its dates then start again.",
            )
        case _:
            return []


def unsubscribe_again(states: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """Cancel the dates of a marked tenant and set new ones: it came back and left again, at `dates.since`."""
    incarnation = states.current(tenant, scope)
    return [Resubscribed(**_of(incarnation)), Unsubscribed(**_of(incarnation), **_as_stamps(dates))]


def resubscribe(states: TenantStates, tenant: TenantId, scope: str = WHOLE) -> list[Event]:
    """Cancel the dates of a marked tenant; one that was purged begins a new incarnation, with nothing of the old."""
    incarnation = states.current(tenant, scope)
    match incarnation.state:
        case State.ACTIVE:
            return []
        case State.MARKED:
            return [Resubscribed(**_of(incarnation))]
        case _:
            return [Returned(tenant=tenant, incarnation=incarnation.key.incarnation + 1, scope=scope)]


def erase(states: TenantStates, tenant: TenantId, dates: ClockDates, scope: str = WHOLE) -> list[Event]:
    """Purge now, on request; an earlier deadline stays. Raises RefusedError while a hold is in force."""
    incarnation = states.current(tenant, scope)
    if incarnation.purged:
        return []
    holds = states.held(tenant)
    if holds:
        raise RefusedError(
            f"tenant {tenant} is held by {', '.join(hold.reference for hold in holds)}",
            hint="Release the hold first, if the person who ordered it agrees.",
        )
    if incarnation.clock is not None:
        # The date in force counts, not the recorded one: a released hold may have left more time than the request does.
        if states.purge_by(incarnation) <= dates.purge_by:
            return []
        dates = dates._replace(
            since=incarnation.clock.since, deadline=min(states.deadline(incarnation), dates.deadline)
        )
        if (incarnation.clock.cause, *_of_clock(incarnation.clock)) == ("erasure-requested", *dates):
            return []
    return [ErasureRequested(**_of(incarnation), **_as_stamps(dates))]


def move(states: TenantStates, tenant: TenantId, dates: ClockDates, to: str) -> list[Event]:
    """Mark the tenant as moved to region `to`: it is purged here, on a clock of its own.

    With another region than before, only the region changes; the dates stay.
    """
    incarnation = states.current(tenant)
    if incarnation.purged or (
        incarnation.clock is not None and (incarnation.clock.cause, incarnation.clock.to) == ("moved", to)
    ):
        return []
    if incarnation.clock is not None:
        dates = dates._replace(
            since=incarnation.clock.since,
            deadline=min(incarnation.clock.deadline, dates.deadline),
            purge_by=min(incarnation.clock.purge_by, dates.purge_by),
        )
    return [Moved(**_of(incarnation), **_as_stamps(dates), to=to)]


def hold(states: TenantStates, tenant: TenantId, reference: str, review: datetime) -> list[Event]:
    """Keep what there is of the tenant until the hold is released.

    Raises RefusedError when its purge has begun: a hold that kept nothing would be a lie.
    """
    known = states.holds.get((tenant, reference))
    if known is not None and known.released is None:
        return [] if known.review == review else [Held(tenant=tenant, hold=reference, review=stamp(review))]
    if known is not None:
        raise RefusedError(f"hold {reference} on this tenant was released", hint="Give a new hold a new reference.")
    current = states.current(tenant)
    if current.purge is not None:
        raise RefusedError(
            f"the purge of tenant {tenant} began at {stamp(current.purge.began)}",
            hint="Nothing of it can be held any more.",
        )
    return [Held(tenant=tenant, hold=reference, review=stamp(review))]


def release(states: TenantStates, tenant: TenantId, reference: str, due: datetime) -> list[Event]:
    """End a hold; what it kept beyond its date is purged by `due`. Raises RefusedError when there is no such hold."""
    known = states.holds.get((tenant, reference))
    if known is None:
        own = sorted(hold for holder, hold in states.holds if holder == tenant)
        near = did_you_mean(reference, own) or "There is none on this tenant: look at its name."
        raise RefusedError(f"tenant {tenant} has no hold {reference}", hint=near)
    return [] if known.released else [Released(tenant=tenant, hold=reference, due=stamp(due))]


def _of(incarnation: Incarnation) -> dict[str, Any]:
    return incarnation.key._asdict()


def _of_clock(clock: DeletionClock) -> ClockDates:
    return ClockDates(clock.since, clock.deadline, clock.purge_by, clock.by)


def _as_stamps(dates: ClockDates) -> dict[str, Any]:
    return {name: value if name == "by" else stamp(value) for name, value in dates._asdict().items()}
