"""The table of a sweep: how many calls an operation makes on each port, and how many cases that is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lib.sweep.faults import PORTS

HEADINGS = ("operation", *PORTS, "sorts", "tried", "cases", "run", "failed", "waited")


@dataclass
class Row:
    """One operation."""

    operation: str
    calls: Mapping[str, int]
    cases: int
    run: int = 0
    sorts: int = 0
    """Kinds of fault at calls that do the same, each counted once."""
    tried: int = 0
    """Those of which a case was run."""
    waited: int = 0
    """Cases after which a day had to pass before the next run could begin."""
    wrong: list[str] = field(default_factory=list)
    """What is to be said of each case that failed."""

    @property
    def cells(self) -> list[str]:
        numbers = [*(self.calls[port] for port in PORTS), self.sorts, self.tried]
        numbers += [self.cases, self.run, len(self.wrong), self.waited]
        return [self.operation, *map(str, numbers)]


def table(rows: Sequence[Row]) -> Iterator[str]:
    yield f"{HEADINGS[0]:<14}" + "".join(f"{heading:>9}" for heading in HEADINGS[1:])
    for row in rows:
        first, *rest = row.cells
        yield f"{first:<14}" + "".join(f"{cell:>9}" for cell in rest)


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|---" * 1 + "|--:" * (len(HEADINGS) - 1) + "|"
    for row in rows:
        yield f"| {' | '.join(row.cells)} |"
