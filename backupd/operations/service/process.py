"""A child process and its two pipes: what it prints, and what it tells of its progress. Never blocks.

Processes as the kernel shows them: who descends from whom, and how long they have computed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

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


_PROC = Path("/proc")
_PARENT, _GROUP, _USED, _STARTED = 1, 2, slice(11, 15), 19
"""Fields of /proc/PID/stat behind the name, proc(5); used: in user and system mode, by itself and by children gone."""


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process that ran when it was looked at."""

    pid: int
    parent: int
    group: int
    seconds: float
    """Of processor time, with that of its children that have ended."""
    started: int
    """In ticks since boot: tells it from a later one with the same number."""


def descendants(root: int) -> list[SeenProcess]:
    """`root` and every living child, grandchild and so on."""
    everybody = list(_everybody())
    found = [one for one in everybody if one.pid == root]
    for parent in found:  # grows while it is walked
        found += [one for one in everybody if one.parent == parent.pid]
    return found


def computed(root: int) -> float:
    """Seconds of processor time of `root` and all its descendants."""
    return sum(one.seconds for one in descendants(root))


def still_there(seen: Iterable[SeenProcess]) -> list[SeenProcess]:
    """Those that still run."""
    now = ((one, _seen(one.pid)) for one in seen)
    return [one for one, found in now if found is not None and found.started == one.started]


def _everybody() -> Iterable[SeenProcess]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - names are all it takes, a hundred of them each time
        if name.isdigit() and (found := _seen(int(name))) is not None:
            yield found


def _seen(pid: int) -> SeenProcess | None:
    """None for a process that is gone or a zombie."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if state == b"Z":
        return None
    numbers = [0, *map(int, fields[:20])]
    ticks = os.sysconf("SC_CLK_TCK")
    return SeenProcess(pid, numbers[_PARENT], numbers[_GROUP], sum(numbers[_USED]) / ticks, numbers[_STARTED])
