"""Make the indexes of tables as soon as these are full, while others are still being filled."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

LEAST = 1 << 20
"""Bytes of rows from which a table's indexes are made by themselves: starting the program takes as long as to make
those of smaller tables, which are made together at the end."""

MakeEntries = Callable[[Sequence[int], threading.Event], None]
"""Makes the entries with these dump ids; raises an error when that fails, and when the event is set meanwhile."""


class EarlyIndexes:
    """Makes entries of an archive table by table, beside the loading. A context manager.

    When its block ends well, every entry that was begun is made; when it raises, what is under way is ended at once.
    """

    def __init__(self, make: MakeEntries, workers: int) -> None:
        """Make entries by `make`, of up to `workers` tables at once."""
        self._make = make
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "indexing")
        self._lock = threading.Lock()
        self._ready: deque[tuple[int, ...]] = deque()
        self._running: list[Future[None]] = []
        self._stopped = threading.Event()
        self._closing = False
        self.done: set[int] = set()
        """Dump ids of the entries that were made, once the block has ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what was begun; raises its error. What was not begun is left to the caller."""
        self._closing = True
        if error is not None:
            self._stopped.set()
        self._pool.shutdown(wait=True)
        if error is None:
            self._raise()

    def full(self, entries: tuple[int, ...], size: int) -> None:
        """Take note that a table with these entries, and rows of `size` bytes, is full.

        Raises the error of an earlier table's entries, so that nobody goes on loading in vain.
        """
        self._raise()
        if not entries or size < LEAST:
            return
        with self._lock:
            self._ready.append(entries)
            self._running = [future for future in self._running if not future.done() or future.exception()]
            if len(self._running) < self._workers:
                self._running.append(self._pool.submit(self._work))

    def _work(self) -> None:
        while not self._closing:
            with self._lock:
                if not self._ready:
                    return
                entries = self._ready.popleft()
            self._make(entries, self._stopped)
            with self._lock:
                self.done.update(entries)

    def _raise(self) -> None:
        with self._lock:
            found = [future for future in self._running if future.done()]
        for future in found:
            future.result()
