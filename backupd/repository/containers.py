"""Containers on a store, found, opened and kept open while they are in use."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from backupd.errors import DamageError, ObjectMissingError
from backupd.model.ids import ObjectHash, ObjectName, Pseudonym
from backupd.repository import layout
from backupd.seal.container_format import DATA, ContainerContext
from backupd.seal.container_reader import ContainerReader
from backupd.store.base import Store

_TAIL = 64 << 10
"""Bytes read with a container's end: they hold its trailer, except in containers with thousands of chunks."""

_DATA_KEYS = 20_000
"""Opened keys kept, about 4 MB: a restore opens a small part twice, for its manifest and for its rows."""


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """The name of one container of a segment: its context, hash and size in bytes."""

    context: ContainerContext
    sha256: ObjectHash
    size: int
    part: bool = False
    """Whether a record says it is a part; otherwise it is looked for among the packs, then among the parts."""

    def names(self) -> tuple[ObjectName, ...]:
        """Return the names under which the container may stand on the store, in the order to try."""
        part = layout.part_name(self.context, self.sha256)
        return (part,) if self.part else (layout.pack_name(self.context, self.sha256), part)


class Slice(NamedTuple):
    """Bytes `start` to `end` of one block's content."""

    container: OpenContainer
    block: int
    start: int
    end: int

    @property
    def weight(self) -> int:
        """Return the bytes that its whole block takes in memory."""
        return self.container.reader.blocks[self.block].plain_length


class OpenContainer:
    """An opened container, whose blocks can be read. For several threads at once."""

    def __init__(self, name: ObjectName, store: Store, reader: ContainerReader, held: int) -> None:
        """Note that `held` bytes of the object are in memory already: all of them, or none."""
        self.name = name
        self.reader = reader
        self._store = store
        self._held = held
        self._data = [index for index, block in enumerate(reader.blocks) if block.kind == DATA]
        self._starts = [reader.blocks[index].first_chunk for index in self._data]
        self._chunks = reader.chunks

    @property
    def weight(self) -> int:
        """Return roughly how many bytes the container takes in memory."""
        return 4096 + 64 * self._chunks + self._held

    def slices(self, first: int, number: int) -> Iterator[Slice]:
        """Yield the content of `number` chunks from chunk `first` on, block by block.

        Raises DamageError when the container does not have them.
        """
        end = first + number
        if end > self._chunks:
            raise DamageError(f"'{self.name}' does not hold all the chunks its segment's part asks for")
        at = bisect_right(self._starts, first) - 1
        while first < end:
            block = self.reader.blocks[self._data[at]]
            offsets = [0, *accumulate(block.chunk_lengths)]
            here = min(end, block.first_chunk + len(block.chunk_lengths))
            yield Slice(self, self._data[at], offsets[first - block.first_chunk], offsets[here - block.first_chunk])
            first, at = here, at + 1

    def open_blocks(self, first: int, last: int) -> Iterator[bytes]:
        """Yield the content of blocks `first` to `last`, read from the store in one request.

        Raises DamageError naming the object, and the store's errors.
        """
        blocks = self.reader.blocks[first : last + 1]
        if self._held:
            yield from map(self.reader.open_block, range(first, last + 1))
            return
        start = blocks[0].offset
        data = _fetch(self._store, self.name, start, blocks[-1].offset + blocks[-1].length - start)
        for index, block in enumerate(blocks, first):
            at = block.offset - start
            yield self.reader.open_block(index, data[at : at + block.length])


@dataclass(slots=True)
class _Slot:
    lock: threading.Lock = field(default_factory=threading.Lock)
    container: OpenContainer | None = None


class ContainerCache:
    """The opened containers that were used last, up to roughly `limit` bytes of memory; it opens new ones."""

    def __init__(self, store: Store, secret_of: Callable[[Pseudonym], bytes], limit: int = 12 << 20) -> None:
        self._store = store
        self._secret_of = secret_of
        self._limit = limit
        self._lock = threading.Lock()
        self._slots: OrderedDict[ContainerRef, _Slot] = OrderedDict()
        self._weight = 0
        self._data_keys: dict[bytes, bytes] = {}

    def open(self, ref: ContainerRef) -> OpenContainer:
        """Return an opened container; one thread opens it while others who want it wait.

        Raises DamageError naming object and segment, the errors of `secret_of`, and the store's errors.
        """
        with self._lock:
            slot = self._slots.setdefault(ref, _Slot())
            self._slots.move_to_end(ref)
        with slot.lock:
            if slot.container is None:
                slot.container = self._opened(ref)
                self._keep(ref, slot)
            return slot.container

    def _keep(self, ref: ContainerRef, slot: _Slot) -> None:
        with self._lock:
            if self._slots.get(ref) is slot and slot.container is not None:
                self._weight += slot.container.weight
            while self._weight > self._limit and len(self._slots) > 1:
                _, oldest = self._slots.popitem(last=False)
                if oldest.container is not None:
                    self._weight -= oldest.container.weight

    def _opened(self, ref: ContainerRef) -> OpenContainer:
        secret = self._secret_of(ref.context.segment)
        if len(self._data_keys) >= _DATA_KEYS:
            self._data_keys.clear()
        for name in ref.names():
            opening = _Opening(self._store, name, ref)
            try:
                reader = ContainerReader(
                    opening, ref.size, secret=secret, context=ref.context, where=name, data_keys=self._data_keys
                )
            except ObjectMissingError:
                continue
            if not name.endswith(reader.header.kind):
                raise DamageError(f"'{name}' is not what its name says")
            opening.forget()
            return OpenContainer(name, self._store, reader, opening.whole)
        raise DamageError(
            f"container '{ref.sha256}' of segment {ref.context.segment} is missing",
            hint="If the segment was purged, the ledger says so; otherwise fetch the object from another store.",
        )


class _Opening:
    """The reader of a container's bytes while it is opened: a small object is read whole, others head and tail."""

    def __init__(self, store: Store, name: ObjectName, ref: ContainerRef) -> None:
        self._store = store
        self._name = name
        self._ref = ref
        self._held: list[tuple[int, bytes]] = []
        self.whole = 0
        """The object's size once it was read and checked as a whole; 0 before."""

    def __call__(self, offset: int, length: int) -> bytes:
        if offset == 0 and length == self._ref.size:
            return self._whole()
        for start, data in self._held:
            if start <= offset and offset + length <= start + len(data):
                return data[offset - start : offset - start + length]
        tail = max(self._ref.size - _TAIL, 0)
        if offset >= tail:
            return self._hold(tail, self._ref.size - tail)[offset - tail : offset - tail + length]
        return self._hold(offset, length)

    def forget(self) -> None:
        """Drop the bytes held for the opening; from now on every read goes to the store."""
        self._held.clear()

    def _hold(self, offset: int, length: int) -> bytes:
        data = _fetch(self._store, self._name, offset, length)
        self._held.append((offset, data))
        return data

    def _whole(self) -> bytes:
        data = self._store.get(self._name, 0, self._ref.size + 1)
        if len(data) != self._ref.size or hashlib.sha256(data).hexdigest() != self._ref.sha256:
            raise DamageError(f"'{self._name}' does not have the size and hash its name and record say")
        self.whole = len(data)
        return data


def _fetch(store: Store, name: ObjectName, offset: int, length: int) -> bytes:
    data = store.get(name, offset, length)
    if len(data) != length:
        raise DamageError(f"'{name}' is cut short")
    return data
