"""A store that passes every call on to another one: the base class of all stores that change some of the calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, Piece, ServerSnapshot, Space, Store, StoreView

T = TypeVar("T")


class ForwardingView:
    """A view that passes every call on to `inner`. Its methods promise what the port promises."""

    def __init__(self, inner: StoreView) -> None:
        self.inner = inner

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:  # noqa: ARG002 - for those that override it
        """Make one call and return its result; a subclass that changes all calls overrides this method alone.

        `method` is the port's name of the call, and `name` that of the object, folder or snapshot; it is empty for a
        call without one. `effect` makes the call on `inner`, once for each time it is called. A listing is read after
        its call.
        """
        return effect()

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self.call("get", name, lambda: self.inner.get(name, offset, length))

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        return self.call("stat", name, lambda: self.inner.stat(name))

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return self.call("list", prefix, lambda: self.inner.list(prefix))


class ForwardingStore(ForwardingView):
    """A store that passes every call on to `inner`, and closes it when it is closed itself.

    A subclass overrides what it changes: single methods, or `call`, through which all of them go except `close`. A
    method that is added to the port has to be added here only.
    """

    inner: Store

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.call("put_new", name, lambda: self.inner.put_new(name, source, size, sha256))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.call("replace", name, lambda: self.inner.replace(name, source, size, sha256))

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        self.call("recompose", name, lambda: self.inner.recompose(name, pieces, size))

    def remove(self, name: ObjectName) -> None:
        self.call("remove", name, lambda: self.inner.remove(name))

    def space(self) -> Space | None:
        return self.call("space", "", self.inner.space)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        return self.call("snapshots", "", self.inner.snapshots)

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        return self.call("view", snapshot.name, lambda: self.inner.view(snapshot))

    def close(self) -> None:
        self.inner.close()
