"""Rows on their way: several threads, each reading bundle after bundle, feed all tables or files at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, TypeAlias

from backupd.trace import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from backupd.operations.restore.contents import SnapshotContents
    from backupd.planning.restoring.restore import Bundle, Piece, RestorePlan
    from backupd.trace import Trace

LOADING = "loading"


class TableWriter(Protocol):
    def write(self, data: memoryview, /) -> None: ...


Opened: TypeAlias = "Callable[[Piece], AbstractContextManager[TableWriter]]"

_TELL_EVERY = 4 << 20
"""Bytes between two events of progress."""


class Filling:
    """One restore's rows on their way."""

    def __init__(self, contents: SnapshotContents, opened: Opened, trace: Trace) -> None:
        """`opened` takes the rows of a piece; it is complete when its block ends well."""
        self._contents = contents
        self._opened = opened
        self._trace = trace
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._bytes = 0
        self._told = 0

    def run(self, plan: RestorePlan, threads: int) -> None:
        """Fill every table of the plan.

        Raises the first error of any thread, once all have stopped.
        """
        with ThreadPoolExecutor(threads, "filling") as pool:
            for bundles in plan.passes:
                shared = iter(bundles)
                running = [pool.submit(self._feed, shared) for _ in range(threads)]
                try:
                    wait(running)
                except BaseException:
                    self._stopped.set()
                    raise
                for future in running:
                    future.result()

    def _feed(self, shared: Iterator[Bundle]) -> None:
        try:
            for piece, group in groupby(self._contents.rows(self._wanted(shared)), key=itemgetter(0)):
                with self._opened(piece) as writer:
                    for _, rows in group:
                        writer.write(rows)
                        self._tell(len(rows))
        except BaseException:
            self._stopped.set()
            raise

    def _wanted(self, shared: Iterator[Bundle]) -> Iterator[Piece]:
        """Bundle after bundle, as this thread gets to them, until another thread fails."""
        while not self._stopped.is_set():
            with self._lock:
                bundle = next(shared, None)
            if bundle is None:
                return
            yield from bundle

    def _tell(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            if self._bytes - self._told < _TELL_EVERY:
                return
            self._told = self._bytes
        self._trace.emit(Progress(LOADING, bytes_in=self._told))
