"""A store in memory under a virtual clock, with snapshots of itself, and lines to it that break where a test wants."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, TypeVar

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Kept, ObjectInfo, Piece, ServerSnapshot, Space, changed_meanwhile, recomposed_size
from backupd.store.forwarding import ForwardingStore
from backupd.store.server import oldest_first

T = TypeVar("T")
Objects = dict[str, tuple[bytes, datetime]]


class Killed(BaseException):
    """The process ended here; what follows of it does nothing any more."""


@dataclass
class VirtualTime:
    """The one true time; machines' clocks differ from it."""

    now: datetime = datetime(2030, 1, 1, 12, tzinfo=UTC)


@dataclass
class MachineClock:
    """A machine's clock, `skew` ahead of the true one; sleeping takes virtual time."""

    time: VirtualTime
    skew: timedelta = timedelta()

    def now(self) -> datetime:
        return self.time.now + self.skew

    def monotonic(self) -> float:
        return self.time.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.time.now += timedelta(seconds=seconds)


class MemoryView:
    """The port's `StoreView` of a map of objects."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        if name not in self.objects:
            raise ObjectMissingError(f"there is no object '{name}'")
        data = self.objects[name][0]
        return data[offset : None if length is None else offset + length]

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        if name not in self.objects:
            return None
        data, modified = self.objects[name]
        return ObjectInfo(name, len(data), modified)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        folder = f"{prefix}/" if prefix else ""
        found = [ObjectInfo(ObjectName(name), len(data), at) for name, (data, at) in self.objects.items()]
        return iter([info for info in found if info.name.startswith(folder)])


class MemoryStore(MemoryView):
    """The port's `Store`. `time` gives objects their times; `shots` are the store's own snapshots."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__({})
        self.time = time
        self.shots: dict[str, Objects] = {}
        self._uploads = 0

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        data = self._read(source, size, sha256)
        if name in self.objects:
            if self.objects[name][0] != data:
                raise ObjectExistsError(f"other content stands at '{name}'")
            return
        self.objects[name] = data, self.time.now

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        data = self._read(source, size, sha256)
        if name not in self.objects:
            raise ObjectMissingError(f"there is no object '{name}'")
        self.objects[name] = data, self.time.now

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        new_size = recomposed_size(pieces, size)
        if name not in self.objects:
            raise ObjectMissingError(f"there is no object '{name}'")
        old = self.objects[name][0]
        if len(old) == new_size:
            return
        if len(old) != size:
            raise changed_meanwhile(name)
        data = b"".join(
            old[piece.offset : piece.offset + piece.length] if isinstance(piece, Kept) else piece for piece in pieces
        )
        self.objects[name] = data, self.time.now

    def remove(self, name: ObjectName) -> None:
        self.objects.pop(name, None)

    def leave_upload(self, source: BinaryIO) -> None:
        """What a connection that breaks during an upload leaves behind."""
        self._uploads += 1
        source.seek(0)
        self.objects[f"tmp/{self._uploads:032x}"] = source.read(), self.time.now

    def space(self) -> Space | None:
        return None

    def snapshots(self) -> Sequence[ServerSnapshot]:
        return oldest_first(self.shots)

    def view(self, snapshot: ServerSnapshot) -> MemoryView:
        return MemoryView(self.shots.get(snapshot.name, {}))

    def close(self) -> None:
        pass

    def take_snapshot(self, keep: int) -> None:
        """What ZFS does every midnight; the newest `keep` stay."""
        self.shots[f"daily_{self.time.now:%Y-%m-%d}"] = dict(self.objects)
        for old in sorted(self.shots)[:-keep]:
            del self.shots[old]

    @staticmethod
    def _read(source: BinaryIO, size: int, sha256: ObjectHash) -> bytes:
        source.seek(0)
        data = source.read()
        if (len(data), hashlib.sha256(data).hexdigest()) != (size, sha256):
            raise StoreError("what was sent is not what was announced")
        return data


@dataclass
class KillingFuse:
    """Kills whoever makes call number `at` (from 1; 0: nobody), before or after its effect."""

    at: int = 0
    after: bool = False
    calls: int = 0
    blown: bool = False


class Line(ForwardingStore):
    """One process's way to a store: counts calls and bytes, is down when `down` says so, and dies of its fuse."""

    def __init__(
        self, store: MemoryStore, fuse: KillingFuse | None = None, down: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(store)
        self.store = store
        self.fuse = fuse or KillingFuse()
        self.down = down
        self.calls: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        """Bytes, by the extension of the object."""
        self.sent = 0

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:  # noqa: ARG002 - only how often counts
        return self._call(method, effect)

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._call("put_new", lambda: self.store.put_new(name, source, size, sha256), source)
        self.sent += size

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        data = super().get(name, offset, length)
        self.received[name.rpartition(".")[2]] += len(data)
        return data

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._call("replace", lambda: self.store.replace(name, source, size, sha256), source)
        self.sent += size

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        self._call("recompose", lambda: self.store.recompose(name, pieces, size))
        self.sent += sum(len(piece) for piece in pieces if isinstance(piece, bytes))

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        found = self._call("list", lambda: [*self.store.list(prefix)])
        self.received["listing"] += sum(len(info.name) + 40 for info in found)
        return iter(found)

    def space(self) -> Space | None:
        return None

    def close(self) -> None:
        pass

    def _call(self, method: str, effect: Callable[[], T], upload: BinaryIO | None = None) -> T:
        fuse = self.fuse
        if fuse.blown:
            raise Killed
        self.calls[method] += 1
        fuse.calls += 1
        fuse.blown = fuse.calls == fuse.at
        if fuse.blown and not fuse.after:
            if upload is not None and fuse.at % 2:
                self.store.leave_upload(upload)
            raise Killed
        if self.down():
            raise StoreGoneError("the store is away")
        result = effect()
        if fuse.blown:
            raise Killed
        return result
