"""A program on a terminal of its own, typed into and read until what is waited for stands there."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self


class Terminal:
    """Ends the program, when it still runs, on leaving."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *command: str) -> None:
        self._number, self._file = pty.fork()
        if self._number == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, {"PATH": os.environ["PATH"], "TERM": "dumb", **environment})
        self.shown = ""
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._number, signal.SIGKILL)
        os.close(self._file)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._number, 0)

    def type(self, text: str) -> None:
        os.write(self._file, text.encode())

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """Read until the text has come after what was waited for before; returns what stood between."""
        ends = time.monotonic() + seconds
        while text not in self.shown[self._read :]:
            left = ends - time.monotonic()
            assert left > 0, f"{text!r} never came: {self.shown!r}"
            assert self._take(left), f"it ended before {text!r}: {self.shown!r}"
        between, _, rest = self.shown[self._read :].partition(text)
        self._read = len(self.shown) - len(rest)
        return between

    def answer(self, question: str, answer: str = "") -> str:
        """Wait for a question and answer it; returns what was shown before it."""
        before = self.wait_for(question)
        self.type(answer + "\n")
        return before

    def ended(self) -> int:
        """Read to the end, and return the exit status."""
        while self._take(120):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self._number, 0)[1])

    def _take(self, seconds: float) -> bool:
        if not select.select([self._file], [], [], seconds)[0]:
            return True
        try:
            taken = os.read(self._file, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += taken.decode(errors="replace").replace("\r\n", "\n")
        return bool(taken)
