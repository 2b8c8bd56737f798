"""The facts of one region: each store for itself, so that one out of reach hides no other.

When no store answers, the ledger is read from this machine's own copy, because deadlines come nearer all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from backupd.clock import Clock
from backupd.errors import BackupdError
from backupd.model.ids import RegionName
from backupd.model.ledger import decode_entry
from backupd.model.status import (
    DatabaseFacts,
    DueDay,
    Head,
    Promises,
    RegionFacts,
    SpaceFacts,
    StoreFacts,
    StoreFault,
    UnreadFacts,
)
from backupd.model.text import parse_stamp, stamp
from backupd.operations.ledger import TOLERANCE, Book, LedgerPlace
from backupd.operations.status.ages import LedgerFacts, SnapshotAges, read_ledger
from backupd.operations.status.capabilities import ProbeRequest, changes, last_probe
from backupd.operations.tenants.standing import standings
from backupd.planning.alarms import ShownSnapshots, server_changes
from backupd.planning.incarnations import Incarnation, TenantStates
from backupd.repository.incoming import incoming_objects
from backupd.repository.layout import entry_name
from backupd.repository.repository import Repository, unnamed_signers
from backupd.repository.state.extents import unread_states
from backupd.seal.documents import LIMITS, read_document
from backupd.store.base import Store
from backupd.store.probe import ProbedStore

_DAYS = 60
"""The most days with deadlines that are reported, the nearest."""
_VERIFICATIONS = 100


@dataclass(frozen=True, slots=True)
class StorePlace:
    """One store of the region, opened."""

    name: str
    repository: Repository
    store: ProbedStore
    memory: Path
    """A folder of this machine for caches that can be deleted at any time."""
    separate_keeper: bool = False
    """Whether the keeper has a credential of its own there."""
    handing: bool = False
    """Whether writers hand in what they write, and the keeper takes it."""


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """The region whose facts are wanted, and what its configuration says."""

    region: RegionName
    labels: Sequence[str]
    """The labels of the region's databases."""
    promises: Promises
    store_snapshots: timedelta
    """The longest life of the stores' own snapshots, as configured."""
    vanishing: timedelta
    """The planned time from a purge until no byte is left."""
    now: datetime
    random: Callable[[int], bytes]
    probe: bool = False
    """Whether to probe stores by writing, at most once a day."""


def region_facts(book: Book, places: Sequence[StorePlace], request: StatusRequest) -> RegionFacts:
    """Return the region's facts from its ledger, which was read just now, and from each store that it was read from.

    Raises InterruptedRunError; errors of a store become part of the facts.
    """
    ledger = read_ledger(book.chain.entries())
    stores, founded = [], []
    for place in places:
        try:
            if place.name in book.unreached:
                raise book.unreached[place.name]
            founded.append(parse_stamp(place.repository.info().created))
            stores.append(_store(place, ledger, book, request))
        except BackupdError as error:
            stores.append(StoreFacts(store=place.name, error=fault(error), separate_keeper=place.separate_keeper))
    return replace(_ledger_facts(book, ledger, request), stores=tuple(stores), founded=min(founded, default=None))


def unreached(away: Mapping[str, BackupdError], request: StatusRequest, book: Book | None) -> RegionFacts:
    """Return the facts of a region of which no store answers, from this machine's copy of the ledger if it has one.

    `away` has every store by name, with its error.
    """
    stores = tuple(StoreFacts(store=name, error=fault(error)) for name, error in away.items())
    if book is None:
        return RegionFacts(region=request.region, at=request.now, stores=stores, promises=request.promises)
    return replace(_ledger_facts(book, read_ledger(book.chain.entries()), request), stores=stores)


def _endangered(states: TenantStates, incarnation: Incarnation, request: StatusRequest) -> datetime:
    """Return when only the time for repairs is left to an incarnation; its deadline where its dates leave none."""
    deadline, slack = states.deadline(incarnation), timedelta(seconds=request.promises.repair_slack)
    return min(deadline, max(deadline - slack, states.purge_by(incarnation) + request.vanishing))


