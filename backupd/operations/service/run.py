"""One run of a job: its limits in time, whether it still makes progress, and what its end means.

A run that is late, hangs or has to stop is asked to end, and killed when it does not. Its exit status and its answer
give its outcome, its failures, and the cause that decides on another attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

import msgspec

from backupd import errors
from backupd.model.answers import JobAnswer, decode_answer
from backupd.operations.service.jobs import ANSWERS, Failure, Job, JobKind, JobOutcome
from backupd.planning.schedule import Cause

_REMAINS: Final = 15.0
"""Seconds that processes of a killed job have to end by themselves; a drill's guardian removes its rows meanwhile."""
_WARNINGS: Final = 50
"""The most warnings of one run that are kept."""


class Process(Protocol):
    """The process of a run, as `process.Child` implements it."""

    @property
    def pid(self) -> int: ...
    def read_progress(self) -> list[dict[str, Any]]: ...
    def status(self) -> int | None: ...
    def answer(self) -> Any: ...
    def computed(self) -> float: ...
    def ask_to_end(self) -> None: ...
    def kill(self) -> None: ...
    def remains(self) -> bool: ...
    def kill_remains(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class RunStart:
    """The job that a run belongs to, and its place on the timetable."""

    job: Job
    at: datetime
    attempt: int
    slot: datetime
    """The time on the timetable that the run serves."""


class Run:
    """A running job. For one thread only; `now` is always a reading of a monotonic clock, in seconds."""

    def __init__(self, start: RunStart, process: Process, now: float) -> None:
        self.start = start
        self.process = process
        self.started = now
        self.warnings: list[tuple[str, str]] = []
        self.phase: dict[str, Any] = {}
        """The last event of its progress; empty before the first."""
        self.ended_for: JobOutcome | None = None
        """Why it was asked to end; None when it was not."""
        self._stall = StallDetector(start.job.limits.stall.total_seconds(), now)
        self._kill_at: float | None = None
        self._killed: float | None = None

    def step(self, now: float) -> bool:
        """Read its progress and enforce its limits; return whether it has ended with everything that it started."""
        self._read_progress(now)
        status = self.process.status()
        if status is None:
            self._enforce_limits(now)
            return False
        self._read_progress(now)
        if self._killed is None or not self.process.remains():
            return True
        if now - self._killed > _REMAINS:
            self.process.kill_remains()
        return False

    def end(self, why: JobOutcome, now: float, grace: float) -> None:
        """Ask it to end, and kill it after `grace` seconds; of two calls the earlier moment holds."""
        at = now + grace
        if self.ended_for is None:
            self.ended_for = why
            self.process.ask_to_end()
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)

    def resists_ending(self, now: float) -> bool:
        """Say whether it still runs long after it was killed, so that nothing here can end it."""
        return self._killed is not None and now - self._killed > 2 * _REMAINS

    def _read_progress(self, now: float) -> None:
        for event in self.process.read_progress():
            self._stall.record(event, now)
            if event.get("event") == "Warned":
                warning = (str(event.get("message", "")), str(event.get("hint", "")))
                if warning not in self.warnings:
                    self.warnings.append(warning)
                del self.warnings[_WARNINGS:]
            else:
                self.phase = event

    def _enforce_limits(self, now: float) -> None:
        limits = self.start.job.limits
        if self.ended_for is None:
            if now - self.started > limits.deadline.total_seconds():
                self.end(JobOutcome.LATE, now, limits.grace.total_seconds())
            elif self._stall.hangs(now, self.process.computed):
                self.end(JobOutcome.HUNG, now, limits.grace.total_seconds())
        elif self._killed is None and self._kill_at is not None and now >= self._kill_at:
            self._killed = now
            self.process.kill()


_COMPUTES: Final = 0.01
"""The share of a processor below which a silent run counts as waiting for something that does not come."""


