"""The store port: objects in, objects out. A store knows no tenant, no key and no plain text.

Every adapter keeps these promises, and `tests/contract` checks them on each adapter:

- Names are relative to the root the adapter was made for; folders are made and removed as needed.
- `put_new` is atomic, verified and never overwrites. When it returns, the bytes are on the store, were synced where the
  store can, were compared with `sha256` on the store's side or by reading back, and stand under the final name. When it
  raises, only exactly this content can stand under the final name; a temporary object may be left in `tmp/`. An object
  that already stands there with the same content counts as put.
- `replace` and `recompose` are the only ways to change an object, and for the keeper only: when one raises, either the
  old content or the new stands there.
- Errors are `StoreError`s: `StoreGoneError` may be tried again on a fresh connection, the others may not.
- Every call ends within the adapter's deadline, even when the other side never answers.
- An adapter may be used by several threads at once.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, NamedTuple, Protocol

from backupd.errors import StoreError
from backupd.model.ids import ObjectHash, ObjectName


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as a listing or a stat shows it: size in bytes, time of last change in UTC."""

    name: ObjectName
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Space:
    """Bytes free for this account, and in all; from the quota or the file system, whichever is smaller."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """One of the store's own read-only snapshots."""

    name: str
    made: datetime | None = None
    """The time in its name, in UTC: a day alone means that day's start, and the server's day may differ from UTC's.
    None where the name holds no time: the store shows no other time that could be trusted."""


class Kept(NamedTuple):
    """A range of an object that stays, byte for byte, when the object is recomposed."""

    offset: int
    length: int
    sha256: bytes | None = None
    """SHA-256 of the range, 32 bytes, where the caller knows it. Where the bytes pass through this program, a range
    that was read with another one is read again, and what was read must be the same both times."""


Piece = bytes | Kept
"""Given bytes, or a range of what stands there."""


class StoreView(Protocol):
    """A read-only view of one region's folder: as it is now, or as one of the store's own snapshots holds it."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes `offset` to `offset + length` of an object, fewer where it ends; the rest when `length` is None.

        Raises ObjectMissingError.
        """
        ...

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        """Return an object's size and time; None when there is no such object."""
        ...

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        """List every object below the folder `prefix` (empty: the root), at any depth, in no promised order.

        The list is empty when there is no such folder. Symbolic links and other things that are not plain objects are
        left out.
        """
        ...


class Store(StoreView, Protocol):
    """One region's folder on one store, for reading and writing."""

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        """Publish `size` bytes read from `source` (from its start; seekable) under `name`.

        Raises ObjectExistsError when other content stands there, StoreFullError when there is no room.
        """
        ...

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        """Replace the content of the object `name` at once by `size` bytes of `source` (from its start; seekable).

        The new content is written, synced and verified under a temporary name first, and read under `name` afterwards:
        what stands there then decides, and not the store's answer. Content that already stands there counts as
        replaced. No new object is made: raises ObjectMissingError when `name` is missing at the last look before the
        exchange. Raises StoreError where the store offers or allows no such exchange, StoreFullError when there is no
        room for both.
        """
        ...

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        """Rewrite the object `name`, which has `size` bytes, at once: given bytes and ranges of it, one after another.

        The new content is written and synced under a temporary name first. A store that can copies the ranges by
        itself, so that only the given bytes travel; it is then trusted to copy right, and its result is checked by size
        and by reading the given bytes back. Where the ranges pass through this program or lie on this machine, they are
        read back and compared, too. What stands under `name` afterwards, judged by size and given bytes, decides, and
        not the store's answer; an object that stands there so already counts as recomposed.

        Raises ValueError for pieces that would leave the size as it is, or reach beyond it. Raises ObjectMissingError
        when `name` is missing, StoreError when it has another size, or where the store offers or allows no such
        exchange, StoreFullError when there is no room for both.
        """
        ...

    def remove(self, name: ObjectName) -> None:
        """Remove one object and the folders it leaves empty, except those below `incoming`, which people make.

        A missing object counts as removed.
        """
        ...

    def space(self) -> Space | None:
        """Return the free space; None when the store does not report it."""
        ...

    def snapshots(self) -> Sequence[ServerSnapshot]:
        """List the store's own snapshots, oldest first; the list is empty when it shows none."""
        ...

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        """Return the region's folder as that snapshot holds it; the view is usable as long as this store is.

        A folder that is not in the snapshot lists as empty, and so does a snapshot that has vanished since. A snapshot
        that cannot be read raises StoreError at the first call at the latest, and never counts as empty. No symbolic
        link is followed, neither above the region's folder nor below it. Raises StoreError when the snapshot's name is
        not that of a plain folder.
        """
        ...

    def close(self) -> None:
        """Close the connections. Using the store afterwards is an error; closing it twice is not."""
        ...


def put_document(store: Store, name: ObjectName, data: bytes) -> None:
    """Publish bytes that are in memory under `name`, with the promises and errors of `Store.put_new`."""
    store.put_new(name, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))


def recomposed_size(pieces: Sequence[Piece], size: int) -> int:
    """Return the size in bytes that `Store.recompose` makes of an object of `size` bytes. Raises its ValueError."""
    lengths = [piece.length if isinstance(piece, Kept) else len(piece) for piece in pieces]
    if any(
        isinstance(piece, Kept) and not 0 <= piece.offset <= piece.offset + piece.length <= size for piece in pieces
    ):
        raise ValueError("a range reaches beyond the object")
    if sum(lengths) == size:
        raise ValueError("an object is recomposed to its own size")
    return sum(lengths)


def given(pieces: Sequence[Piece]) -> Iterator[tuple[int, bytes]]:
    """Yield the given bytes of a recomposition, each with its place in the new object."""
    at = 0
    for piece in pieces:
        if isinstance(piece, Kept):
            at += piece.length
        else:
            yield at, piece
            at += len(piece)


def kept(pieces: Sequence[Piece]) -> Iterator[tuple[int, Kept]]:
    """Yield the kept ranges of a recomposition, each with its place in the new object."""
    at = 0
    for piece in pieces:
        if isinstance(piece, Kept):
            yield at, piece
            at += piece.length
        else:
            at += len(piece)


def changed_meanwhile(name: ObjectName) -> StoreError:
    """Make the error for an object that is not what the caller saw of it."""
    return StoreError(f"{name!r} was changed by somebody else meanwhile", hint="It is left as it is; run it again.")
