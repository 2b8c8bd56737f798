"""Bring the ledger up to date with what the application says of its tenants; all changes of one reading are one
entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.errors import RefusedError, UsageError
from backupd.model.ids import TenantId
from backupd.model.ledger import WHOLE, Event
from backupd.operations.tenants.changes import TenantDesk, clock_dates
from backupd.planning import lifecycle
from backupd.planning.incarnations import State, TenantStates
from backupd.planning.lifecycle import ClockDates

if TYPE_CHECKING:
    from backupd.postgres.lifecycle_query import TenantDates
    from backupd.seal.tags import TenantTags

QUERY = "query"


@dataclass(frozen=True, slots=True)
class Synced:
    """The changes that one reading of the application's tenants made."""

    tenants: int
    """How many rows were read."""
    events: list[Event]
    refused: dict[TenantId, str] = field(default_factory=dict)
    """Tenants whose row asks for the impossible, with the reason; the others' changes were made."""


def sync(desk: TenantDesk, tags: TenantTags, rows: Sequence[TenantDates]) -> Synced:
    """Append what the rows change. A tenant without a row is left as it is: silence is no request.

    Raises what `Book.append` raises.
    """
    refused: dict[TenantId, str] = {}

    def decide(states: TenantStates) -> list[Event]:
        refused.clear()
        events: list[Event] = []
        for row in rows:
            tenant = tags.tenant_id(row.tenant)
            try:
                events += _of(desk, states, tenant, row)
            except (RefusedError, UsageError) as error:
                refused[tenant] = error.message
        return events

    return Synced(len(rows), desk.book.append(decide), refused)


def _of(desk: TenantDesk, states: TenantStates, tenant: TenantId, row: TenantDates) -> list[Event]:
    scope = row.data_class or WHOLE
    if scope != WHOLE and scope not in desk.own_clocks:
        raise UsageError(f'class "{scope}" has no dates of its own')
    begins = [instant for instant in (row.unsubscribed_at, row.erase_requested_at) if instant is not None]
    if any(begin > desk.clock.now() + desk.budget.clock for begin in begins):
        raise UsageError("a date lies in the future")
    if row.erase_requested_at is not None:
        wanted = clock_dates(desk, row.erase_requested_at, early=True)
        at_once = ClockDates(row.unsubscribed_at or wanted.since, wanted.deadline, row.erase_requested_at, QUERY)
        return lifecycle.erase(states, tenant, at_once, scope)
    if row.moved_to is not None:
        if row.moved_to not in desk.regions:
            raise UsageError("it moved to a region that is not configured")
        wanted = clock_dates(desk, row.unsubscribed_at or desk.clock.now(), early=False)
        return lifecycle.move(states, tenant, wanted._replace(by=QUERY), row.moved_to)
    if row.unsubscribed_at is not None:
        return _unsubscribed(desk, states, tenant, scope, row.unsubscribed_at)
    clock = states.current(tenant, scope).clock
    if clock is not None and clock.by != QUERY:
        return []  # somebody said so by command: the application's silence does not take it back
    return lifecycle.resubscribe(states, tenant, scope)


def _unsubscribed(desk: TenantDesk, states: TenantStates, tenant: TenantId, scope: str, since: datetime) -> list[Event]:
    wanted = clock_dates(desk, since, early=False)._replace(by=QUERY)
    incarnation = states.current(tenant, scope)
    if (
        incarnation.state is State.MARKED
        and incarnation.clock is not None
        and incarnation.clock.cause == "unsubscribed"
    ):
        if since == incarnation.clock.since:
            return []
        return lifecycle.unsubscribe_again(states, tenant, wanted, scope)
    return lifecycle.unsubscribe(states, tenant, wanted, scope)
