"""A line that counts seconds on a terminal, for commands that wait for a store and print nothing until it answered.

It takes no library to draw it: `status` is started often, and mostly for programs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_SECOND = 1.0
_SILENT = 2
"""Seconds for which nothing is shown: most of these commands are done by then."""


@contextmanager
def counted_seconds(what: str, *, quiet: bool = False, out: TextIO | None = None) -> Iterator[None]:
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


def _count(what: str, stream: TextIO, ended: threading.Event) -> None:
    seconds, width = 0, 0
    while not ended.wait(_SECOND):
        seconds += 1
        if seconds >= _SILENT:
            line = f"{what}: for {seconds} s"
            width = len(line)
            stream.write(f"\r{line}")
            stream.flush()
    if width:
        stream.write("\r" + " " * width + "\r")
        stream.flush()
