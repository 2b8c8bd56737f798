"""The ledger's events folded into the state of every incarnation of every tenant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, assert_never

from backupd.model.ids import TenantId
from backupd.model.ledger import (
    WHOLE,
    Absent,
    Attested,
    Cleared,
    ErasureRequested,
    Event,
    Held,
    IncarnationEvent,
    LedgerEntry,
    Moved,
    PurgeBegan,
    Released,
    Resubscribed,
    Returned,
    SegmentRef,
    Shredded,
    StoreRetired,
    Unsubscribed,
    kind_of,
)
from backupd.model.text import parse_stamp


class State(StrEnum):
    """The states of an incarnation (`backupd manual design`, Lifecycle). A hold is no state: it applies beside one."""

    UNKNOWN = "unknown"
    """Nothing knows the tenant. Only a search of all stores finds that; no event leads to it."""
    ACTIVE = "active"
    MARKED = "marked"
    PURGING = "purging"
    UNREADABLE = "unreadable"
    CLEARED = "cleared"
    ATTESTED = "attested"


class IncarnationKey(NamedTuple):
    """The name of one incarnation of a tenant in one scope."""

    tenant: TenantId
    incarnation: int
    scope: str = WHOLE
    """A class with a clock of its own, or all the others."""


@dataclass(frozen=True, slots=True)
class DeletionClock:
    """An incarnation's dates, as the ledger's event set them when it was marked."""

    cause: str
    """The event that set the dates: `unsubscribed`, `erasure-requested` or `moved`."""
    since: datetime
    deadline: datetime
    purge_by: datetime
    to: str | None = None
    """The region that the tenant moved to."""
    by: str = "command"
    """Who set the dates: a `command`, or the `query`."""


@dataclass(frozen=True, slots=True)
class Purge:
    """The progress of an incarnation's purge; each mapping is by store, to the instant of the entry about the step."""

    began: datetime
    stores: frozenset[str]
    segments: frozenset[SegmentRef]
    shredded: Mapping[str, datetime] = field(default_factory=dict)
    cleared: Mapping[str, datetime] = field(default_factory=dict)
    absent: Mapping[str, tuple[datetime, tuple[str, ...]]] = field(default_factory=dict)
    """The instant, and the store's own snapshots that were looked into."""
    retired: frozenset[str] = frozenset()
    """Stores that took part and were declared gone, before or after they were seen empty."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """A store that was declared gone, and by which decision."""

    at: datetime
    decision: str


@dataclass(frozen=True, slots=True)
class Incarnation:
    """One incarnation of a tenant in one scope."""

    key: IncarnationKey
    clock: DeletionClock | None = None
    purge: Purge | None = None
    attestation: str | None = None

    @property
    def state(self) -> State:
        """The state, derived from clock, purge and attestation."""
        if self.purge is None:
            return State.ACTIVE if self.clock is None else State.MARKED
        if self.attestation is not None:
            return State.ATTESTED
        if self.purge.stores <= self.purge.cleared.keys() & self.purge.shredded.keys():
            return State.CLEARED
        if self.purge.stores <= self.purge.shredded.keys():
            return State.UNREADABLE
        return State.PURGING

    @property
    def purged(self) -> bool:
        """True when the purge began: then nothing of the incarnation may be kept or added any more."""
        return self.purge is not None


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold on a tenant: nothing of the tenant is purged while it is in force."""

    tenant: TenantId
    reference: str
    since: datetime
    review: datetime
    released: datetime | None = None
    due: datetime | None = None
    """By then nothing is left of what a released hold kept, if the tenant's own date has passed; None while in force.
    """


