"""The phases of a run, reported as they begin and end, and timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from backupd.clock import Clock
from backupd.trace import PhaseDone, PhaseFailed, PhaseStarted, Progress, Trace


class Phases:
    """The timed phases of one run, which starts when this object is made."""

    def __init__(self, clock: Clock, trace: Trace, subject: str = "") -> None:
        """Start the run's clock; `subject` is what the run works on, as `PhaseStarted.subject` has it."""
        self.clock = clock
        self._trace = trace
        self._subject = subject
        self._began = clock.monotonic()
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(
        self,
        name: str,
        total: int | None = None,
        unit: str = "bytes",
        *,
        quiet: bool = False,
        expected: float | None = None,
    ) -> Iterator[None]:
        """Report and time one phase, of `total` bytes or things where that is known; phases of one name are added up.

        A `quiet` one is shown on a terminal while it lasts, and stands in no log; `expected` are the seconds that it
        took the last time.
        A phase that raises is reported as failed, and not counted.
        """
        self._trace.emit(PhaseStarted(name, self._subject, total, unit, quiet, expected))
        begun = self.clock.monotonic()
        try:
            yield
        except BaseException:
            self._trace.emit(PhaseFailed(name, self._subject, self.clock.monotonic() - begun))
            raise
        taken = self.clock.monotonic() - begun
        self._seconds[name] = self._seconds.get(name, 0.0) + taken
        self._trace.emit(PhaseDone(name, self._subject, taken))

    def on(self, subject: str) -> Phases:
        """Return the phases of a part of the run that works on something else, such as one of several stores."""
        return Phases(self.clock, self._trace, subject)

    def emit(self, event: Progress) -> None:
        """Report how far a phase is; what the run works on is added, as phases of one name differ by it."""
        self._trace.emit(replace(event, subject=self._subject))

    def taken(self) -> tuple[tuple[str, float], ...]:
        """Return each phase that ended well, with its seconds, in the order in which they first ended."""
        return tuple(self._seconds.items())

    def seconds(self) -> float:
        """Return the seconds since the run started."""
        return self.clock.monotonic() - self._began
