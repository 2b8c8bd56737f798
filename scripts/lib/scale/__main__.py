"""The cost per table, tenant, large object, partition, column, snapshot and row, at three sizes each.

Processor time is what counts: it hardly depends on what else the machine does. The growth of a step is how the time
beyond that of the smallest size grew, as the exponent of the size: 1 is linear, 2 the square. Memory is that of all of
backupd's own processes together; what pg_dump, pg_restore and psql take beside is named apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from doubles.servers import postgres

from lib import manual_table
from lib.bench import report
from lib.bench.contenders import CONFIG, Backupd
from lib.bench.figures import Log
from lib.bench.peers import Dump
from lib.bench.stage import CHECKOUT, RESTORED, Ground, Stage
from lib.console import Voice, thousands
from lib.process_cost import Cost, run
from lib.scale.dimensions import DIMENSIONS, Dimension

LIMIT = 256 << 20
"""Bytes that backupd's own processes may take together."""
STEEP = 1.25
"""Growth from which on a step is no longer called linear: fixed costs and noise are in it."""
TOO_SHORT = 0.05
"""Seconds of pg_dump's processor time below which a ratio to it says nothing."""
FOREIGN = {"pg_dump", "pg_restore", "psql", "pg_dumpall"}
HEADINGS = ("what", "number", "command", "s", "growth", "to pg's own", "with the server", "MB", "pg's own MB")
RIGHT = frozenset({1, 3, 4, 5, 6, 7, 8})
COMMANDS = ("backup", "again", "verify", "expire", "restore", "snapshots", "status")
SUMMARY = ("of", *COMMANDS, "growth", "to pg_dump", "to pg_restore", "MB")
REAPED = 0.3
"""Seconds in which the server has noticed that a session ended."""


@dataclass(frozen=True, slots=True)
class Step:
    """One command at one size."""

    dimension: str
    number: int
    command: str
    cpu: float
    memory: int
    """Of backupd's own processes."""
    foreign: int
    """Of PostgreSQL's programs that it ran, at the same moment."""
    growth: float | None = None
    ratio: float | None = None
    """To the processor time of pg_dump or pg_restore."""
    whole: float | None = None
    """The same with the processor time that the server took for either."""


class Scaled(Backupd):
    """backupd over a database that is not the bench's."""

    tenancy: str | None = None

    def configure(self, signers: Sequence[str], port: int, name: str = CONFIG) -> None:
        super().configure(signers, port, name)
        if self.tenancy is not None:
            path = self.local / name
            path.write_text(path.read_text().partition("tenancy = ")[0] + self.tenancy)

    def repeat(self, number: int, *arguments: str) -> None:
        """Run a command so many times, in one process."""
        path = f"{CHECKOUT}:{CHECKOUT / 'scripts'}"
        environment = {**self.environment, "PYTHONPATH": path}
        command = [sys.executable, "-m", "lib.warm", str(number), *arguments]
        run(command, environment, self.local)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    log = Log(lambda text: print(text, file=sys.stderr, flush=True))
    if options.read:
        steps = [Step(**step) for path in options.read for step in json.loads(path.read_text(encoding="utf-8"))]
        machine = ""
    else:
        steps, machine = _run(options, log)
    if options.manual:
        manual_table.put(summary(steps))
    if options.json:
        print(json.dumps([asdict(step) for step in steps], indent=1))
    elif options.markdown:
        print("\n".join([*summary(steps), "", machine]))
    else:
        voice = Voice()
        voice.table(HEADINGS, [_row(step) for step in steps], RIGHT)
        voice.say(machine)
    wrong = [*log.failed, *(f"{step.dimension} {step.command}" for step in steps if _is_wrong(step))]
    for one in wrong:
        print(f"not as it should be: {one}{': ' + log.failed[one] if one in log.failed else ''}", file=sys.stderr)
    return 1 if wrong else 0


def _run(options: argparse.Namespace, log: Log) -> tuple[list[Step], str]:
    """Measure; return also a sentence about the machine."""
    steps: list[Step] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-scale-")))
        folder.chmod(0o755)
        stage = Stage(stack, folder, options.postgres, 3)
        machine = report.this_machine(stage.major, stage.served_by, f"{stage.region.server.bin}:{os.environ['PATH']}")
        for name in options.dimensions or DIMENSIONS:
            with log.scenario(name):
                steps += _measured(stage, DIMENSIONS[name], options, log)
    return steps, machine.sentence()


def summary(steps: Sequence[Step]) -> list[str]:
    """Of each dimension its largest number, as a table in Markdown: a line of the manual for each."""
    lines = [SUMMARY, tuple("---" if at == 0 else "---:" for at in range(len(SUMMARY)))]
    for name in dict.fromkeys(step.dimension for step in steps):
        largest = max(step.number for step in steps if step.dimension == name)
        of = {step.command: step for step in steps if (step.dimension, step.number) == (name, largest)}
        grown = [step.growth for step in of.values() if step.growth is not None]
        lines.append(
            (
                f"{thousands(largest)} {DIMENSIONS[name].what}",
                *(f"{of[command].cpu:.1f}" if command in of else "" for command in COMMANDS),
                f"{max(grown):.2f}" if grown else "",
                *(_ratio(of.get(command)) for command in ("backup", "restore")),
                str(max(step.memory for step in of.values()) >> 20),
            )
        )
    return [f"| {' | '.join(line)} |" for line in lines]


def _ratio(step: Step | None) -> str:
    return "" if step is None or step.ratio is None else f"{step.ratio:.1f}"


