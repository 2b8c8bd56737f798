"""Processes as the kernel shows them: who descends from whom, with which arguments, environment and memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Every living child, grandchild and so on."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        parent = _parent(folder)
        if parent is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def everybody() -> list[int]:
    """Every process there is."""
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def alive(pids: Iterable[int]) -> list[int]:
    """Those that run; zombies do not."""
    return [pid for pid in pids if _parent(Path(f"/proc/{pid}")) is not None]


def running_in(folder: Path) -> set[int]:
    """Processes whose current folder this is: a PostgreSQL server's have its data folder."""
    found = set()
    for pid in everybody():
        with suppress(OSError):
            where = str(Path(f"/proc/{pid}/cwd").readlink())
            if where.removesuffix(" (deleted)") == str(folder):
                found.add(pid)
    return found


def arguments(pid: int) -> bytes:
    return _read(pid, "cmdline")


def environment(pid: int) -> bytes:
    return _read(pid, "environ")


def proportional(pid: int) -> int:
    """Bytes of memory the process has to answer for: its own, and its share of what it shares. 0 once it is gone."""
    for line in _read(pid, "smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) << 10
    return 0


def eventually(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Return once it holds; AssertionError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def _parent(folder: Path) -> int | None:
    """None for a process that is gone or a zombie."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None
    return None if fields[0] == "Z" else int(fields[1])


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
