"""A child process with two pipes, for its answer and its progress; and its descendants as the kernel shows them.

Nothing here blocks.
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
"""Bytes of the longest answer that is read; a longer one counts as none."""
_READ: Final = 1 << 16


class Child:
    """A process in a session of its own, with everything that it starts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], inherited: Sequence[int] = ()) -> None:
        """Start the process with descriptors that it inherits; raises OSError when it cannot be started."""
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

    def read_progress(self) -> list[dict[str, Any]]:
        """Return the progress events that arrived since the last call."""
        self._drain()
        *lines, self._line = (self._line + b"".join(_pieces(self._progress))).split(b"\n")
        events = []
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                events.append(msgspec.json.decode(line, type=dict[str, Any]))
        return events

    def status(self) -> int | None:
        """Return its exit status, or minus the number of the signal that ended it; None while it runs."""
        status = self._process.poll()
        if status is not None:
            self._drain()
        return status

    def answer(self) -> Any:
        """Return the object that it printed; None when it printed no JSON."""
        try:
            return msgspec.json.decode(self._answer) if len(self._answer) <= MOST else None
        except msgspec.DecodeError:
            return None

    def computed(self) -> float:
        """Return the seconds of processor time that it and its descendants have used."""
        return computed(self.pid)

    def ask_to_end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Kill its process group; processes that it started in other groups end by themselves, or by `kill_remains`."""
        if self._process.poll() is None:
            self._remains += [one for one in descendants(self.pid) if one.pid != self.pid]
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def remains(self) -> bool:
        """Say whether a process that it had started still runs after `kill`."""
        self._remains = still_there(self._remains)
        return bool(self._remains)

    def kill_remains(self) -> None:
        for one in still_there(self._remains):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, signal.SIGKILL)

    def close(self) -> None:
        """Close our ends of its pipes."""
        os.close(self._progress)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _drain(self) -> None:
        for piece in _pieces(self._printed):
            if len(self._answer) <= MOST:
                self._answer += piece


def _pieces(number: int) -> list[bytes]:
    """Return everything that can be read now without waiting."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(number, _READ):
            found.append(piece)
    return found


_PROC = Path("/proc")
_PARENT, _GROUP, _USED, _STARTED = 1, 2, slice(11, 15), 19
"""Fields of /proc/PID/stat behind the name, proc(5); the time used is that of the process and of its ended children."""


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process as /proc showed it at one moment."""

    pid: int
    parent: int
    group: int
    seconds: float
    """Processor time, with that of its children that have ended."""
    started: int
    """Ticks from boot to its start, which distinguish it from a later process with the same number."""


def descendants(root: int) -> list[SeenProcess]:
    """Return the process `root` with every living child, grandchild and so on."""
    everybody = list(_everybody())
    found = [one for one in everybody if one.pid == root]
    for parent in found:  # grows while it is walked
        found += [one for one in everybody if one.parent == parent.pid]
    return found


def computed(root: int) -> float:
    """Return the seconds of processor time of `root` and all its descendants."""
    return sum(one.seconds for one in descendants(root))


def still_there(seen: Iterable[SeenProcess]) -> list[SeenProcess]:
    """Return the processes among these that still run."""
    now = ((one, _seen(one.pid)) for one in seen)
    return [one for one, found in now if found is not None and found.started == one.started]


def _everybody() -> Iterable[SeenProcess]:
    for name in os.listdir(_PROC):  # noqa: PTH208 - names are all it takes, a hundred of them each time
        if name.isdigit() and (found := _seen(int(name))) is not None:
            yield found


def _seen(pid: int) -> SeenProcess | None:
    """Return a process as it is now; None when it is gone or a zombie."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    if state == b"Z":
        return None
    numbers = [0, *map(int, fields[:20])]
    ticks = os.sysconf("SC_CLK_TCK")
    return SeenProcess(pid, numbers[_PARENT], numbers[_GROUP], sum(numbers[_USED]) / ticks, numbers[_STARTED])
