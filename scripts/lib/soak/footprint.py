"""What a daemon at rest has: memory, descriptors, threads and children, which must not grow from day to day."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubles.node.processes import proportional

MEMORY = 12 << 20
"""Bytes by which a daemon's memory may differ from what it had after its first day."""
SPARE = 2
"""Descriptors and threads that may come and go."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Of one process."""

    memory: int
    descriptors: int
    threads: int
    children: int
    """Also those that ended, and that nobody waited for."""

    @classmethod
    def of(cls, pid: int) -> Footprint:
        folder = Path(f"/proc/{pid}")
        threads, descriptors = (sum(1 for _ in (folder / name).iterdir()) for name in ("task", "fd"))
        return cls(proportional(pid), descriptors, threads, _children(pid))


@dataclass
class Footprints:
    """Of every daemon that lived, day by day."""

    seen: dict[tuple[str, int], list[Footprint]] = field(default_factory=dict)
    """By node and process."""

    def add(self, node: str, pid: int, footprint: Footprint) -> None:
        self.seen.setdefault((node, pid), []).append(footprint)

    def faults(self) -> list[str]:
        """Sentences about daemons that had more at the end of a day than after their first."""
        return [fault for (node, _), days in self.seen.items() for fault in _grown(node, days)]

    def figures(self) -> dict[str, Any]:
        """Of the daemon that lived longest: the first and the last day, and the most of any."""
        days = max(self.seen.values(), key=len, default=[])
        if not days:
            return {}
        figures: dict[str, Any] = {"days": len(days)}
        for name in Footprint.__slots__:
            values = [getattr(one, name) for one in days]
            three = {"first": values[0], "last": values[-1], "most": max(values)}
            figures[name] = {
                key: round(value / (1 << 20), 1) if name == "memory" else value for key, value in three.items()
            }
        return {"daemon": figures}


def _grown(node: str, days: list[Footprint]) -> Iterable[str]:
    if any(day.children for day in days):
        yield f"9: the daemon of {node} has {max(day.children for day in days)} children, and nothing to do"
    if len(days) < 2:
        return
    for name, spare in (("memory", MEMORY), ("descriptors", SPARE), ("threads", SPARE)):
        usual, most = getattr(days[1], name), max(getattr(day, name) for day in days[1:])
        if most > usual + spare:
            yield f"9: the daemon of {node} has {most} {name} after {len(days)} days, and had {usual}"


def _children(pid: int) -> int:
    found = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found += stat.read_text().rpartition(")")[2].split()[1] == str(pid)
        except (OSError, UnicodeDecodeError):
            continue
    return found
