"""The phases of a run, reported as they begin and end, and timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from backupd.clock import Clock
from backupd.trace import PhaseDone, PhaseStarted, Trace


class Phases:
    """The phases of one run, which starts when this is made."""

    def __init__(self, clock: Clock, trace: Trace, subject: str = "") -> None:
        """`subject` is what the run works on, as `PhaseStarted.subject` has it."""
        self.clock = clock
        self._trace = trace
        self._subject = subject
        self._began = clock.monotonic()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: str = "bytes") -> Iterator[None]:
        """One phase, of `total` bytes or things when somebody knows; phases of one name are added up.

        One that fails is not reported as done, nor counted: its error says it.
        """
        self._trace.emit(PhaseStarted(name, self._subject, total, unit))
        begun = self.clock.monotonic()
        yield
        taken = self.clock.monotonic() - begun
        self._seconds[name] = self._seconds.get(name, 0.0) + taken
        self._trace.emit(PhaseDone(name, self._subject, taken))

    def taken(self) -> tuple[tuple[str, float], ...]:
        """Each phase that ended well, with seconds, in the order they ended first."""
        return tuple(self._seconds.items())

    def seconds(self) -> float:
        """Since the run started."""
        return self.clock.monotonic() - self._began
