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

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Self

from backupd.errors import BackupdError, BusyError, DamageError, RefusedError, StoreError, StoreGoneError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym
from backupd.model.ledger import Absent, Cleared, Event, Observed, SegmentRef, Shredded
from backupd.operations.keeper.guards import check_clock, check_number
from backupd.operations.keeper.keyrings import replace_keyring
from backupd.operations.keeper.life_segments import check_growth, find_segments, forgery, next_beginning
from backupd.operations.keeper.pack_rewrite import TakenOut, take_out
from backupd.operations.keeper.server_snapshots import (
    by_keyring,
    from_before,
    is_from_before,
    look_into_snapshots,
    oldest_upload,
)
from backupd.operations.keeper.types import Keeper, Purged
from backupd.operations.ledger import Book
from backupd.operations.phases import Phases
from backupd.parallel import in_parallel
from backupd.planning.incarnations import Incarnation, IncarnationKey, Purge, TenantStates
from backupd.planning.ledger_facts import rekeyed_to
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.repository import Repository
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.repository.state.pack_cache import StoredPack, segments_by_generation
from backupd.seal.keyring import Keyring, without_lines
from backupd.seal.pack import PackHeader
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
                self.returned |= check_shrunk(self._keeper.book, name, cache, repository, unsound)
                self._caches[name] = cache
                for error in unsound.values():
                    self.errors[name] = error
                self.forgeries += [forgery(name, listed) for listed in cache.forgeries()]
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
        grown = self._begin(key, confirmed)
        done: list[Purged] = []
        for name in self._caches:
            with self._isolated(name):
                done.append(self._on(name, key, whole=not grown))
        for error in grown:
            raise error
        return done

    def _begin(self, key: IncarnationKey, confirmed: int | None = None) -> list[RefusedError]:
        life = self._due(self._keeper.book.states, key)
        if life.purge is None:
            self._check_clocks()
        found = self.find(key)
        if grown := check_growth(life, found, confirmed):
            return grown

        def decide(lives: TenantStates) -> list[Event]:
            return next_beginning(self._due(lives, key), found, {*self._keeper.stores})

        while self._keeper.book.append(decide):
            pass  # more than one entry holds
        return []

    def _due(self, lives: TenantStates, key: IncarnationKey) -> Incarnation:
        life = lives.incarnations.get(key)
        if life is None or (life.purge is None and life not in lives.due(self._keeper.clock.now())):
            raise RefusedError(f"tenant {key.tenant} is not due to be purged", hint="See `backupd tenant show`.")
        return life

    def _check_clocks(self) -> None:
        """Check that at least one store agrees about the time, because a purge cannot be undone.

        Raises the first store's error.
        """
        differing: list[BackupdError] = []
        for name in self._caches:
            try:
                check_clock(self._keeper, name)
            except (StoreError, RefusedError) as error:
                differing.append(error)
        if differing and len(differing) == len(self._caches):
            raise differing[0]

    def _on(self, name: str, key: IncarnationKey, *, whole: bool) -> Purged:
        keeper, repository = self._keeper, self._keeper.stores[name]
        purge = _purge_of(keeper.book.states, key)
        check_clock(keeper, name)
        keeper.book.give(name)
        # Before the packs are listed, too: what is moved from there into their folder meanwhile is seen in one of them.
        uploads = self._unfinished[name], oldest_upload(repository.store)
        keyrings = shred(keeper, name, self._caches[name], purge.segments)
        known = {one.keyring for one in self._caches[name].find(purge.segments)}
        listing = {where: error for where, error in self._unsound[name].items() if where in known}
        others = {where: error for where, error in self._unsound[name].items() if where not in known}
        unsound = [*listing.values(), *from_before(repository.store, others, purge.began)]
        self._note(
            Shredded(**key._asdict(), store=name, keyrings=keyrings),
            done=bool(unsound) or (name in purge.shredded and not keyrings),
        )
        objects, size = clear(keeper, name, self._caches[name], purge.segments, purge.began)
        self._note(
            Cleared(**key._asdict(), store=name, objects=objects, bytes=size),
            done=name in purge.cleared and not objects,
        )
        for error in unsound:
            raise error
        looked_at = keeper.clock.now()
        seen = look_into_snapshots(keeper, name, purge, self._caches[name])
        unfinished = any(is_from_before(one, purge.began) for one in uploads)
        still_in = seen.still_in or ((layout.TEMPORARY,) if unfinished else () if whole else (layout.KEYRINGS,))
        if not still_in:
            self._note(
                Absent(**key._asdict(), store=name, snapshots=list(seen.looked_into)),
                done=name in purge.absent and not keyrings and not objects,
            )
        return Purged(name, key, keyrings, objects, size, not still_in, still_in, seen.looked_into, looked_at)

    def _note(self, event: Event, *, done: bool) -> None:
        if not done:
            self._keeper.book.append(lambda _: [event])

    def _isolated(self, name: str) -> _Isolated:
        return _Isolated(self.errors, name)


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


