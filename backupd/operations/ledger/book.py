"""One region's ledger: the same chain of entries on every store and in this machine's own copy, which is a witness of
what the stores once had.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from backupd.clock import Clock
from backupd.errors import (
    OUT_OF_REACH,
    ConfigError,
    DamageError,
    ObjectExistsError,
    ObjectMissingError,
    RefusedError,
    StoreAuthError,
    StoreError,
    StoreGoneError,
)
from backupd.model.ids import ObjectName, RegionName, RepositoryId
from backupd.model.ledger import Event, Misdated, kind_of
from backupd.model.text import stamp
from backupd.operations.ledger.pending import PendingEntries
from backupd.planning.incarnations import TenantStates, fold
from backupd.repository.ledger import Chain, next_document, put_entry, read_chain, why_stray
from backupd.repository.moved_objects import clear_place
from backupd.repository.own_ledger import read_own
from backupd.seal.documents import Signer
from backupd.store.base import Store
from backupd.store.server import clocks_differ, server_time
from backupd.trace import NoTrace, Trace, Warned

Decide: TypeAlias = "Callable[[TenantStates], list[Event]]"
"""Returns the events that follow from a state; it is called again when the ledger has grown meanwhile."""

TOLERANCE = timedelta(minutes=5)
"""How far clocks may differ where nothing is configured."""
_ATTEMPTS = 8
"""How often an entry is tried while others append, too."""
_ASKED_AGAIN = 600.0
"""Seconds after which a store is asked for its time again."""


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """The stores and the copy that hold a region's ledger, the key that signs it, and the keys to believe."""

    region: RegionName
    repository: RepositoryId
    stores: Mapping[str, Store]
    """The region's stores by their configured names."""
    copy: Store
    """This machine's own copy of the ledger."""
    trusted: frozenset[str]
    """Public keys whose entries are believed, 64 hex digits each."""
    clock: Clock
    signer: Signer | None = field(default=None, repr=False)
    """The key that signs new entries; None when this machine only reads."""
    tolerance: timedelta = TOLERANCE
    """How far this machine's clock may be from a store's for an entry to be appended."""
    random: Callable[[int], bytes] = field(default=os.urandom, repr=False)
    trace: Trace = field(default_factory=NoTrace, repr=False)
    """Gets a warning for each entry of this machine that was dropped."""


