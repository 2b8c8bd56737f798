"""The bench's output: tables for a terminal, the same in Markdown, and JSON."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lib.bench.contenders import Backupd, Before, Contender
from lib.bench.figures import Log, medians
from lib.bench.peers import Borg, CopyAlone, Directory, Dump, PgBackRest, PgRestore, Pipe, Restic, Zstd, versions
from lib.bench.rounds import PHASES
from lib.bench.targets import OURS, Outcome, Reading
from lib.console import Voice, megabytes, thousands

WRITERS: tuple[type[Contender], ...] = (Backupd, Pipe, Dump, Directory, Restic, Borg, PgBackRest)
"""Who backs up when nobody is chosen."""
RATIOS = (
    ("first backup to the pipe's", "first", "wall", Pipe.name),
    ("second backup to pg_dump > /dev/null", "second", "wall", Dump.name),
    ("second backup's bytes to restic's", "second", "sent", Restic.name),
    ("restore to pg_restore -j2", "restore", "wall", PgRestore.name),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns under headings; those in `right` hold numbers."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    right: frozenset[int]


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and with what was measured, and when."""

    date: str
    processor: str
    processors: int
    memory: int
    load: tuple[float, float, float]
    system: str
    postgres: int
    store: str
    versions: dict[str, str]

    def sentence(self) -> str:
        programs = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"Measured on {self.date} with {self.processors} processors ({self.processor}), "
            f"{self.memory >> 30} GiB of memory, {self.system}, PostgreSQL {self.postgres}, load {self.load[0]:.1f} at "
            f"the end; the store: {self.store}. Programs: {programs}."
        )


def this_machine(postgres: int, served_by: str, path: str) -> Machine:
    """Ask the machine; `path` is where the programs are."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        f"{datetime.now(UTC):%Y-%m-%d}",
        _processor(),
        os.cpu_count() or 1,
        pages * size,
        os.getloadavg(),
        platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        postgres,
        served_by,
        versions([*WRITERS, Zstd, PgRestore], path),
    )


def matrix_table(outcomes: Sequence[Outcome]) -> Table:
    """All targets, in order."""
    rows = [
        (
            one.target.what,
            _limit(one),
            "" if one.figure is None else _amount(one.figure, one.target.unit),
            _verdict(one),
        )
        for one in outcomes
    ]
    title = "Targets: medians of the rounds, ratios within each round"
    return Table(title, ("what", "target", "figure", ""), rows, frozenset({1, 2}))


def tables(log: Log) -> list[Table]:
    """Medians of everything measured, and ratios within each round, for each sample."""
    found = []
    for sample in dict.fromkeys(figure.sample for figure in log.figures):
        about = next(one for one in log.samples if one["sample"] == sample)
        size, rows, tenants = (_number(about[name]) for name in ("bytes", "rows", "tenants"))
        title = f"{megabytes(size)} in {thousands(rows)} rows of {thousands(tenants)} tenants"
        lines = [
            (
                phase,
                name,
                f"{one['wall']:.1f} s",
                f"{one['cpu']:.1f} s",
                megabytes(one["memory"]),
                _sent(one),
                _count(one),
            )
            for (of, name, phase), one in sorted(medians(log.figures).items(), key=_place)
            if of == sample
        ]
        headings = ("phase", "", "wall", "cpu", "memory", "stored", "files")
        found.append(Table(title, headings, lines, frozenset({2, 3, 4, 5, 6})))
        if compared := [(what, f"{ratio:.2f}") for what, ratio in ratios(log, sample).items()]:
            found.append(Table("Ratios within each round, medians", ("", "ratio"), compared, frozenset({1})))
    return found


def ratios(log: Log, sample: str) -> dict[str, float]:
    """Medians of the ratios within each round, as far as both were measured."""
    found = {}
    for what, phase, column, rival in RATIOS:
        ours = Reading(sample, (phase,), column).by_round(log.figures)
        theirs = Reading(sample, (phase,), column, rival).by_round(log.figures)
        if both := [ours[number] / theirs[number] for number in ours if theirs.get(number)]:
            found[what] = round(statistics.median(both), 3)
    return found


def as_object(machine: Machine, log: Log, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything, for other programs; without a matrix `targets` is empty."""
    return {
        "machine": asdict(machine),
        "samples": log.samples,
        "targets": [
            {
                "what": one.target.what,
                "limit": one.target.limit,
                "unit": one.target.unit,
                "figure": one.figure,
                "rounds": one.rounds,
                "reached": one.reached,
                "why": one.why,
            }
            for one in outcomes
        ],
        "medians": [
            {"sample": sample, "contender": name, "phase": phase, **values}
            for (sample, name, phase), values in medians(log.figures).items()
        ],
        "ratios": {str(one["sample"]): ratios(log, str(one["sample"])) for one in log.samples},
        "left_out": log.left_out,
        "failed": log.failed,
        "figures": [asdict(figure) for figure in log.figures],
    }


def show(voice: Voice, machine: Machine, found: Sequence[Table], log: Log) -> None:
    """Print for people at a terminal."""
    for table in found:
        voice.step(table.title)
        voice.table(table.headings, table.rows, table.right)
    for line in _missing(log):
        voice.say(line)
    voice.say(machine.sentence())


def as_markdown(machine: Machine, found: Sequence[Table], log: Log) -> str:
    """The same for a README."""
    lines = []
    for table in found:
        lines += [f"{table.title}:", ""]
        rules = ["---:" if column in table.right else "---" for column in range(len(table.headings))]
        lines += [_row(table.headings), _row(rules), *map(_row, table.rows), ""]
    return "\n".join([*lines, *_missing(log), machine.sentence()])


def _missing(log: Log) -> list[str]:
    left_out = [f"Left out: {name}, {why}." for name, why in log.left_out.items()]
    return left_out + [f"Failed, so that rounds are missing: {name}, {why}." for name, why in log.failed.items()]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _place(item: tuple[tuple[str, str, str], object]) -> tuple[int, int]:
    """By phase, backupd first in each."""
    (_, name, phase), _ = item
    names = [OURS, Before.name, *(one.name for one in WRITERS[1:]), PgRestore.name, Zstd.name, CopyAlone.name]
    return (
        PHASES.index(phase) if phase in PHASES else len(PHASES),
        names.index(name) if name in names else len(names),
    )


def _limit(outcome: Outcome) -> str:
    target = outcome.target
    return f"{'≥' if target.at_least else '≤'} {_amount(target.limit, target.unit)}"


def _verdict(outcome: Outcome) -> str:
    if outcome.figure is None:
        return f"not measured: {outcome.why}"
    words = {True: "reached", False: "missed", None: "no verdict at this size"}
    return f"{words[outcome.reached]} ({outcome.rounds} round{'s'[: outcome.rounds > 1]})"


def _amount(value: float, unit: str) -> str:
    if unit in {"objects", "ms"}:
        return f"{value:,.0f} {unit}".replace(",", " ")
    if unit:
        return f"{value:.1f} {unit}"
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _sent(one: dict[str, float]) -> str:
    return megabytes(one["sent"]) if one["sent"] else ""


def _count(one: dict[str, float]) -> str:
    return thousands(int(one["objects"])) if one["objects"] else ""


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
