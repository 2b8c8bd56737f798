"""Apply one function to many items with a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_AHEAD: Final = 4
"""Tasks that wait in the queue, for each thread."""

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, Future[R]]]:
    """Yield each item with its finished future, in order; `threads` of them run at a time.

    When the caller stops early or an error is raised, tasks that have not begun are cancelled. An error of `function`
    itself is not raised here: `Future.result` raises it.
    """
    with ThreadPoolExecutor(threads, "parallel") as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(function, item)))
                if len(waiting) > threads * _AHEAD:
                    yield _done(waiting.popleft())
            while waiting:
                yield _done(waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()


def _done(pair: tuple[T, Future[R]]) -> tuple[T, Future[R]]:
    pair[1].exception()
    return pair
