"""The bench: what a backup costs, beside what people use today, in one run on one machine."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from doubles.servers import postgres

from lib import sample_databases
from lib.backup_tools import DATABASE, WRITERS, Backupd, Contender, Ground, PgRestore, open_ssh
from lib.console import Voice, megabytes, thousands
from lib.process_cost import Cost
from lib.servers import Region, start_account, start_region

PHASES = ("first", "second", "restore")
RATIOS = (
    ("first backup to the pipe's", "first", "wall", "pipe", "first"),
    ("second backup to pg_dump > /dev/null", "second", "wall", "pg_dump", "second"),
    ("second backup's bytes to restic's", "second", "sent", "restic", "second"),
    ("restore to pg_restore -j2", "restore", "wall", "pg_restore", "restore"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured run."""

    contender: str
    phase: str
    round: int
    wall: float
    cpu: float
    memory: int
    sent: int


@dataclass(frozen=True, slots=True)
class Database:
    """What was backed up."""

    postgres: int
    tenants: int
    rows: int
    bytes: int
    """As COPY writes them."""
    on_disk: int


class Bench:
    """Rounds of all contenders in turn, so that whatever slows the machine slows all of them."""

    def __init__(
        self, ground: Ground, writers: Sequence[Contender], phases: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._ground = ground
        self._writers = writers
        self._phases = phases
        self._say = say
        self.figures: list[Figure] = []

    def round(self, number: int) -> None:
        """First backups of everybody, a day's changes, second backups of everybody, restores."""
        turn = number % max(1, len(self._writers))
        writers = [*self._writers[turn:], *self._writers[:turn]]
        for writer in writers:
            writer.fresh()
            self._back_up(writer, "first", number)
        with self._ground.region.server.connect(DATABASE) as connection:
            sample_databases.change_tracker(connection, seed=number / 100)
        if "second" in self._phases or "restore" in self._phases:
            for writer in writers:
                self._back_up(writer, "second", number)
        if "restore" in self._phases:
            for writer in writers:
                if isinstance(writer, Backupd):
                    self._restore(writer, number)
                    rival = PgRestore(self._ground)
                    rival.fresh()
                    self._restore(rival, number)

    def _back_up(self, writer: Contender, phase: str, number: int) -> None:
        self._settle()
        cost, sent = writer.backup()
        if phase in self._phases:
            self._note(writer.name, phase, number, cost, sent)

    def _restore(self, reader: Backupd | PgRestore, number: int) -> None:
        self._settle()
        self._note(reader.name, "restore", number, reader.restore("restored"), 0)
        self._ground.region.server.drop_database("restored")

    def _settle(self) -> None:
        """Write out what earlier work left, so that nobody pays for another's."""
        self._ground.region.server.sql("postgres", "CHECKPOINT")
        os.sync()

    def _note(self, name: str, phase: str, number: int, cost: Cost, sent: int) -> None:
        figure = Figure(name, phase, number, round(cost.wall, 3), round(cost.cpu, 3), cost.memory, sent)
        self.figures.append(figure)
        self._say(f"round {number}: {name} {phase} {figure.wall:.1f} s")


def main() -> int:
    """Measure, and print a table or JSON."""
    options = _options()
    voice = Voice()
    say = (lambda text: print(text, file=sys.stderr)) if options.json else voice.say
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-bench-")))
        folder.chmod(0o755)
        region = start_region(stack, "be", folder, options.postgres)
        say(
            f"Filling a database of {options.size} MB with {options.tenants} tenants, PostgreSQL {region.server.major}."
        )
        database = _fill(region, options.size * 1_000_000, options.tenants)
        home = folder / "remote"
        home.mkdir()
        account, served_by = start_account(stack, home)
        open_ssh(account, folder)
        ground = Ground(folder, region, account, options.level)
        writers, left_out = _chosen(ground, options.only, served_by)
        bench = Bench(ground, writers, options.phases, say)
        for number in range(1, options.rounds + 1):
            bench.round(number)
    medians = dict(_medians(bench.figures))
    if options.json:
        print(json.dumps(_as_object(database, bench.figures, medians, left_out, served_by), indent=1))
    else:
        _tell(voice, database, bench.figures, medians, left_out)
    return 0


def _options() -> argparse.Namespace:
    names = [one.name for one in WRITERS]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--size", type=int, default=700, metavar="MB", help="of rows as COPY writes them [700]")
    parser.add_argument("--tenants", type=int, default=500, metavar="N", help="[500]")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="medians are over so many [3]")
    parser.add_argument("--only", type=_list_of(names), default=names, metavar="NAME,…", help=", ".join(names))
    parser.add_argument("--phases", type=_list_of(PHASES), default=PHASES, metavar="NAME,…", help=", ".join(PHASES))
    parser.add_argument("--postgres", type=int, metavar="MAJOR", help="[15 where Debian's is installed, else any]")
    parser.add_argument("--level", type=int, default=3, metavar="N", help="zstd's, for all who let it be chosen [3]")
    parser.add_argument(
        "--json", action="store_true", help="print all figures as JSON; what goes on, to standard error"
    )
    options = parser.parse_args()
    if options.postgres is None and 15 in postgres.installations():
        options.postgres = 15
    return options


