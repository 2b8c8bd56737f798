"""Purge incarnations of tenants from every store, in steps that can be interrupted anywhere and repeated.

1. Find an incarnation's segments by their tags, in every generation; write the intent into the ledger: from there on it
   cannot be undone.
2. Shred: replace every keyring that holds a line of them by one without it, and read it again.
3. Clear: take their sections out of every pack that holds one, and list the packs again.
4. Look into the store's own snapshots, until none holds a section or a key of them.

One keeper run over a region purges what is due, finishes what was begun, removes what arrived later, and records what
it saw.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from backupd.errors import BackupdError, BusyError, DamageError, RefusedError, StoreError, StoreGoneError
from backupd.model.ids import ObjectName
from backupd.model.ledger import Absent, Cleared, Event, Observed, SegmentRef, Shredded
from backupd.operations.keeper.guards import check_clock, check_number
from backupd.operations.keeper.incarnation_segments import beginnings, check_growth, find_segments, forgeries
from backupd.operations.keeper.removal import clear, shred
from backupd.operations.keeper.server_snapshots import (
    SnapshotHoldings,
    from_before,
    is_from_before,
    look_into_snapshots,
    oldest_upload,
)
from backupd.operations.keeper.types import Keeper, Purged
from backupd.operations.ledger import Book
from backupd.operations.phases import Phases
from backupd.planning.incarnations import Incarnation, IncarnationKey, Purge, TenantStates
from backupd.planning.ledger_facts import rekeyed_to
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.seal.keyring import Keyring
from backupd.trace import Warned


class Purging:
    """The purge of incarnations in one region. A context manager, for one thread."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._stack = ExitStack()
        self._caches: dict[str, KeyringCache] = {}
        self._unfinished: dict[str, datetime | None] = {}
        self._unsound: dict[str, dict[ObjectName, BackupdError]] = {}
        """By store, the keyrings that cannot be believed. They stop no removal, but nobody knows what they hold."""
        self.returned: set[SegmentRef] = set()
        """Purged segments whose keys stand again in keyrings that had lost them."""
        self.errors: dict[str, BackupdError] = {}
        """Stores that could not be worked on; what is left to do there is done the next time."""
        self.forgeries: list[str] = []
        """Sentences about listings in keyrings whose tags are not those of the segment beside them."""

    def __enter__(self) -> Self:
        for name, repository in self._keeper.stores.items():
            with self._isolated(name):
                # Before the keyrings are listed: what is taken from there meanwhile is seen in one of them.
                self._unfinished[name] = oldest_upload(repository.store)
                cache = self._stack.enter_context(
                    KeyringCache.opened(self._keeper.cache_path(name), self._keeper.repository, self._keeper.tags)
                )
                unsound = self._unsound[name] = dict[ObjectName, BackupdError]()
                self.returned |= check_shrunk(self._keeper, name, cache, repository, unsound)
                self._caches[name] = cache
                for error in unsound.values():
                    self.errors[name] = error
                self.forgeries += forgeries(name, cache.forgeries())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find(self, key: IncarnationKey) -> set[SegmentRef]:
        """Return the segments of an incarnation on all stores that can be reached."""
        return {ref for cache in self._caches.values() for ref in find_segments(self._keeper, cache, key)}

    def purge(self, key: IncarnationKey, confirmed: int | None = None) -> list[Purged]:
        """Take the purge of an incarnation as far as it goes today, on every store that can be reached.

        Raises RefusedError when it must not be purged: active, held, or not due; and when more of it turned up since it
        began than runs under way can have added, unless that number was confirmed: what the ledger lists goes first.
        """
        begun = self.begin([key], confirmed)
        for error in begun.refused.values():
            raise error
        done = self.advance([key], begun.grown)
        for error in begun.grown.values():
            raise error
        return done

    def advance(self, keys: Sequence[IncarnationKey], grown: Collection[IncarnationKey] = ()) -> list[Purged]:
        """Take purges that began as far as they go today, on every store that can be reached.

        What several of them take out of one keyring or pack is taken out at once, and each of the store's own snapshots
        is looked into once. What stops one of them on a store does not stop the others there. None of those that have
        `grown` comes to its end: not all that turned up is taken out.
        """
        done: list[Purged] = []
        for name in self._caches if keys else ():
            with self._isolated(name):
                done += self._on(name, keys, grown)
        return done

    def begin(self, keys: Iterable[IncarnationKey], confirmed: int | None = None) -> PurgesBegun:
        """Write into the ledger that incarnations are purged, and which segments they have."""
        refused: dict[IncarnationKey, RefusedError] = {}
        grown: dict[IncarnationKey, RefusedError] = {}
        found: dict[IncarnationKey, set[SegmentRef]] = {}
        states = self._keeper.book.states
        for key, incarnation in self._due(states, keys, refused).items():
            segments = self.find(key)
            if errors := check_growth(incarnation, segments, confirmed):
                grown[key] = errors[0]
            else:
                found[key] = segments
        fresh = [key for key in found if states.incarnations[key].purge is None]
        try:
            self._check_clocks(needed=bool(fresh))
        except RefusedError as error:
            refused |= dict.fromkeys(fresh, error)

        def decide(states: TenantStates) -> list[Event]:
            going = self._due(states, found.keys() - refused.keys(), refused)
            return beginnings(
                ((incarnation, found[key]) for key, incarnation in sorted(going.items())), {*self._keeper.stores}
            )

        while self._keeper.book.append(decide):
            pass  # more than one entry holds
        return PurgesBegun(refused, grown)

    def _due(
        self, states: TenantStates, keys: Iterable[IncarnationKey], refused: dict[IncarnationKey, RefusedError]
    ) -> dict[IncarnationKey, Incarnation]:
        """Return those that are to be purged now; the others are added to `refused`."""
        due = {one.key for one in states.due(self._keeper.clock.now())}
        going: dict[IncarnationKey, Incarnation] = {}
        for key in keys:
            incarnation = states.incarnations.get(key)
            if incarnation is None or (incarnation.purge is None and key not in due):
                hint = "See `backupd tenant show`."
                refused[key] = RefusedError(f"tenant {key.tenant} is not due to be purged", hint=hint)
            else:
                going[key] = incarnation
        return going

    def _check_clocks(self, *, needed: bool) -> None:
        """Check that at least one store agrees about the time, because a purge cannot be undone, if one begins.

        Raises the first store's error.
        """
        differing: list[BackupdError] = []
        for name in self._caches if needed else ():
            try:
                check_clock(self._keeper, name)
            except (StoreError, RefusedError) as error:
                differing.append(error)
        if differing and len(differing) == len(self._caches):
            raise differing[0]

    def _on(self, name: str, keys: Sequence[IncarnationKey], grown: Collection[IncarnationKey]) -> list[Purged]:
        keeper, repository, cache = self._keeper, self._keeper.stores[name], self._caches[name]
        check_clock(keeper, name)
        keeper.book.give(name)
        # Before the packs are listed, too: what is moved from there into their folder meanwhile is seen in one of them.
        uploads = self._unfinished[name], oldest_upload(repository.store)
        going = _Going({key: _purge_of(keeper.book.states, key) for key in keys}, self._isolated(name))
        shredded = shred(keeper, name, cache, going.segments())
        going.stop(shredded.errors)
        unsound = {key: self._unsound_for(name, purge) for key, purge in going.purges.items()}
        self._note(
            Shredded(**key._asdict(), store=name, keyrings=count)
            for key, purge in going.purges.items()
            if ((count := shredded.of(purge.segments)[0]) or name not in purge.shredded) and not unsound[key]
        )
        cleared = clear(keeper, name, cache, going.segments())
        going.stop(cleared.errors)
        for key, purge in list(going.purges.items()):
            going.stop_one(key, from_before(repository.store, cleared.unsound, purge.began))
        taken = {key: cleared.of(purge.segments) for key, purge in going.purges.items()}
        self._note(
            Cleared(**key._asdict(), store=name, objects=taken[key][0], bytes=taken[key][1])
            for key, purge in going.purges.items()
            if taken[key][0] or name not in purge.cleared
        )
        for key in list(going.purges):
            going.stop_one(key, unsound[key])
        looked_at = keeper.clock.now()
        done: list[Purged] = []
        for key, seen in self._looked(name, going.purges):
            purge = going.purges[key]
            unfinished = any(is_from_before(one, purge.began) for one in uploads)
            left = (layout.TEMPORARY,) if unfinished else (layout.KEYRINGS,) if key in grown else ()
            still_in = seen.still_in or left
            keyrings = shredded.of(purge.segments)[0]
            done.append(Purged(name, key, keyrings, *taken[key], not still_in, still_in, seen.looked_into, looked_at))
        self._note(
            Absent(**one.incarnation._asdict(), store=name, snapshots=list(one.looked_into))
            for one in done
            if one.absent and (one.keyrings or one.objects or name not in going.purges[one.incarnation].absent)
        )
        return done

    def _unsound_for(self, name: str, purge: Purge) -> list[BackupdError]:
        """Return the errors of keyrings that may hold keys of a purge, and that nobody can believe."""
        known = {one.keyring for one in self._caches[name].find(purge.segments)}
        listing = {where: error for where, error in self._unsound[name].items() if where in known}
        others = {where: error for where, error in self._unsound[name].items() if where not in known}
        return [*listing.values(), *from_before(self._keeper.stores[name].store, others, purge.began)]

    def _looked(
        self, name: str, purges: Mapping[IncarnationKey, Purge]
    ) -> Iterator[tuple[IncarnationKey, SnapshotHoldings]]:
        """Yield what the store's own snapshots hold of each purge; look for one after the other where that fails."""
        cache = self._caches[name]
        try:
            found = look_into_snapshots(self._keeper, name, purges, cache)
        except StoreGoneError:
            raise
        except (StoreError, DamageError, RefusedError):
            for key, purge in purges.items():
                with self._isolated(name):
                    yield key, look_into_snapshots(self._keeper, name, {key: purge}, cache)[key]
        else:
            yield from found.items()

    def _note(self, events: Iterable[Event]) -> None:
        noted = list(events)
        for at in range(0, len(noted), _EVENTS):
            self._append(noted[at : at + _EVENTS])

    def _append(self, events: list[Event]) -> None:
        self._keeper.book.append(lambda _: events)

    def _isolated(self, name: str) -> _Isolated:
        return _Isolated(self.errors, name)


