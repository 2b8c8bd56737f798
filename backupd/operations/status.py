"""How a region stands on each of its stores, and who is leaving: three ages that are never mixed, and dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from backupd.catalog.handed import handed_in
from backupd.errors import BackupdError, DamageError, InterruptedRunError, ObjectMissingError, RefusedError
from backupd.model.instants import parse_stamp
from backupd.model.stored.ledger import Drilled, Expired, Observed, Restored
from backupd.operations.tenants.told import Standing, standings
from backupd.planning.deletion.proven import proven_on
from backupd.planning.lifecycle.lives import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.catalog.repository import Repository
    from backupd.model.ids import RegionName
    from backupd.model.stored.documents import LedgerHead
    from backupd.model.stored.ledger import Event
    from backupd.operations.ledger import Book
    from backupd.store.base import Space

Mode = Literal["plain", "append-only", "ingest"]
"""A writer may remove and overwrite; only add, by the server's doing; only hand in, by file modes."""
_UNSOUND = (DamageError, RefusedError, ObjectMissingError)


@dataclass(frozen=True, slots=True)
class Ages:
    """One database on one store; None where there is no such snapshot."""

    label: str
    published: datetime | None
    verified: datetime | None
    """Of the newest snapshot whose every byte was read from this store and was right."""
    restored: datetime | None
    """Of the newest that was restored."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """One store."""

    store: str
    error: BackupdError | None
    """Why nothing else is known."""
    append_only: bool | None = None
    """Whether the writer's account could neither remove nor overwrite when the repository was made there."""
    handing: bool = False
    """Whether the configuration has writers hand in what they write, for the keeper to take."""
    handed_in: int = 0
    """Objects that wait for the keeper to take them, of all its nodes; what a database published may be among them."""
    separate_keeper: bool = False
    """Whether the configuration gives the keeper a credential of its own."""
    databases: tuple[Ages, ...] = ()
    space: Space | None = None
    server_snapshots: tuple[str, ...] = ()
    kept: datetime | None = None
    """When a keeper's run last came to its end here."""
    expired: datetime | None = None
    """When an expiry last came to its end here."""


    @property
    def mode(self) -> Mode:
        """What a thief of a writer's credential is held to, as the probe saw it."""
        if not self.append_only:
            return "plain"
        return "ingest" if self.handing else "append-only"


@dataclass(frozen=True, slots=True)
class RegionStatus:
    region: RegionName
    stores: tuple[StoreStatus, ...]
    ledger: LedgerHead | None
    leaving: int
    """Lives with a date that are not gone everywhere yet."""
    next_deadline: datetime | None
    late: tuple[Standing, ...]
    drilled: datetime | None = None
    """When the last drill ended that the ledger tells of."""


def region_status(
    book: Book,
    repositories: Mapping[str, Repository],
    separate: Iterable[str],
    now: datetime,
    handing: Iterable[str] = (),
) -> RegionStatus:
    """Look at every store; one that cannot be reached is told, and stops nothing.

    `separate` names the stores whose keeper has a credential of its own, `handing` those whose writers hand in. Raises
    DamageError for a ledger that cannot be believed.
    """
    with_own, to_take = frozenset(separate), frozenset(handing)
    stores = tuple(
        replace(_store(name, repository, book, name in with_own), handing=name in to_take)
        for name, repository in repositories.items()
    )
    told = standings(book.lives, now)
    leaving = [one for one in told if one.state is not State.ACTIVE and not _gone(one)]
    return RegionStatus(
        region=book.chain.region,
        stores=stores,
        ledger=book.chain.head,
        leaving=len(leaving),
        next_deadline=min((one.deadline for one in leaving if one.deadline), default=None),
        late=tuple(one for one in told if one.overdue),
        drilled=_newest(book, lambda event: isinstance(event, Drilled)),
    )


def _store(name: str, repository: Repository, book: Book, separate: bool) -> StoreStatus:
    try:
        profile = repository.info().profile
        return StoreStatus(
            store=name,
            error=None,
            append_only=profile.get("append_only"),
            handed_in=sum(not one.at_work for one in handed_in(repository.store)),
            separate_keeper=separate,
            databases=tuple(_ages(repository, book, name)),
            space=repository.store.space(),
            server_snapshots=tuple(snapshot.name for snapshot in repository.store.snapshots()),
            kept=_newest(book, lambda event: isinstance(event, Observed) and event.store == name),
            expired=_newest(book, lambda event: isinstance(event, Expired) and event.store == name),
        )
    except InterruptedRunError:
        raise
    except BackupdError as error:
        return StoreStatus(store=name, error=error, separate_keeper=separate)


def _ages(repository: Repository, book: Book, store: str) -> Iterable[Ages]:
    proven = proven_on(book.chain.entries(), store)
    restored = {
        event.snapshot for entry in book.chain.entries() for event in entry.events if isinstance(event, Restored)
    }
    newest: dict[str, dict[str, datetime]] = {}
    for generation, name in reversed(repository.records()):
        try:
            record = repository.record(name, generation)
        except _UNSOUND:
            continue  # `verify` and `snapshots` tell of it
        ages = newest.setdefault(record.database, {})
        exported = parse_stamp(record.exported)
        for what, holds in (("published", True), ("verified", name in proven), ("restored", name in restored)):
            if holds:
                ages[what] = max(exported, ages.get(what, exported))
    for label, ages in sorted(newest.items()):
        yield Ages(label, ages.get("published"), ages.get("verified"), ages.get("restored"))


def _newest(book: Book, wanted: Callable[[Event], bool]) -> datetime | None:
    """Of the newest entry with such an event."""
    found = (parse_stamp(entry.at) for entry in book.chain.entries() if any(wanted(event) for event in entry.events))
    return max(found, default=None)


def _gone(one: Standing) -> bool:
    return bool(one.absent) and not one.stores
