"""One run of a job under its limits: asked to end, then killed, when it is late, hangs or has to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from backupd.operations.service.children.pulse import StallDetector
from backupd.operations.service.told import JobOutcome

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.operations.service.jobs import Job

_REMAINS: Final = 15.0
"""Seconds for what a killed job had started to end by itself: a drill's guardian removes its rows meanwhile."""
_WARNINGS: Final = 50


class Process(Protocol):
    """What a run needs of its process; `Child` is one."""

    @property
    def pid(self) -> int: ...
    def take_in(self) -> list[dict[str, Any]]: ...
    def status(self) -> int | None: ...
    def answer(self) -> Any: ...
    def computed(self) -> float: ...
    def ask_to_end(self) -> None: ...
    def kill(self) -> None: ...
    def remains(self) -> bool: ...
    def kill_remains(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """What a run is for."""

    job: Job
    at: datetime
    attempt: int
    slot: datetime
    """Of the timetable; what was done since serves it."""


class Run:
    """For one thread; `now` is a monotonic clock's."""

    def __init__(self, begun: Begun, process: Process, now: float) -> None:
        self.begun = begun
        self.process = process
        self.started = now
        self.warnings: list[tuple[str, str]] = []
        self.phase: dict[str, Any] = {}
        """The last thing it told of where it is."""
        self.ended_for: JobOutcome | None = None
        """Why it was asked to end; None: it was not."""
        self._pulse = StallDetector(begun.job.limits.stall.total_seconds(), now)
        self._kill_at: float | None = None
        self._killed: float | None = None

    def look(self, now: float) -> bool:
        """Listen to it, and do what its limits ask for; whether it has ended, with all it had started."""
        self._listen(now)
        status = self.process.status()
        if status is None:
            self._limit(now)
            return False
        self._listen(now)
        if self._killed is None or not self.process.remains():
            return True
        if now - self._killed > _REMAINS:
            self.process.kill_remains()
        return False

    def end(self, why: JobOutcome, now: float, grace: float) -> None:
        """Ask it to end, and kill it after so many seconds; asked again, the earlier moment holds."""
        at = now + grace
        if self.ended_for is None:
            self.ended_for = why
            self.process.ask_to_end()
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)

    def defies(self, now: float) -> bool:
        """Whether it should have been gone long ago: nobody can end it any more."""
        return self._killed is not None and now - self._killed > 2 * _REMAINS

    def _listen(self, now: float) -> None:
        for event in self.process.take_in():
            self._pulse.hear(event, now)
            if event.get("event") == "Warned":
                self.warnings.append((str(event.get("message", "")), str(event.get("hint", ""))))
                del self.warnings[_WARNINGS:]
            else:
                self.phase = event

    def _limit(self, now: float) -> None:
        limits = self.begun.job.limits
        if self.ended_for is None:
            if now - self.started > limits.deadline.total_seconds():
                self.end(JobOutcome.LATE, now, limits.grace.total_seconds())
            elif self._pulse.hangs(now, self.process.computed):
                self.end(JobOutcome.HUNG, now, limits.grace.total_seconds())
        elif self._killed is None and self._kill_at is not None and now >= self._kill_at:
            self._killed = now
            self.process.kill()
