"""A store that fails exactly one call, before or after its effect, and counts calls: what crash sweeps turn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Store, StoreView
from backupd.store.forwarding import ForwardingStore, ForwardingView

T = TypeVar("T")


def gone() -> Exception:
    return StoreGoneError("the connection broke on purpose")


class FaultyView(ForwardingView):
    """A view whose calls count, and fail, among those of its store."""

    def __init__(self, inner: StoreView, store: FaultyStore) -> None:
        super().__init__(inner)
        self._store = store

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:
        return self._store.call(f"view.{method}", name, effect)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self.call("list", prefix, lambda: [*self.inner.list(prefix)]))


class FaultyStore(ForwardingStore):
    """Call number `fail_at` (from 1; 0: none) raises `error()`; `after` lets its effect happen first.

    `calls` are the names of the port's methods in the order they were called; those of a view are `view.get` and so on.
    """

    def __init__(
        self, inner: Store, fail_at: int = 0, *, after: bool = False, error: Callable[[], BaseException] = gone
    ) -> None:
        super().__init__(inner)
        self.fail_at = fail_at
        self.after = after
        self.error = error
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self.call("list", prefix, lambda: [*self.inner.list(prefix)]))

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        return FaultyView(super().view(snapshot), self)

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:  # noqa: ARG002 - only how often counts
        with self._lock:
            self.calls.append(method)
            failing = len(self.calls) == self.fail_at
        if failing and not self.after:
            raise self.error()
        result = effect()
        if failing:
            raise self.error()
        return result
