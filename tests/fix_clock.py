"""Clocks that tests move by hand; the machine's own decides nothing."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings

# Hypothesis would fail an example that takes more than 200 ms, which on a busy machine any may.
settings.register_profile("any-speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-speed")

FAR = timedelta(days=36500)
"""The tolerance of keepers whose clocks a test moves, over stores that have the real time."""


class TickingClock:
    """Stands still except when slept on or moved; sleeping takes no time of ours."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.sleeps: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=self.elapsed)

    def monotonic(self) -> float:
        return self.elapsed

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)
            self.elapsed += seconds


@dataclass
class ShiftedClock:
    """The machine's clock, moved by as much as a test says."""

    by: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by

    def monotonic(self) -> float:
        return self.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self.by += timedelta(seconds=seconds)


@pytest.fixture
def ticking_clock() -> TickingClock:
    return TickingClock()
