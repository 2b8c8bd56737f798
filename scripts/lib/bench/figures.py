"""Figures of measured runs, and what is computed from them: medians, and ratios within each round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lib.process_cost import Cost

COLUMNS = ("wall", "cpu", "memory", "sent", "objects", "held", "moved")
INTERRUPTED = "interrupted"
"""Why scenarios are missing after Ctrl-C or SIGTERM."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured run of one contender on one sample; a column that was not measured is 0."""

    sample: str
    contender: str
    phase: str
    round: int
    wall: float = 0.0
    """Seconds."""
    cpu: float = 0.0
    """Seconds of processor time, of all its processes."""
    memory: int = 0
    """Bytes, the peak of all its processes together."""
    sent: int = 0
    """Bytes by which the other side grew."""
    objects: int = 0
    """Files by which the other side grew."""
    held: float = 0.0
    """Seconds for which an exported snapshot was held."""
    moved: int = 0
    """Bytes that went over its connections, in both directions."""


@dataclass(slots=True)
class Log:
    """Where figures go, and why others are missing."""

    say: Callable[[str], None]
    figures: list[Figure] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    """By contender."""
    failed: dict[str, str] = field(default_factory=dict)
    """By scenario."""
    samples: list[dict[str, object]] = field(default_factory=list)
    """What was backed up."""

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        self.say(f"{figure.sample}, round {figure.round}: {figure.contender} {figure.phase} {_most_telling(figure)}")

    @contextmanager
    def scenario(self, name: str) -> Iterator[None]:
        """Note why a scenario could not be measured, and go on with the next one."""
        try:
            yield
        except KeyboardInterrupt:
            self.failed[name] = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - whatever it was, its rows say so, and the others are measured
            text = " ".join(str(error).split())
            self.failed[name] = f"{type(error).__name__}: {text[-300:]}"
            self.say(f"{name} failed: {self.failed[name]}")


def of_cost(
    sample: str, contender: str, phase: str, number: int, cost: Cost, sent: int = 0, objects: int = 0
) -> Figure:
    return Figure(sample, contender, phase, number, round(cost.wall, 3), round(cost.cpu, 3), cost.memory, sent, objects)


def medians(figures: Sequence[Figure]) -> dict[tuple[str, str, str], dict[str, float]]:
    """Of every column, by sample, contender and phase."""
    runs: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures:
        runs.setdefault((figure.sample, figure.contender, figure.phase), []).append(figure)
    return {
        key: {column: statistics.median(getattr(run, column) for run in of) for column in COLUMNS}
        for key, of in runs.items()
    }


def _most_telling(figure: Figure) -> str:
    if figure.moved and not figure.wall:
        return f"{figure.moved:,} bytes moved"
    return f"{figure.wall:.1f} s" if figure.wall >= 1 else f"{figure.wall * 1000:.0f} ms"
