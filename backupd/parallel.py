"""Apply one function to many items with a few threads, or to a few items with a thread for each."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

_AHEAD: Final = 4
"""Tasks that wait in the queue, for each thread."""

_PATIENCE: Final = 30.0
"""Seconds to wait for tasks under way when the caller stops early."""

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, Future[R]]]:
    """Yield each item with its finished future, in order; `threads` of them run at a time.

    When the caller stops early or an error is raised, tasks that have not begun are cancelled; those that have are
    waited for, where the caller stopped early for half a minute at most. An error of `function` itself is not raised
    here: `Future.result` raises it.
    """
    pool = ThreadPoolExecutor(threads, "parallel")
    waiting: deque[tuple[T, Future[R]]] = deque()
    left = False
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > threads * _AHEAD:
                yield _done(waiting.popleft())
        while waiting:
            yield _done(waiting.popleft())
    except GeneratorExit:
        # This may run in the garbage collector, in the midst of another pool's `submit`, which holds a lock of all
        # pools: a task that is to use a pool of its own would wait for it, and we for the task, for ever.
        left = True
        wait([future for _, future in waiting if not future.cancel()], timeout=_PATIENCE)
        raise
    finally:
        pool.shutdown(wait=not left, cancel_futures=True)


def side_by_side(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return what the function makes of each item, in order; each of several is worked at in a thread of its own.

    An interruption is not held up: threads that still wait for something then end with the process. Raises the first
    item's error.
    """
    if len(items) < 2:
        return [function(item) for item in items]
    futures = [_started(function, item) for item in items]
    return [future.result() for future in futures]


def _started(function: Callable[[T], R], item: T) -> Future[R]:
    future: Future[R] = Future()

    def work() -> None:
        try:
            future.set_result(function(item))
        except BaseException as error:  # noqa: BLE001 - `Future.result` raises it
            future.set_exception(error)

    threading.Thread(target=work, name="side-by-side", daemon=True).start()
    return future


def _done(pair: tuple[T, Future[R]]) -> tuple[T, Future[R]]:
    pair[1].exception()
    return pair
