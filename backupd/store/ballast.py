"""Room for removals: an object on the store that is given up where nothing else has room, and put back later.

Removing takes a little room first: for a lease, an entry of the ledger, a keyring without some of its lines. A store
that is full to its last byte could otherwise not be emptied through itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import BinaryIO, Final, TypeVar

from backupd.errors import StoreError, StoreFullError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Piece, Store, put_document
from backupd.store.forwarding import ForwardingStore
from backupd.store.names import BALLAST

T = TypeVar("T")

SIZE: Final = 1 << 20
"""Bytes of it: enough for some leases, entries and a keyring of thousands of segments."""
SMALLEST: Final = SIZE >> 4
"""Less is not worth an object."""


class BallastedStore(ForwardingStore):
    """A store that gives up its ballast when it has no room for something, and then tries that again."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        if name == BALLAST:  # which makes no room for itself
            super().put_new(name, source, size, sha256)
        else:
            self._with_room(lambda: super(BallastedStore, self).put_new(name, source, size, sha256))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._with_room(lambda: super(BallastedStore, self).replace(name, source, size, sha256))

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        self._with_room(lambda: super(BallastedStore, self).recompose(name, pieces, size))

    def _with_room(self, write: Callable[[], T]) -> T:
        try:
            return write()
        except StoreFullError:
            if not self._give_up():
                raise
        return write()

    def _give_up(self) -> bool:
        """Remove the ballast; False when there is none, or it cannot be removed."""
        with self._lock, suppress(StoreError):
            if self.inner.stat(BALLAST) is not None and _is_ballast(self.inner):
                self.inner.remove(BALLAST)
                return True
        return False


def lay_ballast(store: Store, random: Callable[[int], bytes]) -> None:
    """Put the ballast where it is missing, as much of it as there is room for; a store that refuses it goes without.

    So it comes back where it was given up and nothing was removed: what was free then would soon be used by backups.
    """
    with suppress(StoreError):
        there = store.stat(BALLAST)
        if there is not None:
            space = store.space()
            if there.size >= SIZE or space is None or space.free < SIZE or not _is_ballast(store):
                return
            store.remove(BALLAST)  # and laid whole
        size = SIZE
        while not _laid(store, random(size)) and size > SMALLEST:  # random, as no file system makes that smaller
            size //= 2


def _is_ballast(store: Store) -> bool:
    """Check that nothing else was moved there: a pack or document of ours, by how each begins. Random bytes hardly ever
    begin so, and then are not given up.
    """
    return not store.get(BALLAST, 0, 8).startswith((b"BKPDPACK", b'{"'))


def _laid(store: Store, data: bytes) -> bool:
    try:
        put_document(store, BALLAST, data)
    except StoreFullError:
        return False
    return True