def shred(keeper: Keeper, store: str, cache: KeyringCache, segments: Iterable[SegmentRef]) -> int:
    """Take these segments' lines out of every keyring of a store; returns how many keyrings were replaced.

    Each is compared with the old one before, and read again afterwards. Raises DamageError for one that cannot be
    believed.
    """
    written = 0
    for where, doomed in by_keyring(cache.find(segments)).items():
        keyring = keeper.stores[store].keyring(where)
        if not (doomed & keyring.segments) - keyring.shredded:
            continue
        after, size = replace_keyring(
            keeper,
            store,
            where,
            partial(_without, doomed),
            partial(_check_smaller, doomed),
        )
        if not doomed <= after.shredded:
            raise DamageError(f"'{where}' still holds keys that were just removed from it")
        cache.note(after, size)
        written += 1
    return written


def _without(doomed: set[Pseudonym], data: bytes, keyring: Keyring) -> bytes:
    return without_lines(data, keyring, doomed)


def _check_smaller(doomed: set[Pseudonym], keyring: Keyring, smaller: Keyring) -> None:
    """Raise DamageError unless the new keyring lacks the doomed lines only.

    The keyring was read a second time, and that reading may have been wrong.
    """
    kept = {place: sealed for place, sealed in keyring.sealed.items() if keyring.index[place][0] not in doomed}
    if (smaller.ids, smaller.index, smaller.wraps, smaller.sealed) != (keyring.ids, keyring.index, keyring.wraps, kept):
        raise DamageError(f"'{keyring.where}' was read twice, and was not the same", hint="The next run tries again.")


def clear(
    keeper: Keeper, store: str, cache: KeyringCache, segments: Iterable[SegmentRef], began: datetime | None = None
) -> tuple[int, int]:
    """Take the segments' sections out of every pack of a store; returns the number of rewritten packs, and the bytes of
    all sections taken out.

    The packs are listed until none is new. Raises what stopped the work on single packs once all others are done, and
    StoreError when packs keep arriving.
    """
    objects = size = 0
    errors: dict[ObjectName, BackupdError] = {}
    unsound: dict[ObjectName, BackupdError] = {}
    for generation, doomed in sorted(segments_by_generation(segments).items()):
        done: set[ObjectHash] = set()
        for _ in range(_LISTINGS):
            listed = cache.packs.refresh(keeper.stores[store], generation, keeper.threads, unsound)
            holding = cache.packs.listing(generation, doomed) - done
            fresh = [pack for pack in listed if pack.sha256 in holding]
            if not fresh:
                break
            done |= holding
            for taken in _take_all(keeper, store, _headers(cache, generation, fresh), doomed, errors):
                objects, size = objects + bool(taken.sections), size + taken.bytes
        else:
            raise StoreError(f"packs keep arriving in generation {generation}", hint="The next run goes on.")
    for first in (*errors.values(), *from_before(keeper.stores[store].store, unsound, began)):
        raise first
    return objects, size


