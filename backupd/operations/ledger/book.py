"""One region's ledger: the same chain on every store and in this machine's own copy, which is a witness of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from backupd.catalog.layout import entry_name
from backupd.catalog.ledger import Chain, listed, next_document, put_entry, read_chain
from backupd.errors import ConfigError, DamageError, ObjectExistsError, RefusedError, StoreGoneError
from backupd.model.ids import RegionName, RepositoryId
from backupd.model.instants import stamp
from backupd.planning.lifecycle.lives import Lives, fold
from backupd.store.server_time import clocks_differ, server_time

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.clock import Clock
    from backupd.model.stored.ledger import Event
    from backupd.seal.documents import Signer
    from backupd.store.base import Store

Decide: TypeAlias = "Callable[[Lives], list[Event]]"
"""Events that follow from a state; asked again when the ledger has grown meanwhile."""

_ATTEMPTS = 8
"""To append while others do, too."""
_ASKED_AGAIN = 600.0
"""Seconds after which a store is asked for its time again."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a region's ledger lies, and who writes it."""

    region: RegionName
    repository: RepositoryId
    stores: Mapping[str, Store]
    """By configured name."""
    copy: Store
    """Of this machine."""
    trusted: frozenset[str]
    """Signers whose entries are believed, 64 hex each."""
    clock: Clock
    signer: Signer | None = field(default=None, repr=False)
    """None: this machine only reads."""
    tolerance: timedelta | None = None
    """How far this machine's clock may be from a store's for an entry to be appended; None: nobody asks."""
    random: Callable[[int], bytes] = field(default=os.urandom, repr=False)


