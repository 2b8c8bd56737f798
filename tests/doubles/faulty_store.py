"""A store that fails exactly one call, before or after its effect, and counts calls: what crash sweeps turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, TypeVar

from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Space, Store, StoreView

T = TypeVar("T")


def gone() -> Exception:
    return StoreGoneError("the connection broke on purpose")


class FaultyView:
    """A view whose calls count, and fail, among those of its store."""

    def __init__(self, inner: StoreView, call: Callable[[str, Callable[[], Any]], Any]) -> None:
        self.inner = inner
        self._call = call

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._call("view.get", lambda: self.inner.get(name, offset, length))

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        return self._call("view.stat", lambda: self.inner.stat(name))

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self._call("view.list", lambda: [*self.inner.list(prefix)]))


class FaultyStore:
    """Call number `fail_at` (from 1; 0: none) raises `error()`; `after` lets its effect happen first.

    `calls` are the names of the port's methods in the order they were called; those of a view are `view.get` and so on.
    """

    def __init__(
        self, inner: Store, fail_at: int = 0, *, after: bool = False, error: Callable[[], BaseException] = gone
    ) -> None:
        self.inner = inner
        self.fail_at = fail_at
        self.after = after
        self.error = error
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._call("put_new", lambda: self.inner.put_new(name, source, size, sha256))

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._call("get", lambda: self.inner.get(name, offset, length))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._call("replace", lambda: self.inner.replace(name, source, size, sha256))

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        return self._call("stat", lambda: self.inner.stat(name))

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self._call("list", lambda: [*self.inner.list(prefix)]))

    def remove(self, name: ObjectName) -> None:
        self._call("remove", lambda: self.inner.remove(name))

    def space(self) -> Space | None:
        return self._call("space", self.inner.space)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        return self._call("snapshots", self.inner.snapshots)

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        return FaultyView(self._call("view", lambda: self.inner.view(snapshot)), self._call)

    def close(self) -> None:
        self.inner.close()

    def _call(self, method: str, effect: Callable[[], T]) -> T:
        with self._lock:
            self.calls.append(method)
            failing = len(self.calls) == self.fail_at
        if failing and not self.after:
            raise self.error()
        result = effect()
        if failing:
            raise self.error()
        return result
