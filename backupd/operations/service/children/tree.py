"""Processes as the kernel shows them: who descends from whom, and how long they have computed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