@dataclass(frozen=True, slots=True)
class TenantStates:
    """Every incarnation in the ledger. A tenant the ledger does not know is in its first incarnation, and active."""

    incarnations: Mapping[IncarnationKey, Incarnation] = field(default_factory=dict)
    holds: Mapping[tuple[TenantId, str], Hold] = field(default_factory=dict)
    newest: Mapping[tuple[TenantId, str], int] = field(default_factory=dict)
    """The newest incarnation's number by tenant and scope; an index, because it is needed for every segment of a
    backup."""
    retired: Mapping[str, Retirement] = field(default_factory=dict)
    """Stores that were declared gone; a store of the same name may be in use again since."""

    def current(self, tenant: TenantId, scope: str = WHOLE) -> Incarnation:
        """Return the tenant's newest incarnation in a scope."""
        key = IncarnationKey(tenant, self.newest.get((tenant, scope), 1), scope)
        return self.incarnations.get(key, Incarnation(key))

    def knows(self, tenant: TenantId) -> bool:
        """Say whether an event in the ledger names the tenant."""
        return any(key.tenant == tenant for key in self.incarnations) or any(held == tenant for held, _ in self.holds)

    def held(self, tenant: TenantId) -> list[Hold]:
        """Return the holds in force on a tenant."""
        return [hold for hold in self.holds.values() if hold.tenant == tenant and hold.released is None]

    def of(self, tenant: TenantId) -> list[Incarnation]:
        """Return every incarnation of a tenant in the ledger, oldest first."""
        return sorted(
            (incarnation for incarnation in self.incarnations.values() if incarnation.key.tenant == tenant),
            key=lambda incarnation: incarnation.key,
        )

    def due(self, now: datetime) -> list[Incarnation]:
        """Return the incarnations to be purged now: marked, past their date, and on no hold."""
        return [
            incarnation
            for incarnation in self.incarnations.values()
            if incarnation.state is State.MARKED
            and self.purge_by(incarnation) <= now
            and not self.held(incarnation.key.tenant)
        ]

    def purge_by(self, incarnation: Incarnation) -> datetime:
        """Return when to purge a marked incarnation: on its own date, or when the last hold in its way was released.

        Raises ValueError for an incarnation without dates.
        """
        if incarnation.clock is None:
            raise ValueError("an active incarnation has no date")
        return max([incarnation.clock.purge_by, *(released for released, _ in self._released(incarnation))])

    def deadline(self, incarnation: Incarnation) -> datetime:
        """Return by when the last byte of a marked incarnation is gone: its own date, or a later one left by a hold.

        Raises ValueError for an incarnation without dates.
        """
        if incarnation.clock is None:
            raise ValueError("an active incarnation has no date")
        return max([incarnation.clock.deadline, *(due for _, due in self._released(incarnation))])

    def _released(self, incarnation: Incarnation) -> list[tuple[datetime, datetime]]:
        """Return for each hold that delayed the purge when it was released, and by when what it kept is gone."""
        # A hold that was released before the date delays nothing.
        clock = incarnation.clock
        return [
            (hold.released, hold.due)
            for hold in self.holds.values()
            if hold.tenant == incarnation.key.tenant
            and hold.due
            and hold.released
            and clock
            and hold.released > clock.purge_by
        ]


def fold(entries: Iterable[LedgerEntry], states: TenantStates | None = None) -> TenantStates:
    """Fold these entries into the states that the entries before them left.

    Entries are believed: an event that could not have been decided changes what it says, and nothing else.
    """
    return _folded(((event, parse_stamp(entry.at)) for entry in entries for event in entry.events), states)


def foreseen(states: TenantStates, events: Iterable[Event], at: datetime) -> TenantStates:
    """Return the states as they would be if these events were appended at that instant."""
    return _folded(((event, at) for event in events), states)


def _folded(events: Iterable[tuple[Event, datetime]], states: TenantStates | None) -> TenantStates:
    before = states or TenantStates()
    folding = _Folding(dict(before.incarnations), dict(before.holds), dict(before.newest), dict(before.retired))
    for event, at in events:
        folding.take(event, at)
    return TenantStates(folding.incarnations, folding.holds, folding.newest, folding.retired)


