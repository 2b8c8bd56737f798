"""A store that tells of every call before and after it: to count, to wait, to look around, or to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Space, Store, StoreView

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
            if not self.blown and method in ("put_new", "replace", "remove"):
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


class HookedStore:
    """The hooks get method and name, on the caller's thread; `put` is every object put or replaced, with its
    size.

    Only puts and replacements are told of afterwards; what is done on a view is not told of.
    """

    def __init__(self, inner: Store, before: Hook = lambda *_: None, after: Hook = lambda *_: None) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.put: dict[str, int] = {}
        self._lock = threading.Lock()

    @property
    def sent(self) -> int:
        """Bytes of objects put."""
        return sum(self.put.values())

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.before("put_new", name)
        self.inner.put_new(name, source, size, sha256)
        with self._lock:
            self.put[name] = size
        self.after("put_new", name)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        self.before("get", name)
        return self.inner.get(name, offset, length)

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.before("replace", name)
        self.inner.replace(name, source, size, sha256)
        with self._lock:
            self.put[name] = size
        self.after("replace", name)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        self.before("stat", name)
        return self.inner.stat(name)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        self.before("list", prefix)
        return self.inner.list(prefix)

    def remove(self, name: ObjectName) -> None:
        self.before("remove", name)
        self.inner.remove(name)

    def space(self) -> Space | None:
        self.before("space", "")
        return self.inner.space()

    def snapshots(self) -> Sequence[ServerSnapshot]:
        self.before("snapshots", "")
        return self.inner.snapshots()

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        self.before("view", snapshot.name)
        return self.inner.view(snapshot)

    def close(self) -> None:
        self.inner.close()
