"""A line that counts seconds on a terminal, for commands that wait for a store and print nothing until it answered.

It takes no library to draw it: `status` is started often, and mostly for programs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from backupd.trace import ASKING, Event, PhaseDone, PhaseFailed, PhaseStarted, Warned

_SECOND = 1.0
_SILENT = 2
"""Seconds for which nothing is shown: most of these commands are done by then."""


class StoresAsked:
    """A trace that knows which stores have not answered yet: what `counted_seconds` shows while several are asked."""

    def __init__(self, otherwise: str, within: timedelta) -> None:
        """Show `otherwise` while none is asked; each is waited for `within` that time."""
        self._otherwise = otherwise
        self._within = within
        self._lock = threading.Lock()
        self._asked: list[str] = []

    def emit(self, event: Event) -> None:
        with self._lock:
            if isinstance(event, Warned) or event.phase != ASKING:
                return
            if isinstance(event, PhaseStarted):
                self._asked.append(event.subject)
            elif isinstance(event, PhaseDone | PhaseFailed) and event.subject in self._asked:
                self._asked.remove(event.subject)

    def __str__(self) -> str:
        with self._lock:
            asked = sorted(set(self._asked))
        return f"asking {', '.join(asked)}, {self._within.total_seconds():.0f} s at most" if asked else self._otherwise


@contextmanager
def counted_seconds(what: str | StoresAsked, *, quiet: bool = False, out: TextIO | None = None) -> Iterator[None]:
    """Show on a terminal how long the block takes, in a line that is gone when it ends; elsewhere show nothing."""
    stream = out or sys.stderr
    if quiet or not stream.isatty():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_count, args=(what, stream, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _count(what: str | StoresAsked, stream: TextIO, ended: threading.Event) -> None:
    seconds, width = 0, 0
    while not ended.wait(_SECOND):
        seconds += 1
        if seconds >= _SILENT:
            line = f"{what}: for {seconds} s"
            stream.write(f"\r{line.ljust(width)}")
            stream.flush()
            width = len(line)
    if width:
        stream.write("\r" + " " * width + "\r")
        stream.flush()
