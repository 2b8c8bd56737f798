"""Indexes of full tables are made beside the loading; an error of either ends both."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from backupd.errors import SourceError
from backupd.operations.restore.indexes import EarlyIndexes

BIG = 1 << 30


def test_what_was_begun_is_made_and_the_rest_is_left() -> None:
    """One table after another for one worker; small tables, and those that nobody got to, are left."""
    begun, go = threading.Event(), threading.Event()

    def make(entries: Sequence[int], _: threading.Event) -> None:
        begun.set()
        assert go.wait(60)

    with EarlyIndexes(make, 1) as early:
        early.full((1, 2), BIG)
        assert begun.wait(60)
        early.full((3,), BIG)
        early.full((4,), 10)
        early.full((), BIG)
        threading.Timer(0.2, go.set).start()
    assert early.done == {1, 2}


def test_several_are_made_at_once() -> None:
    """As many as there are workers: each waits here for the other."""
    both = threading.Barrier(2, timeout=60)
    with EarlyIndexes(lambda *_: both.wait() and None, 2) as early:
        early.full((1,), BIG)
        early.full((2,), BIG)
    assert early.done == {1, 2}


def test_a_worker_takes_one_table_after_another() -> None:
    """More tables than workers are all made while the loading goes on."""
    made = threading.Semaphore(0)
    with EarlyIndexes(lambda *_: made.release(), 2) as early:
        for number in range(9):
            early.full((number,), BIG)
        assert all(made.acquire(timeout=60) for _ in range(9))
    assert early.done == set(range(9))


def test_an_error_ends_the_loading() -> None:
    """With the next table that is full, or at the end at the latest."""
    failed = threading.Event()

    def make(*_: object) -> None:
        failed.set()
        raise SourceError("unique violation")

    def waiting() -> None:
        with EarlyIndexes(make, 1) as early:
            early.full((1,), BIG)
            assert failed.wait(60)

    def going_on() -> None:
        with EarlyIndexes(make, 1) as early:
            early.full((1,), BIG)
            assert failed.wait(60)
            while True:
                early.full((2,), BIG)

    for load in (waiting, going_on):
        failed.clear()
        with pytest.raises(SourceError, match="unique violation"):
            load()


def test_a_loading_that_fails_stops_what_is_under_way() -> None:
    """Its error is raised, and not that of what was stopped."""
    begun, told = threading.Event(), list[bool]()

    def make(_: Sequence[int], stopped: threading.Event) -> None:
        begun.set()
        told.append(stopped.wait(30))
        raise SourceError("was stopped")

    early = EarlyIndexes(make, 1)

    def load() -> None:
        with early:
            early.full((1,), BIG)
            assert begun.wait(60)
            raise SourceError("no more rows")

    with pytest.raises(SourceError, match="no more rows"):
        load()
    assert (told, early.done) == ([True], set())
