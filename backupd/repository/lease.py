"""The lease on keeping a store, FORMAT.md §12: of several keepers one works, and one that died is replaced.

A keeper takes or renews the lease by putting the document of the next number: of two keepers, the store lets only one
put it. The store's clock decides how old a lease is. Safety does not depend on the lease: marks and the ledger's own
order keep two keepers from harm. The lease only keeps them from doing the same work twice.

`backupd manual trust`, row *leases*, says who can write this, and what is checked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from backupd.clock import Clock
from backupd.errors import (
    BackupdError,
    BusyError,
    DamageError,
    ObjectExistsError,
    ObjectMissingError,
    StoreError,
    StoreFullError,
)
from backupd.model.ids import ObjectName, RegionName, RepositoryId
from backupd.model.text import UnreadableError, from_json
from backupd.repository import layout
from backupd.repository.moved_objects import clear_place
from backupd.seal.documents import LIMITS, Signer, read_document
from backupd.store.base import Store, put_document
from backupd.store.server import server_time
from backupd.trace import NoTrace, Trace, Warned

LENGTH: Final = timedelta(minutes=10)
"""Time from the last renewal until the lease ends; a keeper that died is replaced after that time."""
_LAST: Final = 9_999_999_999


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    kind: str = "lease"
    format: int = 2
    features: list[str] = []
    region: RegionName
    repository: RepositoryId
    number: Annotated[int, msgspec.Meta(ge=1, le=_LAST)]
    holder: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    node: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)]


@dataclass(frozen=True, slots=True)
class Claimant:
    """The keeper that takes leases, and the region it takes them for."""

    region: RegionName
    repository: RepositoryId
    node: str
    """The machine's configured name, shown to a keeper that finds the lease taken."""
    signer: Signer = field(repr=False)
    trusted: Collection[str]
    """Public keys of keepers, in hex; a lease that others signed is none, and is removed."""
    clock: Clock
    random: Callable[[int], bytes] = field(repr=False)
    length: timedelta = LENGTH
    """Time from the last renewal until the lease ends."""
    trace: Trace = field(default_factory=NoTrace, repr=False)
    """Gets a warning for each thing in a lease's place that was none."""


_SQUATTERS = 5
"""How often something in the next lease's place is removed that is none."""


