"""Commands about one tenant, with the dates they set, appended to the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from re import fullmatch
from typing import TYPE_CHECKING

from backupd.clock import Clock
from backupd.errors import UsageError
from backupd.model.ids import TenantId
from backupd.model.ledger import REFERENCE, WHOLE, Event
from backupd.planning import lifecycle
from backupd.planning.deadlines import DeletionBudget, dates
from backupd.planning.incarnations import Incarnation, TenantStates, foreseen
from backupd.planning.lifecycle import ClockDates

if TYPE_CHECKING:
    from backupd.operations.ledger import Book


@dataclass(frozen=True, slots=True)
class TenantDesk:
    """A region's ledger with the rules by which commands about its tenants set dates."""

    book: Book
    clock: Clock
    budget: DeletionBudget
    release_within: timedelta
    own_clocks: frozenset[str]
    regions: frozenset[str] = field(default_factory=frozenset)
    """The other regions to which a tenant may move."""
    dry_run: bool = False
    """Whether changes are decided only, and nothing is appended."""


@dataclass(frozen=True, slots=True)
class Changed:
    """The events that a command appended, or in a dry run would append, and how its tenant stands after them."""

    events: list[Event]
    """The events; empty when the tenant stood so already."""
    incarnation: Incarnation


def unsubscribe(desk: TenantDesk, tenant: TenantId, since: datetime | None = None, scope: str = WHOLE) -> Changed:
    """Mark a tenant as leaving; its dates run from `since`, or from now.

    Raises RefusedError when it is marked with other dates, UsageError for a future beginning or an unknown class.
    """
    begin = _past(desk, since)
    wanted = clock_dates(desk, begin, early=False)
    return _append(desk, tenant, scope, lambda states: lifecycle.unsubscribe(states, tenant, wanted, scope))


def resubscribe(desk: TenantDesk, tenant: TenantId, scope: str = WHOLE) -> Changed:
    """Cancel a mark, or begin a new incarnation of a tenant that was purged."""
    return _append(desk, tenant, scope, lambda states: lifecycle.resubscribe(states, tenant, scope))


def erase(desk: TenantDesk, tenant: TenantId, since: datetime | None = None, scope: str = WHOLE) -> Changed:
    """Record a request to erase, made at `since` or now: the purge is due at once.

    Raises RefusedError while a hold is in force.
    """
    asked = _past(desk, since)
    wanted = clock_dates(desk, asked, early=True)
    at_once = ClockDates(wanted.since, wanted.deadline, asked)
    return _append(desk, tenant, scope, lambda states: lifecycle.erase(states, tenant, at_once, scope))


def move(desk: TenantDesk, tenant: TenantId, to: str, since: datetime | None = None) -> Changed:
    """Record that the tenant lives in region `to` since then; in this region it is to be purged, with dates of its own.

    Raises UsageError for a region that is not configured, or this one.
    """
    if to not in desk.regions:
        raise UsageError(f'there is no other region "{to}"', hint=f"Configured are {', '.join(sorted(desk.regions))}.")
    wanted = clock_dates(desk, _past(desk, since), early=False)
    return _append(desk, tenant, WHOLE, lambda states: lifecycle.move(states, tenant, wanted, to))


def hold(desk: TenantDesk, tenant: TenantId, reference: str, review: datetime) -> Changed:
    """Keep what there is of the tenant until the hold is released; `review` is when somebody is to look at it again.

    Raises RefusedError when its purge has begun, UsageError for a review that is past.
    """
    if fullmatch(REFERENCE, reference) is None:
        raise UsageError(
            "a hold needs a reference of up to 64 letters, digits and ._/#-",
            hint="The number of a case or a decision, never a sentence: the ledger keeps it for good.",
        )
    if review <= desk.clock.now():
        raise UsageError("the review of a hold lies in the future")
    return _append(desk, tenant, WHOLE, lambda states: lifecycle.hold(states, tenant, reference, review))


def release(desk: TenantDesk, tenant: TenantId, reference: str) -> Changed:
    """End a hold.

    What it kept beyond its date is purged in the next run, and gone when the stores' snapshots have aged out. Raises
    RefusedError when there is no such hold.
    """
    terms = desk.budget
    due = desk.clock.now() + desk.release_within + terms.expiry_gap + terms.aging + terms.clock
    return _append(desk, tenant, WHOLE, lambda states: lifecycle.release(states, tenant, reference, due))


def _append(desk: TenantDesk, tenant: TenantId, scope: str, decide: Callable[[TenantStates], list[Event]]) -> Changed:
    if scope != WHOLE and scope not in desk.own_clocks:
        raise UsageError(
            f'class "{scope}" has no dates of its own',
            hint='Say clock = "own" under its [classes.NAME], or leave the class out.',
        )
    if desk.dry_run:
        planned = decide(desk.book.states)
        return Changed(planned, foreseen(desk.book.states, planned, desk.clock.now()).current(tenant, scope))
    events = desk.book.append(decide)
    return Changed(events, desk.book.states.current(tenant, scope))


def _past(desk: TenantDesk, since: datetime | None) -> datetime:
    now = desk.clock.now()
    if since is not None and since > now + desk.budget.clock:
        raise UsageError("that lies in the future", hint="Give the instant it happened; leave it out for now.")
    return since or now


def clock_dates(desk: TenantDesk, since: datetime, *, early: bool) -> ClockDates:
    """Return the dates of a deletion clock that starts at `since`, under the region's budget."""
    found = dates(since, desk.budget, early=early)
    # A request to erase is not put off until the end of the window.
    return ClockDates(since, min(found.deadline, found.gone_by) if early else found.deadline, found.purge_by)
