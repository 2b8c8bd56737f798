"""The store port: objects in, objects out. Knows no tenant, no key and no plain text.

Promises every adapter keeps, and `tests/contract` checks on each of them:

- Names are relative to the root the adapter was made for; folders are made and removed as needed.
- `put_new` is atomic, verified and never overwrites. When it returns, the bytes are on the store, were synced where the
  store can, were compared with `sha256` on the store's side or by reading back, and stand under the final name. When it
  raises, nothing but this very content can stand under the final name; a temporary object may be left in `tmp/`.
  An object that already stands there with the same content counts as put.
- `replace` is the only way to change an object, the keeper's: when it raises, the old content or the new stands there.
- Errors are `StoreError`s: `StoreGoneError` may be tried again on a fresh connection, the others may not.
- Every call ends within the adapter's deadline, whatever the other side does.
- An adapter may be used by several threads at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from backupd.model.ids import ObjectHash, ObjectName


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or a stat shows of one object."""

    name: ObjectName
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes free for us and in all; from the quota or the file system, whichever is smaller."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """One of the store's own read-only snapshots."""

    name: str
    made: datetime | None = None
    """As its name tells it, in UTC: a day alone is that day's start, and the server's day may be another than UTC's.
    None where the name tells nothing: the store shows no other time that could be trusted."""


class StoreView(Protocol):
    """One region's folder, to look at: as it is, or as one of the store's own snapshots holds it."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes `offset` to `offset + length`, fewer where the object ends; all that follows when `length` is None.

        Raises ObjectMissingError.
        """
        ...

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """None when there is no such object."""
        ...

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        """Every object below the folder `prefix` (empty: all), at any depth, in no promised order.

        Nothing when there is no such folder. Symbolic links and other things that are not plain objects are left out.
        """
        ...


class Store(StoreView, Protocol):
    """One region's folder on one store."""

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        """Publish `size` bytes read from `source` (from its start; seekable) under `name`.

        Raises ObjectExistsError when other content stands there, StoreFullError when there is no room.
        """
        ...

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        """Put `size` bytes of `source` (from its start; seekable) in the place of the object `name`, at once.

        Written, synced and verified under a temporary name before, and read under `name` after: whatever the store
        answered, only what stands there counts. The same content standing there already counts as replaced. Nothing is
        made new: raises ObjectMissingError when `name` is not there at the last look before. Raises StoreError where
        the store offers or allows no such exchange, StoreFullError when there is no room for both.
        """
        ...

    def remove(self, name: ObjectName) -> None:
        """Remove one object and folders it leaves empty, but for those below `incoming`, which people make.

        An object already absent is removed.
        """
        ...

    def space(self) -> Space | None:
        """None when the store cannot tell."""
        ...

    def snapshots(self) -> Sequence[ServerSnapshot]:
        """The store's own snapshots, oldest first; empty when it shows none."""
        ...

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        """The region's folder as that snapshot holds it; usable as long as this store is.

        A folder that is not in the snapshot lists as nothing, and so does a snapshot that has vanished since. One that
        cannot be looked into is a StoreError at the first call at the latest, never an absence; no symbolic link is
        followed, be it above the region's folder or below. Raises StoreError when the name is not a plain folder's.
        """
        ...

    def close(self) -> None:
        """Let go of connections. Using the store afterwards is an error; closing twice is not."""
        ...


def put_document(store: Store, name: ObjectName, data: bytes) -> None:
    """Publish bytes that are in memory under `name`, as `Store.put_new` does."""
    store.put_new(name, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
