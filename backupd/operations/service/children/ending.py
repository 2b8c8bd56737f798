"""What an exit status and an answer say of a run: its outcome, its failures, and what stands in the way of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backupd import errors
from backupd.operations.service.told import Failure, JobOutcome
from backupd.planning.schedule.retries import Cause

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


def outcome(status: int, answer: Any, failures: tuple[Failure, ...]) -> JobOutcome:
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


def failures_in(answer: Any) -> tuple[Failure, ...]:
    """Every error that an answer holds, with where it says it was; the same one once."""
    return tuple(dict.fromkeys(_failures(answer, "")))


def _failures(value: Any, where: str) -> Iterator[Failure]:
    if isinstance(value, list):
        for below in value:
            yield from _failures(below, where)
    elif isinstance(value, dict):
        if isinstance(value.get("kind"), str) and "exit_code" in value and "retryable" in value:
            yield Failure(
                value["kind"],
                str(value.get("message", "")),
                str(value.get("hint", "")),
                bool(value["retryable"]),
                where,
            )
            return
        here = "/".join(str(value[name]) for name in ("store", "database") if value.get(name)) or where
        for name, below in value.items():
            yield from _failures(below, name if _is_by_store(value, name) else here)


def _is_by_store(value: Mapping[str, Any], name: str) -> bool:
    """Whether `name` is a store's, in a table of errors by store."""
    found = value[name]
    return isinstance(found, dict) and "exit_code" in found and name not in ("error", "unpublished")