def _ledger_facts(book: Book, ledger: LedgerFacts, request: StatusRequest) -> RegionFacts:
    states = book.states
    waiting = [one for one in states.incarnations.values() if one.clock is not None and not _gone(one)]
    free = [one for one in waiting if not states.held(one.key.tenant)]
    deadlines = Counter(states.deadline(one) for one in free)
    gap = timedelta(seconds=request.promises.expiry_gap)
    return RegionFacts(
        region=request.region,
        at=request.now,
        ledger=Head(book.chain.head.seq, book.chain.head.head),
        ledger_ahead=min(book.chain.dated_after(stamp(request.now + TOLERANCE)), default=None),
        leaving=len(waiting),
        held=len(waiting) - len(free),
        next_deadline=min(deadlines, default=None),
        endangered=min((_endangered(states, one, request) for one in free), default=None),
        deadlines=tuple(DueDay(at, number) for at, number in sorted(deadlines.items())[:_DAYS]),
        late=tuple(msgspec.to_builtins(one) for one in standings(states, request.now, gap) if one.overdue),
        drilled=ledger.drilled,
        proven=ledger.proven,
        drills=tuple(ledger.drills),
        promises=request.promises,
    )


def fault(error: BackupdError) -> StoreFault:
    """Return an error as part of a store's facts."""
    kind = type(error).__name__.removesuffix("Error")
    return StoreFault(kind, error.message, error.hint, error.retryable, error.exit_code)


def _store(place: StorePlace, ledger: LedgerFacts, book: Book, request: StatusRequest) -> StoreFacts:
    founded, of_store = place.repository.info().profile, ledger.stores[place.name]
    asked = ProbeRequest(place.memory / "tried.json", request.probe, request.random, request.now)
    known = last_probe(place.store, asked)
    append_only = known.profile.append_only if known and known.profile else founded.get("append_only")
    space, shown = place.store.space(), place.store.snapshots()
    made = [one.made for one in shown if one.made is not None]
    waiting = [one.modified for one in incoming_objects(place.store) if not one.at_work]
    return StoreFacts(
        store=place.name,
        append_only=append_only,
        mode=("ingest" if place.handing else "append-only") if append_only else "plain",
        handing=place.handing,
        handed_in=len(waiting),
        handed_since=min(waiting, default=None),
        separate_keeper=place.separate_keeper,
        databases=tuple(_with_unread(place, ledger, request)),
        space=SpaceFacts(space.free, space.total) if space is not None else None,
        server_snapshots=tuple(one.name for one in shown),
        server_oldest=min(made, default=None),
        server_newest=max(made, default=None),
        server_changes=server_changes(
            ShownSnapshots(len(shown), made), of_store.observed, request.store_snapshots, request.now
        ),
        changes=changes(founded, place.store, known),
        unnamed_signers=unnamed_signers(place.repository.info(), place.repository.signers),
        probed=known.at if known else None,
        ledger_entries=book.lengths.get(place.name),
        kept=of_store.observed[-1][0] if of_store.observed else None,
        expired=of_store.expired,
        verifications=tuple(of_store.verified[-_VERIFICATIONS:]),
    )


def _with_unread(place: StorePlace, ledger: LedgerFacts, request: StatusRequest) -> Iterator[DatabaseFacts]:
    """Yield the facts of each database, with what this machine's own backups of it do not read."""
    ages = SnapshotAges(place.repository, place.memory / "labels.json")
    states = unread_states(place.memory)
    for one in ages.databases(request.labels, ledger, place.name):
        if one.label not in states:
            yield one
            continue
        last, audit = states[one.label]
        audited = datetime.fromtimestamp(audit.audited, UTC) if audit.audited else None
        facts = UnreadFacts(bytes=last.bytes, reason=last.reason, audited=audited, distrusted=audit.distrusted)
        yield replace(one, unread=facts)


def _gone(incarnation: Incarnation) -> bool:
    return incarnation.purge is not None and incarnation.purge.stores <= incarnation.purge.absent.keys()


def book_of(copy: Store, region: RegionName, trusted: Collection[str], clock: Clock) -> Book | None:
    """Open the ledger from this machine's copy alone; None where there is no copy that can be believed."""
    first = entry_name(1)
    try:
        entry = decode_entry(read_document(copy.get(first, 0, LIMITS["ledger"]), "ledger", trusted, first), first)
        return Book(LedgerPlace(region, entry.repository, {}, copy, frozenset(trusted), clock))
    except BackupdError:
        return None