class StallDetector:
    """Decides from progress and processor time whether a run hangs.

    A repeated event is no sign of life. Computing is one, as long as it lasts.
    """

    def __init__(self, stall: float, now: float) -> None:
        """`stall` is the number of seconds that are allowed without a sign of life."""
        self._allowed = stall
        self._sign = now
        self._last: dict[str, Any] | None = None
        self._half: tuple[float, float] | None = None
        """When half of the time allowed had passed, and the processor time at that moment."""

    def record(self, event: dict[str, Any], now: float) -> None:
        if event != self._last:
            self._last = event
            self._alive(now)

    def silent(self, now: float) -> float:
        """Return the seconds since the last sign of life."""
        return now - self._sign

    def hangs(self, now: float, computed: Callable[[], float]) -> bool:
        """Say whether there was no sign of life for too long; `computed` is called only after half of that time."""
        if self.silent(now) < self._allowed / 2:
            return False
        if self._half is None:
            self._half = now, computed()
            return False
        if self.silent(now) < self._allowed:
            return False
        since, used = self._half
        if abs(computed() - used) < _COMPUTES * (now - since):
            return True
        self._alive(now)
        return False

    def _alive(self, now: float) -> None:
        self._sign, self._half = now, None


_AUTH: Final = frozenset({"StoreAuth", "SourceAuth", "KeyRefused"})
_FINAL: Final = frozenset({"Config", "ConfigFaults", "Usage", "Unmapped", "Refused", "Damage"})
_BUG: Final = "internal"
_BY_STATUS: Final[Mapping[int, JobOutcome]] = {
    0: JobOutcome.DONE,
    errors.UsageError.exit_code: JobOutcome.REFUSED,
    errors.ConfigError.exit_code: JobOutcome.REFUSED,
    errors.UnmappedError.exit_code: JobOutcome.REFUSED,
    errors.DamageError.exit_code: JobOutcome.FOUND,
    errors.KeyRefusedError.exit_code: JobOutcome.REFUSED,
    errors.BusyError.exit_code: JobOutcome.BUSY,
}
"""The outcome of each exit status; every other status is a failure."""


def outcome(status: int, answer: JobAnswer | None, failures: tuple[Failure, ...]) -> JobOutcome:
    """Return how a run ended that the daemon did not end; `status` is negative where a signal ended it."""
    if status < 0 or (answer is None and status != 0):
        return JobOutcome.CRASHED
    kinds = {one.kind for one in failures}
    if kinds & _AUTH:
        return JobOutcome.REFUSED
    if status == errors.RefusedError.exit_code:
        # Without an error of its own it is a verdict: the work was done, and something is wrong.
        return JobOutcome.FAILED if failures else JobOutcome.FOUND
    if status == errors.DamageError.exit_code and failures:
        return JobOutcome.FAILED
    return _BY_STATUS.get(status, JobOutcome.FAILED)


def cause(ended: JobOutcome, failures: tuple[Failure, ...]) -> Cause | None:
    """Return why the work was not done; None when it was done, or the daemon stopped the run itself."""
    if ended in (JobOutcome.DONE, JobOutcome.FOUND, JobOutcome.STOPPED):
        return None
    kinds = {one.kind for one in failures}
    if ended is JobOutcome.REFUSED or kinds & _AUTH:
        return Cause.FINAL  # also when something else failed: the next try would ask with the refused key again
    if ended in (JobOutcome.LATE, JobOutcome.HUNG, JobOutcome.CRASHED) or _BUG in kinds:
        return Cause.BROKEN
    if any(one.retryable for one in failures):
        return Cause.PASSING
    # A fault that fits no narrower family may be mended meanwhile: a disk that is mounted again, room that is made.
    return Cause.FINAL if not kinds or kinds & _FINAL else Cause.SLOW


def read_answer(kind: JobKind, printed: object) -> tuple[JobAnswer | None, str]:
    """Decode what a job printed; None where it printed nothing or something else, with the difference in words."""
    if printed is None:
        return None, ""
    try:
        return decode_answer(printed, ANSWERS[kind]), ""
    except msgspec.ValidationError as error:
        return None, str(error)


def failures_in(answer: JobAnswer | None) -> tuple[Failure, ...]:
    """Return every error that an answer holds, each once."""
    placed = answer.errors() if answer is not None else ()
    return tuple(dict.fromkeys(Failure(one.kind, one.message, one.hint, one.retryable, where) for where, one in placed))
