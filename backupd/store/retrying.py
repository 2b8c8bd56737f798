"""A store whose broken connections are tried again: exponential back-off, jitter, a deadline. Nothing else is."""

from __future__ import annotations

import random as randomness
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, TypeVar

import tenacity

from backupd.clock import Clock
from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Space
from backupd.store.probe import ProbedStore, Workbench

T = TypeVar("T")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0


class RetryingStore:
    """Retries `StoreGoneError` for `patience` seconds per call; a refused login is not one and ends at once.

    Safe because every call of the port is: an object that was published before its answer got lost counts as put, one
    that was removed counts as removed.
    """

    def __init__(
        self, inner: ProbedStore, clock: Clock, patience: float, uniform: Callable[[float, float], float] | None = None
    ) -> None:
        self.inner = inner
        self._clock = clock
        self._patience = patience
        self._uniform = uniform or randomness.SystemRandom().uniform

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._try(lambda: self.inner.put_new(name, source, size, sha256))

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        return self._try(lambda: self.inner.get(name, offset, length))

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        return self._try(lambda: self.inner.stat(name))

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        """A listing that broke starts again and leaves out what it has given already."""
        given: set[ObjectName] = set()
        listing: Iterator[ObjectInfo] | None = None

        def step() -> ObjectInfo | None:
            nonlocal listing
            try:
                listing = listing if listing is not None else self.inner.list(prefix)
                return next((info for info in listing if info.name not in given), None)
            except StoreGoneError:
                listing = None
                raise

        while (info := self._try(step)) is not None:
            given.add(info.name)
            yield info

    def remove(self, name: ObjectName) -> None:
        self._try(lambda: self.inner.remove(name))

    def space(self) -> Space | None:
        return self._try(self.inner.space)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        return self._try(self.inner.snapshots)

    def workbench(self) -> Workbench:
        return self._try(self.inner.workbench)

    def close(self) -> None:
        self.inner.close()

    def _try(self, call: Callable[[], T]) -> T:
        until = self._clock.monotonic() + self._patience
        return tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreGoneError),
            wait=self._wait,
            stop=lambda state: self._clock.monotonic() + self._wait_at_most(state) > until,
            sleep=self._clock.sleep,
            reraise=True,
        )(call)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        # Half of it at random: nodes that lost one store together must not come back together.
        longest = self._wait_at_most(state)
        return self._uniform(longest / 2, longest)

    @staticmethod
    def _wait_at_most(state: tenacity.RetryCallState) -> float:
        return min(_FIRST_WAIT * 2.0 ** min(state.attempt_number - 1, 10), _LONGEST_WAIT)
