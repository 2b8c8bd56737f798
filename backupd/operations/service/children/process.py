"""A child process and its two pipes: what it prints, and what it tells of its progress. Never blocks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from backupd.operations.service.children.tree import SeenProcess, computed, descendants, still_there

VARIABLE: Final = "BACKUPD_PROGRESS_FD"
MOST: Final = 16 << 20
"""Bytes of an answer; one that is longer is none."""
_READ: Final = 1 << 16


class Child:
    """A process in a session of its own, with everything it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int] = ()) -> None:
        """Start it, with descriptors of ours that it inherits; raises OSError when that cannot be done."""
        progress, theirs = os.pipe()
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env={**environment, VARIABLE: str(theirs)},
                pass_fds=(theirs, *inherited),
                cwd="/",
                start_new_session=True,
            )
        except OSError:
            os.close(progress)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdout is not None  # noqa: S101 - said to the type checker: it was asked for above
        self._progress = progress
        self._printed = self._process.stdout.fileno()
        for number in (progress, self._printed):
            os.set_blocking(number, False)
        self._answer = bytearray()
        self._line = b""
        self._remains: list[SeenProcess] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def take_in(self) -> list[dict[str, Any]]:
        """What it told of its progress since the last time."""
        self._drain()
        *lines, self._line = (self._line + b"".join(_pieces(self._progress))).split(b"\n")
        events = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                events.append(msgspec.json.decode(line, type=dict[str, Any]))
        return events

    def status(self) -> int | None:
        """Its exit status, minus the signal's number where one ended it; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._drain()
        return status

    def answer(self) -> Any:
        """The object it printed; None when that is none."""
        try:
            return msgspec.json.decode(self._answer) if len(self._answer) <= MOST else None
        except msgspec.DecodeError:
            return None

    def computed(self) -> float:
        """Seconds of processor time that it and its descendants have used."""
        return computed(self.pid)

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill its group; what it started in other groups ends by itself, or by `kill_remains`."""
        if self._process.poll() is None:
            self._remains += [one for one in descendants(self.pid) if one.pid != self.pid]
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def remains(self) -> bool:
        """Whether something it had started still runs after `kill`."""
        self._remains = still_there(self._remains)
        return bool(self._remains)

    def kill_remains(self) -> None:
        for one in still_there(self._remains):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self._progress)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _drain(self) -> None:
        for piece in _pieces(self._printed):
            if len(self._answer) <= MOST:
                self._answer += piece


def _pieces(number: int) -> list[bytes]:
    """All that can be read now."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(number, _READ):
            found.append(piece)
    return found
