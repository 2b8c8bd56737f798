"""Whether a run still moves on. Pure: readings of a clock and of processor time in, a verdict out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_COMPUTES: Final = 0.01
"""Of a processor: who uses less over half the time allowed waits for something that does not come."""


class StallDetector:
    """Hears what a run tells. Telling the same again is no sign of life; computing is, as long as it lasts."""

    def __init__(self, stall: float, now: float) -> None:
        """`stall` is how many seconds without a sign are allowed."""
        self._stall = stall
        self._sign = now
        self._last: dict[str, Any] | None = None
        self._half: tuple[float, float] | None = None
        """When half of the time had passed, and the processor time then."""

    def hear(self, event: dict[str, Any], now: float) -> None:
        if event != self._last:
            self._last = event
            self._alive(now)

    def silent(self, now: float) -> float:
        """Seconds since the last sign."""
        return now - self._sign

    def hangs(self, now: float, computed: Callable[[], float]) -> bool:
        """Whether there was no sign for too long; `computed` is asked only when nothing was heard for a while."""
        if self.silent(now) < self._stall / 2:
            return False
        if self._half is None:
            self._half = now, computed()
            return False
        if self.silent(now) < self._stall:
            return False
        since, used = self._half
        if abs(computed() - used) < _COMPUTES * (now - since):
            return True
        self._alive(now)
        return False

    def _alive(self, now: float) -> None:
        self._sign, self._half = now, None
