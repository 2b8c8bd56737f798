"""The targets of the data format and its pipeline, and what measured figures say of each. Nothing here does I/O."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lib.bench.figures import Figure, Log

OURS = "backupd"


@dataclass(frozen=True, slots=True)
class Reading:
    """Which column of which figures: the greatest of several phases, and of several figures in one round."""

    sample: str
    phases: tuple[str, ...]
    column: str = "wall"
    contender: str = OURS

    def by_round(self, figures: Sequence[Figure]) -> dict[int, float]:
        found: dict[int, float] = {}
        for one in figures:
            if (one.sample, one.contender) == (self.sample, self.contender) and one.phase in self.phases:
                value = float(getattr(one, self.column))
                found[one.round] = max(value, found.get(one.round, value))
        return found


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table: a reading, or its ratio to another one in the same round, and the limit."""

    what: str
    scenario: str
    limit: float
    of: Reading
    to: Reading | None = None
    unit: str = ""
    """Empty for ratios, else s, ms, MB or objects."""
    at_least: bool = False
    """Whether the limit is the least, and not the most."""

    def values(self, figures: Sequence[Figure]) -> list[float]:
        """One for each round in which everything was measured."""
        of = self.of.by_round(figures)
        if self.to is None:
            return [value / _PER_UNIT[self.unit] for value in of.values()]
        to = self.to.by_round(figures)
        return [of[number] / to[number] for number in of if to.get(number)]

    def reached_by(self, figure: float) -> bool:
        return figure >= self.limit if self.at_least else figure <= self.limit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a target: the median over so many rounds, or why there is none."""

    target: Target
    figure: float | None
    rounds: int
    reached: bool | None
    """None where there is no figure, or none at full size."""
    why: str = ""


def judge(log: Log, chosen: Sequence[str], *, full: bool) -> list[Outcome]:
    """An outcome for every target, in order; `chosen` are the scenarios that were to be measured.

    No target is reached or missed unless all was at `full` size.
    """
    outcomes = []
    for target in TARGETS:
        values = target.values(log.figures)
        if values:
            figure = statistics.median(values)
            outcomes.append(Outcome(target, figure, len(values), target.reached_by(figure) if full else None))
        else:
            outcomes.append(Outcome(target, None, 0, None, _why(target, log, chosen)))
    return outcomes


def _why(target: Target, log: Log, chosen: Sequence[str]) -> str:
    if target.scenario not in chosen:
        return f"scenario {target.scenario} was not chosen"
    for reading in (target.of, target.to):
        if reading is not None and reading.contender in log.left_out:
            return f"{reading.contender}: {log.left_out[reading.contender]}"
    return log.failed.get(target.scenario, "no figure was taken")


_PER_UNIT = {"s": 1.0, "ms": 0.001, "MB": 1e6, "objects": 1.0}
_ALL = ("first", "second", "restore")


def _ours(sample: str, *phases: str, column: str = "wall") -> Reading:
    return Reading(sample, phases, column)


def _theirs(contender: str, sample: str, phase: str, column: str = "wall") -> Reading:
    return Reading(sample, (phase,), column, contender)


def _beside_everybody() -> Iterator[Target]:
    first, second = _ours("main", "first"), _ours("main", "second")
    what = "700 MB, 500 tenants: "
    for rival, limit in (("pipe", 0.95), ("restic", 0.6), ("borg", 0.55)):
        yield Target(f"{what}first / {rival}", "main", limit, first, _theirs(rival, "main", "first"))
    yield Target(f"{what}second, 1 % churn / pg_dump", "main", 1.2, second, _theirs("pg_dump", "main", "second"))
    sent = _ours("main", "second", column="sent")
    yield Target("its bytes / restic's", "main", 0.22, sent, _theirs("restic", "main", "second", "sent"))
    stored = _ours("main", "first", column="sent")
    yield Target("stored by the first / pg_dump | zstd", "main", 1.03, stored, _theirs("zstd", "main", "first", "sent"))
    restore = _ours("main", "restore")
    yield Target(f"{what}restore / pg_restore -j2", "main", 1.0, restore, _theirs("pg_restore", "main", "restore"))
    yield Target("the median tenant restored / everything", "main", 1 / 30, _ours("main", "tenant"), restore)


def _many_tenants() -> Iterator[Target]:
    what = "100 MB, 10,000 tenants: "
    for phase, rival in (("first", "pipe"), ("second", "pg_dump"), ("restore", "pg_restore")):
        yield Target(f"{what}{phase} / {rival}", "many", 3, _ours("many", phase), _theirs(rival, "many", phase))
    stored = _ours("many", "first", column="sent")
    yield Target("the same, stored / the pipe's", "many", 1.4, stored, _theirs("pipe", "many", "first", "sent"))
    rows = "50,000 tenants of one small row: "
    yield Target(f"{rows}first", "rows", 20, _ours("rows", "first"), unit="s")
    yield Target(
        f"{rows}first / the other build", "rows", 0.12, _ours("rows", "first"), _theirs("before", "rows", "first")
    )
    yield Target(f"{rows}objects", "rows", 200, _ours("rows", "first", column="objects"), unit="objects")
    yield Target(f"{rows}stored", "rows", 30, _ours("rows", "first", column="sent"), unit="MB")
    yield Target(
        "700 MB: first of 10,000 tenants / of 10", "spread", 1.3, _ours("spread", "first"), _ours("few", "first")
    )
    moved, touched = _ours("days", "purge", column="moved"), _ours("days", "purge", column="sent")
    yield Target("purge after 30 days: bytes moved / bytes of changed files", "days", 0.05, moved, touched)


def _anything_else() -> Iterator[Target]:
    held, copy = _ours("main", "first", column="held"), _theirs("copy", "main", "first")
    slow = _theirs("slow", "main", "first", "held")
    yield Target("exported snapshot held / COPY alone", "main", 1.1, held, copy)
    yield Target("the same, before a store of 8 MB/s", "main", 1.1, slow, copy)
    for milliseconds, limit in ((30, 1.5), (100, 2.5)):
        sample = f"far-{milliseconds}"
        sftp, ours = _theirs("sftp", sample, "ship"), _ours(sample, "ship")
        what = f"round trip {milliseconds} ms: throughput / OpenSSH sftp"
        yield Target(what, "far", limit, sftp, ours, at_least=True)
    for sample, what, scenario in (
        ("main", "700 MB, 500 tenants", "main"),
        ("many", "100 MB, 10,000 tenants", "many"),
        ("spread", "700 MB, 10,000 tenants", "spread"),
        ("big-5", "5 GB, 5 tenants", "big"),
        ("big-5000", "5 GB, 5,000 tenants", "big"),
    ):
        yield Target(f"memory: {what}", scenario, 200, _ours(sample, *_ALL, column="memory"), unit="MB")
    yield Target("time for 10 times the data", "main", 10.3, _ours("main", "first"), _ours("tenth", "first"))
    for command, limit in (("--version", 150), ("status", 350)):
        yield Target(
            f"backupd {command}, processor time", "start", limit, _ours("start", command, column="cpu"), unit="ms"
        )


def _little_changed() -> Iterator[Target]:
    def to(contender: str, phase: str, column: str = "wall") -> tuple[Reading, Reading]:
        return _ours("unread", phase, column=column), _theirs(contender, "unread", phase, column)

    what = "2 GB, 500 tenants, PostgreSQL 18: "
    yield Target(f"{what}nothing changed / pg_dump", "unread", 0.05, *to("pg_dump", "same"))
    yield Target("the same: exported snapshot held", "unread", 2, _ours("unread", "same", column="held"), unit="s")
    yield Target(f"{what}1 % in 5 % of the blocks / pg_dump", "unread", 0.15, *to("pg_dump", "recent"))
    yield Target("the same / pg_basebackup --incremental", "unread", 1, *to("basebackup", "recent"))
    yield Target("its bytes / pg_basebackup's", "unread", 0.5, *to("basebackup", "recent", "sent"))
    yield Target(f"{what}1 % evenly / reading everything", "unread", 1.03, *to("whole", "even"))
    restores = _ours("unread", "restore-many"), _ours("unread", "restore-first")
    yield Target(f"{what}restore after 50 backups / after one", "unread", 1.05, *restores)


TARGETS = (*_beside_everybody(), *_many_tenants(), *_anything_else(), *_little_changed())
