"""Blocks fetched and opened ahead of their readers, by a few threads that all readers share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from backupd.repository.containers import OpenContainer, Slice

_FETCH = 2 << 20
"""Sealed bytes requested at once: what an SSH channel has in flight at most."""

T = TypeVar("T")


class _Key(NamedTuple):
    container: OpenContainer
    block: int


class ComingBlock:
    """A block that is being fetched. There are many, so all wait on one shared condition instead of each on its own."""

    __slots__ = ("_arrived", "_content", "_fault")

    def __init__(self, arrived: threading.Condition) -> None:
        self._arrived = arrived
        self._content: bytes | None = None
        self._fault: BaseException | None = None

    def content(self) -> bytes:
        """Wait for the block and return its content.

        Raises the error of fetching or opening it.
        """
        if self._content is None:
            with self._arrived:
                self._arrived.wait_for(lambda: self._content is not None or self._fault is not None)
        if self._content is None and self._fault is not None:
            raise self._fault
        return self._content or b""

    def arrive(self, content: bytes) -> None:
        """Set the block's content; the caller notifies the waiting readers."""
        self._content = content

    def fail(self, fault: BaseException) -> None:
        """Set the error of a block that did not arrive; a block that has arrived is unchanged."""
        self._fault = fault


class Blocks:
    """Opened blocks, shared by several readers; those used last are kept, up to `kept` bytes.

    A segment's tables often lie in the same blocks, and after weeks of changes a table's rows alternate between many
    packs: both would open the same block again and again.
    """

    def __init__(self, *, threads: int = 32, kept: int = 24 << 20) -> None:
        """Start the pool. Its threads mostly wait for the store, so their number is that of requests in flight."""
        self._pool = ThreadPoolExecutor(threads, "blocks")
        self._kept = kept
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._blocks: OrderedDict[_Key, ComingBlock] = OrderedDict()
        self._weight = 0

    def close(self) -> None:
        """End the threads; requests that were not begun are dropped, so nobody may be waiting for them."""
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Run a function that may wait for the store on one of the threads."""
        return self._pool.submit(function)

    def request(self, slices: Sequence[Slice]) -> list[ComingBlock]:
        """Return the whole block of each slice, as it arrives; adjacent blocks are fetched together."""
        missing: dict[_Key, ComingBlock] = {}
        with self._lock:
            coming = [self._find(_Key(wanted.container, wanted.block), missing) for wanted in slices]
            self._trim()
        for group in _side_by_side(missing):
            self._pool.submit(self._open, group, [missing[key] for key in group])
        return coming

    def _find(self, key: _Key, missing: dict[_Key, ComingBlock]) -> ComingBlock:
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = missing[key] = ComingBlock(self._arrived)
            self._weight += key.container.reader.blocks[key.block].plain_length
        else:
            self._blocks.move_to_end(key)
        return block

    def _trim(self) -> None:
        while self._weight > self._kept and self._blocks:
            key, _ = self._blocks.popitem(last=False)
            self._weight -= key.container.reader.blocks[key.block].plain_length

    def _open(self, group: Sequence[_Key], coming: Sequence[ComingBlock]) -> None:
        opened = group[0].container.open_blocks(group[0].block, group[-1].block)
        try:
            for block, content in zip(coming, opened, strict=True):
                block.arrive(content)
                with self._arrived:
                    self._arrived.notify_all()
        except BaseException as fault:  # noqa: BLE001 - raised in the readers that wait for the blocks
            for block in coming:
                block.fail(fault)
            with self._arrived:
                self._arrived.notify_all()


def _side_by_side(keys: Iterable[_Key]) -> Iterator[list[_Key]]:
    group: list[_Key] = []
    size = 0
    for key in sorted(keys, key=lambda key: (id(key.container), key.block)):
        length = key.container.reader.blocks[key.block].length
        follows = group and key == _Key(group[-1].container, group[-1].block + 1)
        if group and (not follows or size + length > _FETCH):
            yield group
            group, size = [], 0
        group.append(key)
        size += length
    if group:
        yield group
