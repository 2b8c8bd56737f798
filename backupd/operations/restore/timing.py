"""The phases of a run, told as they begin and end, and timed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from backupd.trace import PhaseDone, PhaseStarted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.clock import Clock
    from backupd.trace import Trace


class Timer:
    """Starts when it is made."""

    def __init__(self, clock: Clock, trace: Trace) -> None:
        self.clock = clock
        self._trace = trace
        self._began = clock.monotonic()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[None]:
        """One phase, of `total` bytes when somebody knows; phases of one name are added up."""
        self._trace.emit(PhaseStarted(name, total_estimate=total))
        begun = self.clock.monotonic()
        yield
        taken = self.clock.monotonic() - begun
        self._seconds[name] = self._seconds.get(name, 0.0) + taken
        self._trace.emit(PhaseDone(name, seconds=taken))

    def phases(self) -> tuple[tuple[str, float], ...]:
        """Each phase that ended well, with seconds, in the order they began first."""
        return tuple(self._seconds.items())

    def seconds(self) -> float:
        return self.clock.monotonic() - self._began
