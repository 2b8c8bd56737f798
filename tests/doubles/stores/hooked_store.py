"""A store that tells of every call before and after it: to count, to wait, to look around, or to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Piece, Store, recomposed_size
from backupd.store.forwarding import ForwardingStore

T = TypeVar("T")
Hook = Callable[[str, str], None]


class Fuse:
    """Breaks a store off at the `at`-th call (from 1) that changes something, before or after it; for good: whoever is
    cut off there does not even clean up.
    """

    def __init__(self, at: int) -> None:
        self.at = at
        self.seen = 0
        self.blown = False

    def hooks(self, side: str) -> tuple[Hook, Hook]:
        """`before` and `after` of a store that breaks off on this side of the call."""

        def before(method: str, _: str) -> None:
            self.blown |= side == "after" and self.seen == self.at
            if not self.blown and method in ("put_new", "replace", "recompose", "remove"):
                self.seen += 1
                self.blown = side == "before" and self.seen == self.at
            self._check()

        def after(_: str, __: str) -> None:
            self.blown |= self.seen == self.at
            self._check()

        return before, after

    def _check(self) -> None:
        if self.blown:
            raise StoreGoneError("on purpose")


class HookedStore(ForwardingStore):
    """The hooks get method and name, on the caller's thread; `put` is every object put, replaced or recomposed,
    with its size.

    Only puts and replacements are told of afterwards; what is done on a view is not told of.
    """

    def __init__(self, inner: Store, before: Hook = lambda *_: None, after: Hook = lambda *_: None) -> None:
        super().__init__(inner)
        self.before = before
        self.after = after
        self.put: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def sent(self) -> int:
        """Bytes of objects put."""
        return sum(self.put.values())

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:
        self.before(method, name)
        return effect()

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        super().put_new(name, source, size, sha256)
        self._note("put_new", name, size)

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        super().replace(name, source, size, sha256)
        self._note("replace", name, size)

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        super().recompose(name, pieces, size)
        self._note("recompose", name, recomposed_size(pieces, size))

    def _note(self, method: str, name: str, size: int) -> None:
        with self._lock:
            self.put[name] = size
        self.after(method, name)