@dataclass(slots=True)
class _Folding:
    """The states while entries are folded into them."""

    incarnations: dict[IncarnationKey, Incarnation]
    holds: dict[tuple[TenantId, str], Hold]
    newest: dict[tuple[TenantId, str], int]
    retired: dict[str, Retirement]

    def take(self, event: Event, at: datetime) -> None:
        match event:
            case Held():
                key, review = (event.tenant, event.hold), parse_stamp(event.review)
                known = self.holds.get(key)
                # A new review of a hold in force changes nothing else: what it keeps follows from when it began.
                self.holds[key] = (
                    replace(known, review=review)
                    if known is not None and known.released is None
                    else Hold(event.tenant, event.hold, at, review)
                )
            case Released():
                key = event.tenant, event.hold
                if key in self.holds:
                    self.holds[key] = replace(self.holds[key], released=at, due=parse_stamp(event.due))
            case StoreRetired():
                self.retired[event.store] = Retirement(at, event.decision)
                self.incarnations |= {
                    key: _without(incarnation, event.store) for key, incarnation in self.incarnations.items()
                }
            case (
                Unsubscribed()
                | ErasureRequested()
                | Moved()
                | Resubscribed()
                | Returned()
                | PurgeBegan()
                | Shredded()
                | Cleared()
                | Absent()
                | Attested()
            ):
                key_of_incarnation = IncarnationKey(event.tenant, event.incarnation, event.scope)
                incarnation = self.incarnations.get(key_of_incarnation, Incarnation(key_of_incarnation))
                self.incarnations[key_of_incarnation] = _changed(incarnation, event, at)
                of_tenant = event.tenant, event.scope
                self.newest[of_tenant] = max(event.incarnation, self.newest.get(of_tenant, 1))


def _changed(incarnation: Incarnation, event: IncarnationEvent, at: datetime) -> Incarnation:
    match event:
        case Unsubscribed() | ErasureRequested() | Moved():
            return replace(incarnation, clock=_clock(event))
        case Resubscribed() | Returned():
            # A purge that began is never forgotten: what it removed is gone, even if the tenant is declared back.
            return incarnation if incarnation.purged else Incarnation(incarnation.key)
        case PurgeBegan():
            # A purge that found more segments begins again: earlier steps on the stores did not cover these.
            before = incarnation.purge.segments if incarnation.purge else frozenset()
            began = incarnation.purge.began if incarnation.purge else at
            stores, retired = frozenset(event.stores), incarnation.purge.retired if incarnation.purge else frozenset()
            segments = before | frozenset(event.segments)
            return Incarnation(
                incarnation.key, incarnation.clock, Purge(began, stores, segments, retired=retired - stores)
            )
        case Attested():
            return replace(incarnation, attestation=event.attestation)
        case Shredded() | Cleared() | Absent() if incarnation.purge is not None:
            return replace(incarnation, purge=_advanced(incarnation.purge, event, at))
        case _:
            return incarnation


def _without(incarnation: Incarnation, store: str) -> Incarnation:
    """Return the incarnation with a purge that no longer waits for a store."""
    purge = incarnation.purge
    if purge is None or store not in purge.stores:
        return incarnation
    return replace(incarnation, purge=replace(purge, stores=purge.stores - {store}, retired=purge.retired | {store}))


def _advanced(purge: Purge, event: Shredded | Cleared | Absent, at: datetime) -> Purge:
    match event:
        case Shredded():
            return replace(purge, shredded={**purge.shredded, event.store: at})
        case Cleared():
            return replace(purge, cleared={**purge.cleared, event.store: at})
        case Absent():
            return replace(purge, absent={**purge.absent, event.store: (at, tuple(event.snapshots))})
        case _ as never:
            assert_never(never)


def _clock(event: Unsubscribed | ErasureRequested | Moved) -> DeletionClock:
    return DeletionClock(
        cause=kind_of(event),
        since=parse_stamp(event.since),
        deadline=parse_stamp(event.deadline),
        purge_by=parse_stamp(event.purge_by),
        to=event.to if isinstance(event, Moved) else None,
        by=event.by,
    )
