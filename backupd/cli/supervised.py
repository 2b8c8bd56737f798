"""The ties of a run to the daemon that started it: its progress goes to the daemon, and it ends with the daemon.

The daemon holds the reading end of a pipe whose writing end is ours; its number stands in the environment.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from backupd.trace import Event, Progress

if TYPE_CHECKING:
    from backupd.clock import Clock

VARIABLE = "BACKUPD_PROGRESS_FD"
"""The variable of the environment that holds the number of the pipe."""
_LONGEST = select.PIPE_BUF
"""Bytes that a pipe takes at once or not at all."""
_INTERVAL = 0.2
"""Seconds between two progresses of one phase: they are totals, so that none is missed."""
_GRACE = 60.0
"""Seconds for an orphan to end in order."""


def progress_pipe(environ: Mapping[str, str]) -> int | None:
    """Return the pipe's number; None when nobody listens, or the number is of something else."""
    try:
        number = int(environ.get(VARIABLE, ""))
        return number if stat.S_ISFIFO(os.fstat(number).st_mode) else None
    except (ValueError, OSError, OverflowError):
        return None


def die_with_the_daemon(environ: Mapping[str, str]) -> None:
    """Have this process end when the daemon's end of the pipe goes away: in order, or else by force.

    Programs that this process starts do not inherit the pipe.
    """
    number = progress_pipe(environ)
    if number is None:
        return
    os.set_inheritable(number, False)
    os.set_blocking(number, False)
    threading.Thread(target=_watch, args=(number,), daemon=True).start()


class PipeTrace:
    """A trace that writes each event as a line of JSON; what the pipe has no room for is left out."""

    def __init__(self, number: int, clock: Clock) -> None:
        self._number = number
        self._clock = clock
        self._lock = threading.Lock()
        self._written: dict[tuple[str, str], float] = {}

    def emit(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Progress) and not self._is_time(event):
                return
            line = msgspec.json.encode({"event": type(event).__name__, **msgspec.to_builtins(event)}) + b"\n"
            if len(line) <= _LONGEST:
                self._write(line)

    def _is_time(self, event: Progress) -> bool:
        key, now = (event.phase, event.subject), self._clock.monotonic()
        if now - self._written.get(key, -_INTERVAL) < _INTERVAL:
            return False
        self._written[key] = now
        return True

    def _write(self, line: bytes) -> None:
        try:
            os.write(self._number, line)
        except OSError:
            return  # full, or the daemon is gone: then `_watch` ends us


def _watch(number: int) -> None:
    poll = select.poll()
    poll.register(number, 0)  # that the other end went away is reported without being asked for
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
