"""One run of a job under its limits: asked to end, then killed, when it is late, hangs or has to stop.

Whether a run still moves on. Pure: readings of a clock and of processor time in, a verdict out.

What an exit status and an answer say of a run: its outcome, its failures, and what stands in the way of another.
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
"""Every other status is a failure."""


def outcome(status: int, answer: JobAnswer | None, failures: tuple[Failure, ...]) -> JobOutcome:
    """How a run that nobody ended has ended; `status` is negative where a signal ended it."""
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
    """What stands in the way; None when nothing does, or the daemon itself did."""
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