_EVENTS = 100
"""Events of one ledger entry at most: one of them may name each of a store's own snapshots."""


class PurgesBegun(NamedTuple):
    """The purges of which not all is in the ledger, each with the error that `Purging.purge` would raise."""

    refused: Mapping[IncarnationKey, RefusedError]
    """Those that must not begin, or go on."""
    grown: Mapping[IncarnationKey, RefusedError]
    """Those that began earlier, and of which more turned up than goes without a word."""


class _Going:
    """The purges that still go on on a store: those of which nothing stood in the way."""

    def __init__(self, purges: Mapping[IncarnationKey, Purge], isolated: _Isolated) -> None:
        self.purges = dict(purges)
        self._isolated = isolated

    def segments(self) -> frozenset[SegmentRef]:
        """Return all their segments."""
        return frozenset(ref for purge in self.purges.values() for ref in purge.segments)

    def stop(self, errors: Iterable[tuple[frozenset[SegmentRef], BackupdError]]) -> None:
        """Leave out the purges of segments that an error concerns, and note it."""
        for concerned, error in errors:
            for key in [key for key, purge in self.purges.items() if concerned & purge.segments]:
                self.stop_one(key, [error])

    def stop_one(self, key: IncarnationKey, errors: Sequence[BackupdError]) -> None:
        """Leave out a purge if there is an error, and note that."""
        for error in errors[:1]:
            del self.purges[key]
            with self._isolated:
                raise error