class Book:
    """The ledger as this machine knows it. For one thread."""

    def __init__(self, place: LedgerPlace) -> None:
        self._place = place
        self._pending = PendingEntries(place.copy)
        self._unsent: StoreError | None = None
        """The reason why the entry that this machine began to append earlier is still on no store."""
        self._folded: tuple[int, int, TenantStates] = 0, 0, TenantStates()
        """How many entries were folded into the state, how many of them are misdated, and the state."""
        self.chain = read_own(place.copy, Chain(place.region, place.repository), place.trusted).chain
        self.unreached: dict[str, StoreGoneError | StoreAuthError] = {}
        """Stores that the last `sync` or `append` could not reach; they get what they lack the next time."""
        self._agreed: tuple[float, datetime] | None = None
        self.lengths: dict[str, int] = {}
        """How many entries each store had that the last `sync` reached."""

    @property
    def trusted(self) -> frozenset[str]:
        """The public keys whose entries are believed, 64 hex digits each."""
        return self._place.trusted - self.chain.retired

    @property
    def stores(self) -> tuple[str, ...]:
        """The configured names of the stores on which the ledger lies."""
        return tuple(self._place.stores)

    @property
    def states(self) -> TenantStates:
        done, misdated, states = self._folded
        if misdated != len(self.chain.misdated):
            done, states = 0, TenantStates()  # entries that were folded are read with other dates now
        if done < len(self.chain.links):
            states = fold(self.chain.entries(done), states)
            self._folded = len(self.chain.links), len(self.chain.misdated), states
        return states

    @property
    def ahead(self) -> list[int]:
        """The numbers of entries that are dated ahead of this machine's clock and are not yet declared misdated."""
        return self.chain.dated_after(self._latest)

    @property
    def _latest(self) -> str:
        """The stamp up to which an entry may lie in the future, because clocks differ."""
        return stamp(self._place.clock.now() + self._place.tolerance)

    def sync(
        self, *, from_start: bool = False, away: Mapping[str, StoreGoneError | StoreAuthError] | None = None
    ) -> Chain:
        """Read the entries that this machine lacks; with a signer, give every store the entries that it lacks.

        Before that, an entry that this machine began to append earlier is settled: it is put on the stores where its
        number is free, and dropped, with a warning, where another keeper's entry has it.

        With `from_start`, every entry of every store is read and compared. Stores that are known to be `away`, each
        with its error, are not asked. Raises DamageError when two disagree, and the first error when no store can be
        reached.
        """
        self.unreached = dict(away or {})
        lengths: dict[str, int] = {}
        # An entry that another process of this machine appends is in the copy first.
        own = read_own(self._place.copy, self.chain, self._place.trusted)
        self.chain = own.chain
        for name, store in self._place.stores.items():
            if name in self.unreached:
                continue
            try:
                self.chain, lengths[name] = self._read(name, store, compare_all=from_start)
            except OUT_OF_REACH as error:
                self.unreached[name] = error
            except DamageError as error:
                raise DamageError(f"on store '{name}': {error.message}", hint=error.hint) from error
        if self.unreached and not lengths:
            raise next(iter(self.unreached.values()))
        if self.unreached and max(own.unreadable, default=0) > len(self.chain.links):
            raise next(iter(self.unreached.values()))  # that store may have the entry which cannot be read here
        self.lengths = lengths
        own.mend(self._place.copy, self.chain)
        if self._place.signer is not None:
            for name, length in lengths.items():
                self._give_reached(name, length)
            self._settle()
        return self.chain

    def _read(self, name: str, store: Store, *, compare_all: bool = False) -> tuple[Chain, int]:
        """Read what a store has; a keeper removes from it what stands in the next entries' places."""
        strays = list[ObjectName]()
        read = read_chain(store, self.chain, self._place.trusted, compare_all=compare_all, strays=strays)
        for stray in strays:
            why = why_stray(store, stray, read[0].retired)
            if self._place.signer is not None:
                clear_place(store, stray, "ledger")
            self.warn(
                f"'{stray}' on store '{name}' is no entry: {why}"
                + ("; it was removed" if self._place.signer is not None else ""),
                "Somebody who may add objects put it there (`backupd manual incidents`). If a keeper of yours did, add "
                "its public key to trust.keepers, here and in `backupd store accept`.",
            )
        return read

    def give(self, name: str) -> None:
        """Make sure that a store has every entry.

        A reader who sees only this store must know what may be missing there. Raises its error when it still
        cannot be reached, DamageError when its ledger is another.
        """
        if name in self.unreached:
            store = self._place.stores[name]
            self.chain, length = self._read(name, store)
            self.chain.copy_to(store, length)
            del self.unreached[name]

    def append(self, decide: Decide) -> list[Event]:
        """Append the events that `decide` returns, as one entry; no entry when there are none.

        It was appended when this returns: at least one store has it. Where no store can be reached it may be, and the
        next `sync` makes sure that every store gets it. Raises what `decide` and `sync` raise, ConfigError when this
        machine has no key to sign with, what `require_clock` raises, RefusedError when the clock runs behind the
        ledger, and DamageError when the stores disagree.
        """
        for _ in range(_ATTEMPTS):
            events = decide(self.states)
            if not events:
                return []
            if self._appended(events):
                return events
            self.sync()
            if self._unsent is not None:
                raise self._unsent
        raise RefusedError("other keepers append to the ledger faster than this one", hint="Run one keeper a region.")

    def _appended(self, events: list[Event]) -> bool:
        """Append one entry; returns False when another writer's entry has the number, and then nothing was appended."""
        document = self._signed(events)
        self.require_clock()
        # Read as everybody will read it, before anybody can: an entry that cannot be read ends the ledger for good.
        extended = self.chain.extended(document, self._place.trusted)
        # Noted here first: a store that broke the connection may have the entry, and be unreachable for the next one.
        try:
            self._pending.put(len(extended.links), document)
        except ObjectExistsError:
            return False
        if self._published(extended):
            return True
        self._pending.remove(len(extended.links))
        return False

    def _published(self, extended: Chain) -> bool:
        """Put the pending entry that ends this chain on every store; return False when its number is taken.

        As soon as one store has it, this machine's own copy has it as a witness. Raises the first store's error when
        none took it: it stays pending then.
        """
        seq, document, taken = len(extended.links), extended.links[-1].data, 0
        for name, store in self._place.stores.items():
            if name in self.unreached:
                continue
            try:
                put_entry(store, seq, document)
            except OUT_OF_REACH as error:
                self.unreached[name] = error
            except ObjectExistsError:
                if taken:
                    raise _forked(f"the ledger of store '{name}'", seq) from None
                return False
            else:
                taken += 1
                self._acknowledge(extended)
        if not taken:
            raise next(iter(self.unreached.values()))
        return True

    def _acknowledge(self, extended: Chain) -> None:
        """Copy an entry that a store has into this machine's own copy; from now on it must never be missing."""
        seq = len(extended.links)
        try:
            put_entry(self._place.copy, seq, extended.links[-1].data)
        except ObjectExistsError:
            raise _forked("this machine's own copy of the ledger", seq) from None
        except StoreError:
            self.chain = extended  # a store has it, whatever this machine can keep
            raise
        self._pending.remove(seq)
        self.chain = extended

    def _settle(self) -> None:
        """Finish what an earlier run began to append, or drop it; an error of a store is kept for `append` to raise."""
        self._unsent = None
        for seq in self._pending.numbers():
            try:
                self._settle_entry(seq, self._pending.document(seq))
            except ObjectMissingError:
                continue
            except StoreError as error:
                self._unsent = error

    def _settle_entry(self, seq: int, document: bytes) -> None:
        known = len(self.chain.links)
        if seq > known + 1:
            return  # what comes before it is missing here; it waits until that is found
        if seq <= known and self.chain.links[seq - 1].data == document:
            self._pending.remove(seq)
            return
        extended = self._extended_to(seq, document)
        if extended is not None and seq == known + 1 and self._published(extended):
            return
        self._pending.remove(seq)
        events = extended.links[-1].entry.events if extended is not None else []
        kinds = ", ".join(sorted({kind_of(event) for event in events})) or "unreadable"
        self.warn(
            f"entry {seq} of the ledger ({kinds}), which no store had taken, was dropped",
            "Another keeper's entry has its place, or it cannot be read. The command that said it had failed; give it "
            "again where it still holds (`backupd manual tenants`).",
        )

    def _extended_to(self, seq: int, document: bytes) -> Chain | None:
        """Return the chain with the document at that number; None when it cannot be an entry there."""
        before = replace(self.chain, links=self.chain.links[: seq - 1])
        try:
            return before.extended(document, self._place.trusted)
        except (DamageError, RefusedError):
            return None

    def _signed(self, events: list[Event]) -> bytes:
        place = self._place
        if place.signer is None:
            raise ConfigError(
                "this machine does not keep the ledger",
                hint="Run this on the keeper: the machine whose configuration has a [keeper] section.",
            )
        if place.signer.public in self.chain.retired:
            raise ConfigError(
                "this keeper was retired by an entry of the ledger",
                hint="Make it a new key (`backupd key generate --signer`), and add that to `keepers` under [trust].",
            )
        if place.signer.public not in place.trusted:
            raise ConfigError(
                "this keeper's signing key is not trusted",
                hint=f'Add "{place.signer.public}" to `keepers` under [trust], here and wherever backups are read.',
            )
        now = place.clock.now()
        require_not_behind(
            self.chain, now, [seq for event in events if isinstance(event, Misdated) for seq in event.entries]
        )
        return next_document(self.chain, stamp(now), events, place.signer)

    def warn(self, message: str, hint: str) -> None:
        """Report something about the ledger that stops nothing."""
        self._place.trace.emit(Warned(message, hint=hint))

    def is_ahead(self, at: str) -> bool:
        """Check whether a stamp lies in the future by more than clocks may differ."""
        return at > self._latest

    def require_dates(self) -> None:
        """Raise RefusedError when an entry appended now would be refused for its date.

        A run asks before it begins, when only its last step is an entry: its hours would be in vain. Raises the first
        store's error when none can be asked.
        """
        require_not_behind(self.chain, self._place.clock.now())
        self.require_clock()

    def require_clock(self, *, everywhere: bool = False) -> None:
        """Compare this machine's clock with the stores', so that no event is put into the future for good.

        One store that agrees is enough; with `everywhere`, all that can be reached must. Raises RefusedError when one
        differs and that was not enough, and the first store's error when none can be asked.
        """
        if not everywhere and self._still_agrees():
            return
        agreed, refused = False, list[RefusedError | StoreError]()
        for name, store in self._place.stores.items():
            if name in self.unreached:
                continue
            try:
                self._compare(name, store)
            except OUT_OF_REACH as error:
                self.unreached[name] = error
            except (RefusedError, StoreError) as error:
                refused.append(error)
            else:
                if not everywhere:
                    return
                agreed = True
        if agreed and not refused:
            return
        raise next(iter((*sorted(refused, key=lambda one: isinstance(one, StoreError)), *self.unreached.values())))

    def _compare(self, name: str, store: Store) -> None:
        theirs, now = server_time(store, self._place.random), self._place.clock.now()
        if abs(theirs - now) > self._place.tolerance:
            raise clocks_differ(name, theirs, now)
        self._agreed = self._place.clock.monotonic(), now

    def _still_agrees(self) -> bool:
        """Check whether a store was asked at most ten minutes ago, and the clock was not set since."""
        if self._agreed is None:
            return False
        place, (then, at) = self._place, self._agreed
        passed = place.clock.monotonic() - then
        return passed < _ASKED_AGAIN and abs(place.clock.now() - at - timedelta(seconds=passed)) <= place.tolerance / 2

    def _give_reached(self, name: str, length: int) -> None:
        try:
            self.chain.copy_to(self._place.stores[name], length)
        except OUT_OF_REACH as error:
            self.unreached[name] = error


def require_not_behind(chain: Chain, now: datetime, misdated: Collection[int] = ()) -> None:
    """Raise RefusedError when a clock runs behind the ledger; `misdated` are entries about to be declared misdated."""
    last = chain.last_dated(but=misdated)
    if last is not None and stamp(now) < last.at:
        raise RefusedError(
            f"the clock says {stamp(now)}, but entry {last.seq} of the ledger is of {last.at}",
            hint="Set the clock; nothing was done. If the clock is right, the entry is dated ahead: `backupd ledger "
            "redate` says so, and work goes on.",
        )


def _forked(where: str, seq: int) -> DamageError:
    return DamageError(
        f"{where} went another way at entry {seq}",
        hint="Two keepers wrote at once. Stop one, and compare the stores' copies of the ledger.",
    )
