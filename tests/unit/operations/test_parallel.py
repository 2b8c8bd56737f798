"""Functions applied by several threads: in order, cancelled when nobody wants the rest, not waited for in vain."""

from __future__ import annotations

import threading

import pytest

from backupd import parallel
from backupd.parallel import in_parallel, side_by_side


def test_results_come_in_the_order_of_the_items() -> None:
    """Each with the item it is of."""
    assert [(item, done.result()) for item, done in in_parallel(lambda n: n * n, range(40), 3)] == [
        (n, n * n) for n in range(40)
    ]


def test_who_stops_early_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The garbage collector may close a generator, while a task waits for what the collecting thread holds."""
    monkeypatch.setattr(parallel, "_PATIENCE", 0.2)
    gate, second, begun = threading.Event(), threading.Event(), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            second.set()
            gate.wait(20)
        return number

    results = in_parallel(work, range(100), 1)
    assert next(results)[0] == 0
    assert second.wait(20)
    closing = threading.Thread(target=results.close)
    closing.start()
    closing.join(20)
    waited = closing.is_alive()
    gate.set()
    closing.join()
    assert not waited
    assert len(begun) < 10, "tasks that had not begun were not cancelled"


def test_a_few_are_worked_at_at_the_same_time() -> None:
    """Each in its own thread, as none ends before all have begun; one alone needs none. The first error is raised."""
    gate = threading.Barrier(3)

    def work(number: int) -> int:
        if number == 0:
            raise LookupError(number)
        gate.wait(20)
        return number * number

    assert side_by_side(work, [3, 2, 1]) == [9, 4, 1]
    assert side_by_side(lambda _: threading.current_thread(), [1]) == [threading.current_thread()]
    with pytest.raises(LookupError):
        side_by_side(work, [0, 0])