def _headers(cache: KeyringCache, generation: GenerationId, packs: Iterable[StoredPack]) -> Iterator[PackHeader]:
    for pack in packs:
        header = cache.packs.header(generation, pack.sha256)
        if header is None:
            raise DamageError(f"the header of '{pack.name}' is not known", hint="The next run reads it.")
        yield header


def _take_all(
    keeper: Keeper,
    store: str,
    headers: Iterable[PackHeader],
    doomed: set[Pseudonym],
    errors: dict[ObjectName, BackupdError],
) -> Iterator[TakenOut]:
    """Take the doomed segments' sections out of these packs, several at once.

    Errors of single packs are put into `errors`; raises StoreGoneError.
    """

    def choose(header: PackHeader) -> list[int]:
        return [place for place, row in enumerate(header.rows) if row.segment in doomed]

    for header, taken in in_parallel(lambda one: take_out(keeper, store, one, choose), headers, keeper.threads):
        try:
            yield taken.result()
        except StoreGoneError:
            raise
        except (DamageError, StoreError, BusyError) as error:
            errors[layout.pack_name(header.context.generation, header.sha256)] = error


def check_shrunk(
    book: Book,
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
    holding: set[SegmentRef] = set()
    for where in cache.refresh(repository, unsound):
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
    return {ref for life in book.states.incarnations.values() if life.purge for ref in life.purge.segments}


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


def _purge_of(lives: TenantStates, key: IncarnationKey) -> Purge:
    life: Incarnation = lives.incarnations[key]
    if life.purge is None:
        raise RefusedError(f"the purge of tenant {key.tenant} has not begun")
    return life.purge


_LISTINGS = 10
"""Times that a generation's packs are listed at most, while new ones arrive."""
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
        done: list[Purged] = []
        refused: dict[IncarnationKey, str] = {}
        grown: list[IncarnationKey] = []
        with Purging(keeper) as purging:
            plan = plan_purges(keeper, purging)
            check_number(len(plan.due), keeper.rules.most_tenants, confirmed, "tenants")
            for key in dict.fromkeys([*plan.due, *plan.unfinished, *plan.late]):
                try:
                    done += purging.purge(key, confirmed)
                except RefusedError as error:
                    refused[key] = error.message
                    grown += [key] if key not in plan.due else []
            errors, forgeries = dict(purging.errors), tuple(purging.forgeries)
        _observe(keeper, errors)
        for sentence in forgeries:
            keeper.trace.emit(Warned(sentence, "Nothing is done because of it. See `backupd manual incidents`."))
    return PurgeRun(plan, tuple(done), refused, errors, forgeries, tuple(grown))


def plan_purges(keeper: Keeper, purging: Purging) -> PurgePlan:
    """Decide which purges to begin, to finish, and to repeat now."""
    lives, now = keeper.book.states, keeper.clock.now()
    begun = [life for life in lives.incarnations.values() if life.purge is not None]
    unfinished = [life.key for life in begun if _unfinished(life, now)]
    late = [
        life.key
        for life in begun
        if life.key not in unfinished
        and life.purge
        and (purging.find(life.key) - life.purge.segments or purging.returned & life.purge.segments)
    ]
    return PurgePlan(tuple(life.key for life in lives.due(now)), tuple(unfinished), tuple(late))


def _unfinished(life: Incarnation, now: datetime) -> bool:
    purge = life.purge
    return purge is not None and (now - purge.began < _STRAGGLING or not purge.stores <= purge.absent.keys())


def _observe(keeper: Keeper, errors: Mapping[str, BackupdError]) -> None:
    """Append to the ledger that the run came to its end on these stores, with the snapshots that they show."""
    seen = [
        Observed(store=name, snapshots=[snapshot.name for snapshot in repository.store.snapshots()])
        for name, repository in keeper.stores.items()
        if name not in errors
    ]
    keeper.book.append(lambda _: list(seen))
