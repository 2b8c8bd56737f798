"""A store limited to a number of bytes per second, both directions and all threads together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from io import RawIOBase
from typing import BinaryIO, cast

from backupd.clock import Clock
from backupd.errors import ObjectMissingError, StoreError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Piece, ServerSnapshot, StoreView, given
from backupd.store.forwarding import ForwardingStore, ForwardingView
from backupd.store.probe import ProbedStore, ProbeOperations

_PIECE = 256 * 1024
_ATTEMPTS = 5


class TokenBucket:
    """A limit of `rate` bytes per second, with up to `burst` bytes at once after a pause. Shared by threads."""

    def __init__(self, rate: int, clock: Clock, burst: int = _PIECE) -> None:
        self._rate = rate
        self._clock = clock
        self._burst = burst / rate
        self._lock = threading.Lock()
        self._due = clock.monotonic() - self._burst

    def take(self, amount: int) -> None:
        """Wait until `amount` bytes may pass; callers are served in the order in which they ask."""
        with self._lock:
            now = self._clock.monotonic()
            # The bucket is kept as the instant it was last empty: sleeping happens outside the lock.
            self._due = max(self._due, now - self._burst) + amount / self._rate
            wait = self._due - now
        if wait > 0:
            self._clock.sleep(wait)


class ThrottledView(ForwardingView):
    """A view whose reads of objects' content are limited in bytes per second."""

    def __init__(self, inner: StoreView, bucket: TokenBucket) -> None:
        super().__init__(inner)
        self.bucket = bucket

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if length is not None:
            return self._pieces(name, offset, length)
        for _ in range(_ATTEMPTS):
            # What is shorter than a piece was read at once, from one version of the object, whatever its size was.
            first = self._piece(name, offset, _PIECE)
            if len(first) < _PIECE:
                return first
            info = self.inner.stat(name)
            if info is None:
                raise ObjectMissingError(f"no such object on the store: {name!r}")
            data = self._pieces(name, offset, max(0, info.size - offset))
            # Pieces of an object that was replaced meanwhile do not belong together.
            if self.inner.stat(name) == info:
                return data
        raise StoreError(
            f"{name!r} changed each time it was read", hint="Try again when nothing else works on the store."
        )

    def _pieces(self, name: ObjectName, offset: int, length: int) -> bytes:
        pieces = []
        for at in range(0, max(length, 1), _PIECE):
            wanted = min(_PIECE, length - at)
            pieces.append(self._piece(name, offset + at, wanted))
            if len(pieces[-1]) < wanted:
                break
        return b"".join(pieces)

    def _piece(self, name: ObjectName, offset: int, wanted: int) -> bytes:
        data = self.inner.get(name, offset, wanted)
        self.bucket.take(len(data))
        return data


class ThrottledStore(ThrottledView, ForwardingStore):
    """A store that limits the content of objects, in both directions together.

    Names, listings and SSH's own bytes do not count.
    """

    inner: ProbedStore

    def __init__(self, inner: ProbedStore, rate: int, clock: Clock) -> None:
        ThrottledView.__init__(self, inner, TokenBucket(rate, clock))

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        super().put_new(name, self._slowed(source), size, sha256)

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        super().replace(name, self._slowed(source), size, sha256)

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        """Recompose an object; limited are the given bytes, not what a store cannot copy by itself."""
        self.bucket.take(sum(len(data) for _, data in given(pieces)))
        super().recompose(name, pieces, size)

    def view(self, snapshot: ServerSnapshot) -> ThrottledView:
        return ThrottledView(super().view(snapshot), self.bucket)

    def workbench(self) -> ProbeOperations:
        return self.inner.workbench()

    def _slowed(self, source: BinaryIO) -> BinaryIO:
        return cast("BinaryIO", _SlowReader(source, self.bucket))


class _SlowReader(RawIOBase):
    """The source of an upload, which is read no faster than the bucket allows."""

    def __init__(self, source: BinaryIO, bucket: TokenBucket) -> None:
        self._source = source
        self._bucket = bucket

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(min(size, _PIECE) if size >= 0 else _PIECE)
        self._bucket.take(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._source.seek(offset, whence)