class _Isolated:
    """A block in which the errors of one store are noted under its name, so that they do not stop the others."""

    def __init__(self, errors: dict[str, BackupdError], name: str) -> None:
        self._errors = errors
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, StoreError | DamageError | RefusedError | BusyError):
            return False
        self._errors[self._name] = error
        return True


def check_shrunk(
    keeper: Keeper,
    store: str,
    cache: KeyringCache,
    repository: Repository,
    unsound: dict[ObjectName, BackupdError] | None = None,
) -> set[SegmentRef]:
    """Raise DamageError when a keyring lost lines or changed recipients, and the ledger does not say why.

    Lines are explained by a purge, recipients by a rekeying. A keyring that cannot be believed is put into `unsound`;
    without that, it raises DamageError or RefusedError, too. Returns purged segments of which a changed keyring holds
    the key: nobody shredded it yet, or somebody put an older copy back.
    """
    book, holding = keeper.book, set[SegmentRef]()
    for where in cache.refresh(repository, unsound, keeper.threads):
        try:
            keyring = repository.keyring(where)
        except (DamageError, RefusedError) as error:
            if unsound is None:
                raise
            unsound[where] = error
            continue
        if _unexplained(keyring, book, store, cache) is not None:
            # Another keeper appends to the ledger before it acts, so read what was appended since.
            book.sync()
            if (what := _unexplained(keyring, book, store, cache)) is not None:
                raise DamageError(
                    f"'{where}' {what}",
                    hint="Somebody put it back. Fetch it from another store, or from the store's own snapshots.",
                )
        size = repository.store.stat(where)
        cache.note(keyring, size.size if size is not None else 0)
        holding |= {(keyring.ids.generation, segment) for segment in keyring.segments - keyring.shredded}
    return holding & _purged(book)


def _purged(book: Book) -> set[SegmentRef]:
    return {ref for one in book.states.incarnations.values() if one.purge for ref in one.purge.segments}


