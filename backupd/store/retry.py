"""A store that repeats calls after a broken connection, with exponential back-off, jitter and a deadline.

No other error is retried.
"""

from __future__ import annotations

import random as randomness
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import tenacity

from backupd.clock import Clock
from backupd.errors import StoreGoneError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, StoreView
from backupd.store.forwarding import ForwardingStore, ForwardingView
from backupd.store.probe import ProbedStore, ProbeOperations

T = TypeVar("T")

_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_SILENT = 5.0
"""Seconds for which a store may be away without a report; most connections are back by then."""

Told = Callable[[StoreGoneError, float], None]
"""What hears, once while a store is away, why, and for how many seconds it is still tried."""


class Patience:
    """Retries of `StoreGoneError` for `seconds` per call. A refused login is another error and is not retried."""

    def __init__(
        self,
        clock: Clock,
        seconds: float,
        uniform: Callable[[float, float], float] | None = None,
        told: Told | None = None,
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._uniform = uniform or randomness.SystemRandom().uniform
        self._told = told
        self._lock = threading.Lock()
        self._away = False
        """Whether it was reported that the store is away, and no call has worked since."""

    def attempt(self, call: Callable[[], T]) -> T:
        until = self._clock.monotonic() + self._seconds
        value: T = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(StoreGoneError),
            wait=self._wait,
            stop=lambda state: self._clock.monotonic() + self._wait_at_most(state) > until,
            before_sleep=lambda state: self._tell(state, until),
            sleep=self._clock.sleep,
            reraise=True,
        )(call)
        self._away = False
        return value

    def _tell(self, state: tenacity.RetryCallState, until: float) -> None:
        """Say once that the store is away, before the wait for it becomes long."""
        left = until - self._clock.monotonic()
        error = state.outcome.exception() if state.outcome is not None else None
        waited = self._seconds - left + state.upcoming_sleep
        if self._told is None or waited < _SILENT or not isinstance(error, StoreGoneError):
            return
        with self._lock:
            first, self._away = not self._away, True
        if first:
            self._told(error, left)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        # Half of it at random: nodes that lost one store together must not come back together.
        longest = self._wait_at_most(state)
        return self._uniform(longest / 2, longest)

    @staticmethod
    def _wait_at_most(state: tenacity.RetryCallState) -> float:
        return min(_FIRST_WAIT * 2.0 ** min(state.attempt_number - 1, 10), _LONGEST_WAIT)


class RetryingView(ForwardingView):
    """A view whose calls are repeated after a broken connection."""

    def __init__(self, inner: StoreView, patience: Patience) -> None:
        super().__init__(inner)
        self.patience = patience

    def call(self, method: str, name: str, effect: Callable[[], T]) -> T:  # noqa: ARG002 - all are tried again alike
        return self.patience.attempt(effect)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        """List objects; a listing that broke starts again and leaves out the objects that were already given."""
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

        while (info := self.patience.attempt(step)) is not None:
            given.add(info.name)
            yield info


class RetryingStore(RetryingView, ForwardingStore):
    """A store that repeats each call after `StoreGoneError` for up to `patience` seconds.

    Repeating is safe for every call of the port: an object that was published or replaced before the answer was lost
    counts as published or replaced, and a removed one as removed.
    """

    inner: ProbedStore

    def __init__(
        self,
        inner: ProbedStore,
        clock: Clock,
        patience: float,
        uniform: Callable[[float, float], float] | None = None,
        told: Told | None = None,
    ) -> None:
        RetryingView.__init__(self, inner, Patience(clock, patience, uniform, told))

    def view(self, snapshot: ServerSnapshot) -> RetryingView:
        return RetryingView(super().view(snapshot), self.patience)

    def workbench(self) -> ProbeOperations:
        return self.patience.attempt(self.inner.workbench)