def _list_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        strangers = [name for name in names if name not in known]
        if strangers:
            raise argparse.ArgumentTypeError(f"{', '.join(strangers)}: choose from {', '.join(known)}")
        return names

    return parse


def _fill(region: Region, size: int, tenants: int) -> Database:
    with region.create(DATABASE) as connection:
        sample_databases.fill_tracker(connection, sample_databases.Shape(size, tenants))
        rows, written = sample_databases.measure(connection)
        ((on_disk,),) = connection.execute("SELECT pg_database_size(current_database())").fetchall()
    return Database(region.server.major, tenants, rows, written, on_disk)


def _chosen(ground: Ground, names: Sequence[str], served_by: str) -> tuple[list[Contender], dict[str, str]]:
    """Those that can run, and why others cannot."""
    writers, left_out = [], {}
    for contender in (kind(ground) for kind in WRITERS if kind.name in names):
        missing = contender.missing()
        if missing:
            left_out[contender.name] = f"not installed: {', '.join(missing)}"
        elif "ssh" in contender.programs and "OpenSSH" not in served_by:
            left_out[contender.name] = "needs an OpenSSH server"
        else:
            writers.append(contender)
    return writers, left_out


def _medians(figures: Sequence[Figure]) -> Iterator[tuple[tuple[str, str], dict[str, float]]]:
    for key in dict.fromkeys((figure.contender, figure.phase) for figure in figures):
        runs = [figure for figure in figures if (figure.contender, figure.phase) == key]
        yield key, {name: statistics.median(getattr(run, name) for run in runs) for name in _COLUMNS}


_COLUMNS = ("wall", "cpu", "memory", "sent")


def _ratios(figures: Sequence[Figure]) -> dict[str, float]:
    """Medians of the ratios within each round."""
    by = {(figure.contender, figure.phase, figure.round): figure for figure in figures}
    found = {}
    for what, phase, column, rival, rival_phase in RATIOS:
        ratios = [
            getattr(one, column) / getattr(by[rival, rival_phase, one.round], column)
            for one in figures
            if (one.contender, one.phase) == ("backupd", phase) and (rival, rival_phase, one.round) in by
        ]
        if ratios:
            found[what] = round(statistics.median(ratios), 3)
    return found


def _as_object(
    database: Database,
    figures: Sequence[Figure],
    medians: dict[tuple[str, str], dict[str, float]],
    left_out: dict[str, str],
    served_by: str,
) -> dict[str, object]:
    return {
        "machine": {"processors": os.cpu_count(), "load": os.getloadavg(), "store": served_by},
        "database": asdict(database),
        "medians": [{"contender": name, "phase": phase, **values} for (name, phase), values in medians.items()],
        "ratios": _ratios(figures),
        "left_out": left_out,
        "figures": [asdict(figure) for figure in figures],
    }


def _tell(
    voice: Voice,
    database: Database,
    figures: Sequence[Figure],
    medians: dict[tuple[str, str], dict[str, float]],
    left_out: dict[str, str],
) -> None:
    voice.step(
        f"{megabytes(database.bytes)} in {thousands(database.rows)} rows of {database.tenants} tenants, "
        f"PostgreSQL {database.postgres}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )
    rows = [
        (
            phase,
            name,
            f"{one['wall']:.1f} s",
            f"{one['cpu']:.1f} s",
            megabytes(one["memory"]),
            _sent(one["sent"]),
        )
        for (name, phase), one in sorted(medians.items(), key=_place)
    ]
    voice.table(("phase", "", "wall", "cpu", "memory", "sent"), rows, frozenset({2, 3, 4, 5}))
    voice.step("Ratios within each round, medians")
    voice.table(("", "ratio"), [(what, f"{ratio:.2f}") for what, ratio in _ratios(figures).items()], frozenset({1}))
    for name, why in left_out.items():
        voice.say(f"Left out: {name}, {why}.")


def _place(item: tuple[tuple[str, str], object]) -> tuple[int, int]:
    """By phase, backupd first in each."""
    (name, phase), _ = item
    return PHASES.index(phase), [*(one.name for one in WRITERS), PgRestore.name].index(name)


def _sent(size: float) -> str:
    return megabytes(size) if size else ""


if __name__ == "__main__":
    sys.exit(main())