def _measured(stage: Stage, dimension: Dimension, options: argparse.Namespace, log: Log) -> Iterator[Step]:
    largest = options.largest or (dimension.quick if options.quick else dimension.target)
    before: dict[str, list[Step]] = {}
    numbers = sorted({max(1, largest // share) for share in (100, 10, 1)})
    for step in (
        _many_backups(stage, dimension, numbers, log) if dimension.backups else _all(stage, dimension, numbers, log)
    ):
        earlier = before.setdefault(step.command, [])
        earlier.append(replace(step, growth=_growth([*earlier, step])))
        log.say(" ".join(_row(earlier[-1])))
        yield earlier[-1]


def _all(stage: Stage, dimension: Dimension, numbers: Sequence[int], log: Log) -> Iterator[Step]:
    for number in numbers:
        with stage.made(f"{dimension.name}-{number}", number, dimension.filler(number), log) as ground:
            yield from _steps(ground, dimension, number)


def _many_backups(stage: Stage, dimension: Dimension, numbers: Sequence[int], log: Log) -> Iterator[Step]:
    """One store, which grows from one number of snapshots to the next."""
    with stage.made(dimension.name, 1, dimension.filler(1), log) as ground:
        ours = Scaled(ground)
        ours.tenancy = dimension.tenancy
        ours.fresh()
        made = 0
        for number in numbers:
            ours.repeat(number - 1 - made, "backup", "be")
            made = number
            yield Step(dimension.name, number, "backup", *_own(ours.measured()))
            for command in ("snapshots", "status", "expire"):
                yield Step(dimension.name, number, command, *_own(ours.run(command, "be")))
            verify = ours.run("verify", "be", "--read-data", "all", "--identity", "ops.identity", *_PASSPHRASE)
            yield Step(dimension.name, number, "verify", *_own(verify))
            yield Step(dimension.name, number, "restore", *_own(ours.restore(RESTORED)))
            ground.region.server.drop_database(RESTORED)


def _own(cost: Cost) -> tuple[float, int, int]:
    """Processor time, and memory of ours and of PostgreSQL's programs."""
    foreign = sum(size for name, size in cost.parts.items() if name in FOREIGN)
    return cost.cpu, cost.memory - foreign, foreign


def _steps(ground: Ground, dimension: Dimension, number: int) -> Iterator[Step]:
    ours = Scaled(ground)
    ours.tenancy = dimension.tenancy
    ours.fresh()

    def step(command: str, cost: Cost, own: Cost | None = None) -> Step:
        ratio = cost.cpu / own.cpu if own is not None and own.cpu > TOO_SHORT else None
        return Step(dimension.name, number, command, *_own(cost), ratio=ratio)

    theirs = Dump(ground)
    theirs.fresh()
    dump = run(["pg_dump", "-Fc", "-f", "own.dump"], theirs.environment, theirs.local)
    server = ground.region.server
    server.create_database(RESTORED)
    before = _used_by(server)
    restored = run(["pg_restore", "-U", "postgres", "-d", RESTORED, "own.dump"], theirs.environment, theirs.local)
    whole = restored.cpu + _used_by(server) - before
    server.drop_database(RESTORED)
    yield step("backup", ours.measured(), dump)
    yield step("again", ours.measured(), dump)
    yield step("verify", ours.run("verify", "be", "--read-data", "all", "--identity", "ops.identity", *_PASSPHRASE))
    yield step("expire", ours.run("expire", "be"))
    before = _used_by(server)
    cost = ours.restore(RESTORED)
    yield replace(step("restore", cost, restored), whole=(cost.cpu + _used_by(server) - before) / whole)


def _used_by(server: postgres.Server) -> float:
    """Return the processor time of all sessions that have ended, in seconds."""
    time.sleep(REAPED)
    process = (server.folder / "data" / "postmaster.pid").read_text().split()[0]
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


_PASSPHRASE = ("--passphrase-file", "passphrase")


def _growth(steps: Sequence[Step]) -> float | None:
    """Return how the time beyond the first step's grew from the second to the third, as an exponent of the size."""
    if len(steps) < 3:
        return None
    first, second, third = steps[-3:]
    little, much = second.cpu - first.cpu, third.cpu - first.cpu
    if little < 0.2 or much < 0.2:  # within what one start of the interpreter differs from another
        return None
    return math.log(much / little) / math.log((third.number - first.number) / (second.number - first.number))


def _is_wrong(step: Step) -> bool:
    return step.memory > LIMIT or (step.growth is not None and step.growth > STEEP)


def _row(step: Step) -> tuple[str, ...]:
    return (
        DIMENSIONS[step.dimension].what,
        thousands(step.number),
        step.command,
        f"{step.cpu:.1f}",
        "" if step.growth is None else f"{step.growth:.2f}",
        "" if step.ratio is None else f"{step.ratio:.1f}",
        "" if step.whole is None else f"{step.whole:.2f}",
        f"{step.memory >> 20}",
        f"{step.foreign >> 20}" if step.foreign else "",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__)
    add = parser.add_argument
    add(
        "dimensions",
        nargs="*",
        choices=[*DIMENSIONS, []],
        default=[],
        metavar="WHAT",
        help=", ".join(DIMENSIONS),
    )
    add("--quick", action="store_true", help="sizes that take some minutes in all")
    add(
        "--largest",
        type=int,
        metavar="N",
        help="the largest number, in place of the target; a tenth and a hundredth go before",
    )
    add("--read", type=Path, action="append", default=[], metavar="FILE", help="measure nothing: what --json printed")
    add("--manual", action="store_true", help="put the table into the manual, in this checkout")
    add("--postgres", type=int, metavar="MAJOR", help="[15 where Debian's is installed, else any]")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print all figures as JSON")
    shape.add_argument("--markdown", action="store_true", help="print the table in Markdown, as the manual has it")
    options = parser.parse_args()
    if options.postgres is None and 15 in postgres.installations():
        options.postgres = 15
    return options


if __name__ == "__main__":
    sys.exit(main())