def _unexplained(keyring: Keyring, book: Book, store: str, cache: KeyringCache) -> str | None:
    """Return what happened to a keyring that the ledger does not explain; None when all is explained."""
    lost = {(keyring.ids.generation, pseudonym) for pseudonym in keyring.shredded} - _purged(book)
    if lost:
        return f"lost the key of segment {min(lost)[1]}, and the ledger knows of no purge of it"
    before = cache.recipients(ObjectName(keyring.where))
    if before not in (None, keyring.wraps.keys()) and keyring.wraps.keys() not in rekeyed_to(
        book.chain.entries(), store
    ):
        return "changed its recipients, and the ledger knows of no rekeying"
    return None


def _purge_of(states: TenantStates, key: IncarnationKey) -> Purge:
    incarnation: Incarnation = states.incarnations[key]
    if incarnation.purge is None:
        raise RefusedError(f"the purge of tenant {key.tenant} has not begun")
    return incarnation.purge


_STRAGGLING: timedelta = 3 * LONGEST_RUN
"""How long after the beginning of a purge a run that was under way may still add something of the tenant."""


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """The incarnations that a run works on; unfinished ones are taken up again until they are finished."""

    due: tuple[IncarnationKey, ...]
    """Incarnations whose purge begins now; it cannot be undone."""
    unfinished: tuple[IncarnationKey, ...]
    late: tuple[IncarnationKey, ...]
    """Incarnations purged long ago of which something has turned up since."""


@dataclass(frozen=True, slots=True)
class PurgeRun:
    """The result of one keeper run over a region."""

    plan: PurgePlan
    done: tuple[Purged, ...]
    refused: Mapping[IncarnationKey, str]
    """Incarnations that were left alone, and why: the tenant returned, or is held, or too much of it turned up."""
    errors: Mapping[str, BackupdError]
    """Errors by store; what is left to do there is done the next time."""
    forgeries: tuple[str, ...] = ()
    """Sentences about listings in keyrings that nothing was done about, because they are forged."""
    grown: tuple[IncarnationKey, ...] = ()
    """Those of `refused` of which more turned up since their purge began than is usual: somebody has to look."""


def purge_due(keeper: Keeper, confirmed: int | None = None) -> PurgeRun:
    """Purge every incarnation that is due on every store that can be reached, then record which stores were seen.

    `confirmed` is the number of tenants, or of segments that turned up, that somebody agreed to. Raises RefusedError
    when more tenants are due than is usual and that number was not confirmed; then nothing was done.
    """
    with Phases(keeper.clock, keeper.trace, keeper.region).phase("purging", unit="tenants"):
        with Purging(keeper) as purging:
            plan = plan_purges(keeper, purging)
            check_number(len(plan.due), keeper.rules.most_tenants, confirmed, "tenants")
            keys = dict.fromkeys([*plan.due, *plan.unfinished, *plan.late])
            begun = purging.begin(keys, confirmed)
            done = purging.advance([key for key in keys if key not in begun.refused], begun.grown)
            errors, forgeries = dict(purging.errors), tuple(purging.forgeries)
        _observe(keeper, errors)
        for sentence in forgeries:
            keeper.trace.emit(Warned(sentence, "Nothing is done because of it. See `backupd manual incidents`."))
    refused = {key: error.message for key, error in {**begun.refused, **begun.grown}.items()}
    grown = tuple(key for key in refused if key not in plan.due)
    whole = tuple(one for one in done if one.incarnation not in begun.grown)
    return PurgeRun(plan, whole, refused, errors, forgeries, grown)


def plan_purges(keeper: Keeper, purging: Purging) -> PurgePlan:
    """Decide which purges to begin, to finish, and to repeat now."""
    states, now = keeper.book.states, keeper.clock.now()
    begun = [one for one in states.incarnations.values() if one.purge is not None]
    unfinished = [one.key for one in begun if _unfinished(one, now)]
    late = [
        one.key
        for one in begun
        if one.key not in unfinished
        and one.purge
        and (purging.find(one.key) - one.purge.segments or purging.returned & one.purge.segments)
    ]
    return PurgePlan(tuple(one.key for one in states.due(now)), tuple(unfinished), tuple(late))


def _unfinished(incarnation: Incarnation, now: datetime) -> bool:
    purge = incarnation.purge
    return purge is not None and (now - purge.began < _STRAGGLING or not purge.stores <= purge.absent.keys())


def _observe(keeper: Keeper, errors: Mapping[str, BackupdError]) -> None:
    """Append to the ledger that the run came to its end on these stores, with the snapshots that they show."""
    seen = [
        Observed(store=name, snapshots=[snapshot.name for snapshot in repository.store.snapshots()])
        for name, repository in keeper.stores.items()
        if name not in errors
    ]
    keeper.book.append(lambda _: list(seen))
