"""The daemon's log: one line for each run of a job, for journald or a person. The only user of structlog."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TextIO

import structlog

from backupd.model.text import stamp
from backupd.operations.service.jobs import (
    WELL,
    DaemonReady,
    Event,
    JobDone,
    JobOutcome,
    JobStarted,
    Reloaded,
    Stopped,
    Stopping,
)

_PRIORITY: Final = {"error": 3, "warning": 4, "info": 6}
"""The priorities of sd-daemon(3)."""
_MILD: Final = frozenset({JobOutcome.BUSY, JobOutcome.STOPPED})


class Lines:
    """A listener that writes events as lines, `key=value` or JSON; for journald with their priority in front."""

    def __init__(self, out: TextIO, environ: Mapping[str, str], *, as_json: bool) -> None:
        self._to_journal = _is_journal(out, environ)
        render = structlog.processors.JSONRenderer() if as_json else structlog.processors.LogfmtRenderer()
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(out), processors=[self._ordered, render, self._with_priority]
        )

    def on_event(self, event: Event) -> None:
        if isinstance(event, JobStarted):
            return  # its end says all
        level, fields = _described(event)
        self.write(level, **fields)

    def write(self, level: str, **fields: Any) -> None:
        """Write one line; the field `event` names what happened.

        A log that takes nothing, on a full disk or through a pipe whose reader is gone, stops no backup: history,
        metrics and notifications have the same.
        """
        with suppress(OSError):
            getattr(self._log, level)(**{name: value for name, value in fields.items() if value not in (None, "")})

    def _ordered(self, _logger: Any, level: str, fields: Any) -> Any:
        # journald knows the time and the priority of a line; a person wants to read them.
        level_of = {} if self._to_journal else {"level": level}
        return {**level_of, "event": fields.pop("event"), **fields}

    def _with_priority(self, _logger: Any, level: str, line: Any) -> str:
        return f"<{_PRIORITY[level]}>{line}" if self._to_journal else str(line)


_NAMES: Final[dict[type, str]] = {
    DaemonReady: "ready",
    Reloaded: "reloaded",
    Stopping: "stopping",
    Stopped: "stopped",
}
"""The names of events in lines of the log: filters of journals rely on them, and classes may be renamed."""


def _described(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case JobDone():
            return _level(event), _of_job(event)
        case Reloaded() if event.faults:
            return "error", {
                "event": "not-reloaded",
                "faults": "; ".join(event.faults),
                "holds": "the old configuration",
            }
        case _:
            return "info", {"event": _NAMES[type(event)], **_of_incarnation(event)}


def _of_incarnation(event: Event) -> dict[str, Any]:
    match event:
        case DaemonReady():
            return {"jobs": ", ".join(map(str, event.jobs))}
        case Stopping():
            return {"reason": event.reason}
        case Stopped():
            return {"seconds": round(event.seconds, 1)}
        case _:
            return {}


def _level(done: JobDone) -> str:
    if done.outcome is JobOutcome.DONE or done.outcome in _MILD:
        return "warning" if done.warnings else "info"
    return "error"


def _of_job(done: JobDone) -> dict[str, Any]:
    first = done.failures[0] if done.failures else None
    return {
        "event": "job",
        "kind": done.key.kind.value,
        "region": done.key.region,
        "outcome": done.outcome.value,
        "seconds": round(done.seconds, 3),
        "attempt": done.attempt if done.attempt > 1 else None,
        "status": None if done.outcome in WELL and not done.exit_status else done.exit_status,
        **(done.answer.figures() if done.answer is not None else {}),
        "failures": len(done.failures) if len(done.failures) > 1 else None,
        "where": first.where if first else None,
        "error": first.message if first else None,
        "hint": first.hint if first else None,
        "warnings": "; ".join(message for message, _ in done.warnings),
        "retry": stamp(done.retry_at) if done.retry_at else None,
        "next": stamp(done.next_at) if done.next_at and not done.retry_at else None,
    }


def _is_journal(out: TextIO, environ: Mapping[str, str]) -> bool:
    """Say whether journald reads the stream itself, by the variable that systemd.exec(5) defines."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
