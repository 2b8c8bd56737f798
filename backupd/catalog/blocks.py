"""Blocks fetched and opened ahead of those who read them, by a few threads that all readers share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from backupd.catalog.containers import Container, Slice

_FETCH = 2 << 20
"""Sealed bytes asked for in one request: what an SSH channel has in flight at most."""

T = TypeVar("T")


class _Key(NamedTuple):
    container: Container
    block: int


class Blocks:
    """Opened blocks, shared by several readers; those used last are kept, up to `kept` bytes.

    A segment's tables often lie in the same blocks, and after weeks of changes a table's rows alternate between many
    packs: both would open the same block again and again.
    """

    def __init__(self, *, threads: int = 16, kept: int = 32 << 20) -> None:
        """Threads mostly wait for the store, so their number is that of requests in flight."""
        self._pool = ThreadPoolExecutor(threads, "blocks")
        self._kept = kept
        self._lock = threading.Lock()
        self._blocks: OrderedDict[_Key, Future[bytes]] = OrderedDict()
        self._weight = 0

    def close(self) -> None:
        """End the threads; what was not begun is dropped."""
        self._pool.shutdown(cancel_futures=True)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have a thread do something that may wait for the store."""
        return self._pool.submit(function)

    def request(self, slices: Sequence[Slice]) -> list[Future[bytes]]:
        """The whole block of each slice, as it arrives; blocks that lie side by side are fetched together."""
        with self._lock:
            missing: dict[_Key, Future[bytes]] = {}
            futures = [self._find(_Key(wanted.container, wanted.block), missing) for wanted in slices]
            self._trim()
        for group in _side_by_side(missing):
            self._pool.submit(_open, group, [missing[key] for key in group])
        return futures

    def _find(self, key: _Key, missing: dict[_Key, Future[bytes]]) -> Future[bytes]:
        future = self._blocks.get(key)
        if future is None:
            future = self._blocks[key] = missing[key] = Future()
            self._weight += key.container.reader.blocks[key.block].plain_length
        self._blocks.move_to_end(key)
        return future

    def _trim(self) -> None:
        while self._weight > self._kept and self._blocks:
            key, _ = self._blocks.popitem(last=False)
            self._weight -= key.container.reader.blocks[key.block].plain_length


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


def _open(group: Sequence[_Key], futures: Sequence[Future[bytes]]) -> None:
    opened = group[0].container.open_blocks(group[0].block, group[-1].block)
    try:
        for future, content in zip(futures, opened, strict=True):
            future.set_result(content)
    except BaseException as fault:  # noqa: BLE001 - handed to whoever waits for the blocks
        for future in futures:
            if not future.done():
                future.set_exception(fault)
