"""The cost of a command: time, processor time of it and all it started, and the memory of all of them together."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

INTERVAL = 0.1
"""Seconds between two looks at the memory."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one run. Servers (PostgreSQL, sshd) are nobody's children here and do not count."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds, user and system, of the process and every descendant it waited for."""
    memory: int
    """Highest sum seen of the proportional set sizes of the process and its descendants; bytes."""
    parts: dict[str, int]
    """Of that sum, by the names of programs."""


class FailedError(Exception):
    """The command did not succeed; the message ends with what it said."""


def run(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    folder: Path,
    *,
    output: Path | None = None,
    statuses: Sequence[int] = (0,),
) -> Cost:
    """Run a command to its end and measure it. What it prints goes to `output`.

    Raises FailedError when it ends with a status that is not one of `statuses`.
    """
    log = folder / "command.log"
    with log.open("wb") as errors, (output or Path(os.devnull)).open("wb") as out:
        used, began = _children(), time.monotonic()
        process = subprocess.Popen(
            list(map(str, command)),
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
        try:
            with _Memory(process.pid) as memory:
                status = process.wait()
        except BaseException:  # whoever interrupts this wants none of its processes to go on
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        wall, cpu = time.monotonic() - began, _children() - used
    if status not in statuses:
        raise FailedError(f"{Path(command[0]).name} ended with status {status}: {log.read_text()[-2000:]}")
    return Cost(wall, cpu, memory.peak, memory.parts)


def _children() -> float:
    """Of all children waited for until now; one command runs at a time."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Memory:
    """Watches a process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0
        self.parts: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(INTERVAL):
            parts: Counter[str] = Counter()
            for pid in _family(self._pid):
                parts[_name(pid)] += _proportional(pid)
            if parts.total() > self.peak:
                self.peak, self.parts = parts.total(), dict(parts)


def _family(ancestor: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    family = [ancestor]
    for member in family:
        family += [pid for pid, parent in parents.items() if parent == member]
    return family


def _proportional(pid: int) -> int:
    """A page that n processes share counts as an n-th for each."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _name(pid: int) -> str:
    """A module's for Python, the program's for others."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    return words[2] if words[1:2] == ["-m"] else Path(words[0]).name


def folder_size(folder: Path) -> int:
    """Bytes in all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def folder_files(folder: Path) -> int:
    """How many files there are in it and below."""
    return sum(path.is_file() for path in folder.rglob("*"))