class Lease:
    """The lease on one store, held by this process, or the reason why it is not."""

    def __init__(self, store: Store, claimant: Claimant, fault: StoreError | None = None) -> None:
        self._store = store
        self._claimant = claimant
        self._holder = claimant.random(16).hex()
        self._number = 0
        self._until = 0.0
        self._fault: BackupdError | None = fault
        self._lock = threading.Lock()

    def require(self) -> None:
        """Raise BusyError when the lease was lost or ran out, or the error that kept it from being taken."""
        if self._fault is not None:
            raise self._fault
        if self._claimant.clock.monotonic() >= self._until:
            raise BusyError(
                "the lease on the store ran out before it could be renewed",
                hint="The next keeper does what is missing.",
            )

    def take(self) -> None:
        """Take the lease. Raises BusyError when another keeper has it, DamageError, StoreError."""
        claimant = self._claimant
        number, newest = self._newest()
        if newest is not None:
            ends = newest[1] + timedelta(seconds=newest[0].seconds)
            if newest[0].seconds and server_time(self._store, claimant.random) < ends:
                raise BusyError(
                    f"the keeper on {newest[0].node} is at work on this store",
                    hint=f"Its lease ends at {ends.astimezone(UTC):%H:%M:%S} UTC, unless it renews it.",
                )
        self._number = number
        self._put(int(claimant.length.total_seconds()))

    def renew(self) -> None:
        """Renew the lease. Raises BusyError when another keeper took it, and the store's errors."""
        self._put(int(self._claimant.length.total_seconds()))

    def release(self) -> None:
        """End the lease at once for others; when the store cannot be reached, it runs out by itself."""
        if self._fault is None:
            with suppress(BackupdError):
                self._put(0)

    def lose(self, fault: BackupdError) -> None:
        """Note that the lease is lost: `require` raises `fault` from now on."""
        self._fault = fault

    def _put(self, seconds: int) -> None:
        """Put the document of the next number, for `seconds` from now, and remove the previous one."""
        with self._lock:
            begun, earlier, number, removed = self._claimant.clock.monotonic(), self._number, self._number + 1, 0
            while removed < _SQUATTERS:
                try:
                    put_document(self._store, layout.lease_name(number), self._document(number, seconds))
                    break
                except ObjectExistsError:
                    if self._remove_squatter(layout.lease_name(number)):
                        removed += 1
                    else:
                        number += 1
            else:
                raise BusyError("the next lease's place is taken again and again", hint="Run this again later.")
            self._number, self._until = number, begun + seconds
            with suppress(StoreError):  # a later one removes it; somebody may have moved something else there
                clear_place(self._store, layout.lease_name(earlier), "lease")

    def _document(self, number: int, seconds: int) -> bytes:
        claimant = self._claimant
        body = _Body(
            region=claimant.region,
            repository=claimant.repository,
            number=number,
            holder=self._holder,
            node=claimant.node,
            seconds=seconds,
        )
        return claimant.signer.sign(msgspec.json.encode(body, order="sorted"), "lease")

    def _remove_squatter(self, name: ObjectName) -> bool:
        """Remove what stands in a lease's place and no keeper signed; False when it has to stay.

        Raises BusyError for a lease.
        """
        try:
            self._read(name)
        except ObjectMissingError:
            return True
        except DamageError as error:
            return self._remove(name, error)
        raise BusyError("another keeper has just begun on this store", hint="Run this again later.")

    def _remove(self, name: ObjectName, error: DamageError) -> bool:
        hint, full = "It was removed. Somebody who may add objects put it there (`backupd manual incidents`).", False
        try:
            clear_place(self._store, name, "lease")
        except StoreFullError:
            hint, full = "It stays: it may be what is missing elsewhere, and there is no room for a copy of it.", True
        self._claimant.trace.emit(Warned(error.message, hint))
        return not full

    def _newest(self) -> tuple[int, tuple[_Body, datetime] | None]:
        """Return the highest number, 0 without any, and its document with the time it was put.

        Older documents, and those that cannot be believed, are removed.
        """
        infos = [
            info
            for info in self._store.list(layout.LEASES)
            if layout.place_of(info.name).kind is layout.ObjectKind.LEASE
        ]
        infos.sort(key=lambda info: info.name, reverse=True)
        found: tuple[_Body, datetime] | None = None
        for info in infos:
            if found is None:
                try:
                    found = self._read(info.name), info.modified
                except DamageError as error:
                    self._remove(info.name, error)
            else:
                with suppress(StoreFullError):  # what is no lease stays where it is until there is room for a copy
                    clear_place(self._store, info.name, "lease")
        return (found[0].number if found else 0), found

    def _read(self, name: ObjectName) -> _Body:
        claimant = self._claimant
        data = self._store.get(name, 0, LIMITS["lease"] + 1)
        try:
            body = from_json(read_document(data, "lease", claimant.trusted, name), _Body)
        except (UnreadableError, msgspec.ValidationError) as error:
            raise DamageError(f"'{name}' is not a lease") from error
        if (body.region, body.repository, layout.lease_name(body.number)) != (
            claimant.region,
            claimant.repository,
            name,
        ):
            raise DamageError(f"'{name}' is not in its own place")
        return body


@contextmanager
def hold_lease(store: Store, claimant: Claimant) -> Iterator[Lease]:
    """Take the store's lease, and renew it on a thread until the block ends.

    A store that cannot be reached yields a lease whose `require` raises its error. Raises BusyError when another keeper
    has the lease.
    """
    lease = Lease(store, claimant)
    try:
        lease.take()
    except StoreError as error:
        yield Lease(store, claimant, error)
        return
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, ended, claimant), name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        ended.set()
        renewing.join()
        lease.release()


def _renew(lease: Lease, ended: threading.Event, claimant: Claimant) -> None:
    while not ended.wait(claimant.length.total_seconds() / 3):
        try:
            lease.renew()
        except BusyError as error:
            lease.lose(error)
            return
        except BackupdError:  # a line that is down: tried again until the lease runs out
            continue