class Book:
    """The ledger as this machine knows it. For one thread."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folded: tuple[int, Lives] = 0, Lives()
        self.chain, _ = read_chain(place.copy, Chain(place.region, place.repository), place.trusted)
        self.unreached: dict[str, StoreGoneError] = {}
        """Stores the last `sync` or `append` could not reach; they get what they lack the next time."""
        self._agreed: tuple[float, datetime] | None = None
        self.lengths: dict[str, int] = {}
        """How many entries the stores had that the last `sync` reached."""

    @property
    def trusted(self) -> frozenset[str]:
        """Whose entries are believed, 64 hex each."""
        return self._place.trusted

    @property
    def stores(self) -> tuple[str, ...]:
        """Where the ledger lies, by configured name."""
        return tuple(self._place.stores)

    @property
    def lives(self) -> Lives:
        done, lives = self._folded
        if done < len(self.chain.links):
            lives = fold(self.chain.entries(done), lives)
            self._folded = len(self.chain.links), lives
        return lives

    def sync(self, *, anew: bool = False) -> Chain:
        """Take what stores have and we lack; with a signer, give every store what it lacks.

        `anew` reads and compares every entry of every store. Raises DamageError when two of them disagree, and the
        first StoreGoneError when no store can be reached.
        """
        self.unreached = {}
        lengths: dict[str, int] = {}
        # What another process of this machine appends stands in the copy first.
        self.chain, _ = read_chain(self._place.copy, self.chain, self._place.trusted)
        for name, store in self._place.stores.items():
            try:
                self.chain, lengths[name] = read_chain(store, self.chain, self._place.trusted, anew=anew)
            except StoreGoneError as error:
                self.unreached[name] = error
            except DamageError as error:
                raise DamageError(f"on store '{name}': {error.message}", hint=error.hint) from error
        if self.unreached and not lengths:
            raise next(iter(self.unreached.values()))
        self.lengths = lengths
        self.chain.copy_to(self._place.copy, listed(self._place.copy))
        if self._place.signer is not None:
            for name, length in lengths.items():
                self._give_reached(name, length)
        return self.chain

    def give(self, name: str) -> None:
        """See to it that a store has every entry: whoever looks there alone must know what may be missing.

        Raises StoreGoneError when it still cannot be reached, DamageError when its ledger is another.
        """
        if name in self.unreached:
            store = self._place.stores[name]
            self.chain, length = read_chain(store, self.chain, self._place.trusted)
            self.chain.copy_to(store, length)
            del self.unreached[name]

    def append(self, decide: Decide) -> list[Event]:
        """Append what `decide` answers, in one entry, to every store that can be reached; nothing when it is nothing.

        It was appended when this returns: at least one store has it. Where StoreGoneError is raised it may be, and the
        next `sync` sees to it that every store gets it. Raises what `decide` and `sync` raise, ConfigError when this
        machine has no key to sign with, RefusedError when the clock runs behind the ledger or differs from that of
        every store, and DamageError when the stores disagree.
        """
        for _ in range(_ATTEMPTS):
            events = decide(self.lives)
            if not events:
                return []
            if self._appended(events):
                return events
            self.sync()
        raise RefusedError("other keepers append to the ledger faster than this one", hint="Run one keeper a region.")

    def _appended(self, events: list[Event]) -> bool:
        """False when somebody else's entry has the place; then nothing was appended."""
        document = self._signed(events)
        self._check_clock()
        # Read as everybody will read it, before anybody can: an entry that cannot be read ends the ledger for good.
        extended = self.chain.extended(document, self._place.trusted)
        seq, taken, doubtful = len(self.chain.links) + 1, 0, False
        # Here first: a store that broke off may have the entry, and be away when the next one is decided.
        try:
            put_entry(self._place.copy, seq, document)
        except ObjectExistsError:
            return False
        for name, store in self._place.stores.items():
            if name in self.unreached:
                continue
            try:
                put_entry(store, seq, document)
            except StoreGoneError as error:
                self.unreached[name] = error
                doubtful = True
            except ObjectExistsError:
                if taken or doubtful:
                    raise DamageError(
                        f"the ledger of store '{name}' went another way at entry {seq}",
                        hint="Two keepers wrote at once. Stop one, and compare the stores' copies of the ledger.",
                    ) from None
                self._place.copy.remove(entry_name(seq))
                return False
            else:
                taken += 1
        if not taken:
            raise next(iter(self.unreached.values()))
        self.chain = extended
        return True

    def _signed(self, events: list[Event]) -> bytes:
        place = self._place
        if place.signer is None:
            raise ConfigError(
                "this machine does not keep the ledger",
                hint="Run this on the keeper: the machine whose configuration has a [keeper] section.",
            )
        if place.signer.public not in place.trusted:
            raise ConfigError(
                "this keeper's signing key is not trusted",
                hint=f'Add "{place.signer.public}" to `keepers` under [trust], here and wherever backups are read.',
            )
        now = place.clock.now()
        last = self.chain.links[-1].entry.at if self.chain.links else ""
        if stamp(now) < last:
            raise RefusedError(
                f"the clock says {stamp(now)}, but the ledger's last entry is of {last}",
                hint="Set the clock. If the ledger is the one that is wrong, nothing can be appended until it is past.",
            )
        return next_document(self.chain, stamp(now), events, place.signer)

    def _check_clock(self) -> None:
        """A clock that is ahead would put events, and all that must come after them, into the future for good."""
        place = self._place
        if place.tolerance is None or self._still_agrees(place.tolerance):
            return
        differing: list[RefusedError] = []
        for name, store in place.stores.items():
            if name in self.unreached:
                continue
            try:
                theirs = server_time(store, place.random)
            except StoreGoneError:
                continue  # it is asked to take the entry next, and then told of
            now = place.clock.now()
            if abs(theirs - now) <= place.tolerance:
                self._agreed = place.clock.monotonic(), now
                return
            differing.append(clocks_differ(name, theirs, now))
        if differing:
            raise differing[0]

    def _still_agrees(self, tolerance: timedelta) -> bool:
        """Whether a store was asked a moment ago, and the clock was not set since."""
        if self._agreed is None:
            return False
        place, (then, at) = self._place, self._agreed
        passed = place.clock.monotonic() - then
        return passed < _ASKED_AGAIN and abs(place.clock.now() - at - timedelta(seconds=passed)) <= tolerance / 2

    def _give_reached(self, name: str, length: int) -> None:
        try:
            self.chain.copy_to(self._place.stores[name], length)
        except StoreGoneError as error:
            self.unreached[name] = error
