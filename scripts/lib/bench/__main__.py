"""The bench: what backups and restores cost, beside what people use today, in one run on one machine."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from doubles.servers import postgres

from lib.bench import report
from lib.bench.contenders import chosen
from lib.bench.figures import INTERRUPTED, Log
from lib.bench.report import WRITERS
from lib.bench.rounds import PHASES, Rounds
from lib.bench.scenarios import SCENARIOS, Wanted
from lib.bench.stage import Stage
from lib.bench.targets import judge
from lib.console import Voice


def main() -> int:
    """Measure, and print tables, Markdown or JSON."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are stopped, and what is known is printed
    voice = Voice()
    aside = options.json or options.markdown
    log = Log((lambda text: print(text, file=sys.stderr, flush=True)) if aside else voice.say)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backupd-bench-")))
        folder.chmod(0o755)
        stage = Stage(stack, folder, options.postgres, options.level)
        if options.matrix:
            _measure_matrix(stage, log, options)
        else:
            _measure_sizes(stage, log, options)
        machine = report.this_machine(stage.major, stage.served_by, f"{stage.region.server.bin}:{os.environ['PATH']}")
    outcomes = judge(log, options.scenarios, full=options.scale == 1) if options.matrix else []
    tables = [report.matrix_table(outcomes)] if options.matrix else report.tables(log)
    if options.json:
        print(json.dumps(report.as_object(machine, log, outcomes), indent=1))
    elif options.markdown:
        print(report.as_markdown(machine, tables, log))
    else:
        report.show(voice, machine, tables, log)
    return 1 if log.failed else 0


def _measure_sizes(stage: Stage, log: Log, options: argparse.Namespace) -> None:
    """One sample after the other, each of so many tenants, all contenders in turn."""
    for tenants in options.tenants:
        with stage.tracker(f"of-{tenants}", options.size * 1_000_000, tenants, log) as ground:
            kinds = [kind for kind in WRITERS if kind.name in options.only]
            rounds = Rounds(ground, chosen(ground, kinds, stage.served_by, log), options.phases, log)
            for number in range(1, options.rounds + 1):
                rounds.round(number)


def _measure_matrix(stage: Stage, log: Log, options: argparse.Namespace) -> None:
    wanted = Wanted(options.rounds, options.scale, options.beside)
    for name, measure in SCENARIOS.items():
        if name in options.scenarios and INTERRUPTED not in log.failed.values():
            with log.scenario(name):
                measure(stage, log, wanted)
        elif name in options.scenarios:
            log.failed[name] = INTERRUPTED


def _options() -> argparse.Namespace:
    names = [one.name for one in WRITERS]
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    add = parser.add_argument
    add("--size", type=int, default=700, metavar="MB", help="of rows as COPY writes them [700]")
    add("--tenants", type=_counts, default=[500], metavar="N,…", help="one database for each number [500]")
    add("--rounds", type=int, default=3, metavar="N", help="medians are over so many [3]")
    add("--only", type=_list_of(names), default=names, metavar="NAME,…", help=", ".join(names))
    add("--phases", type=_list_of(PHASES), default=PHASES, metavar="NAME,…", help=", ".join(PHASES))
    add("--matrix", action="store_true", help="measure every target, in databases of the sizes they name")
    known = list(SCENARIOS)
    add("--scenarios", type=_list_of(known), default=known, metavar="NAME,…", help=f"of the matrix: {', '.join(known)}")
    add("--scale", type=float, default=1.0, metavar="F", help="of the matrix's sizes, to try it; no verdicts then [1]")
    add("--beside", type=Path, metavar="CHECKOUT", help="another build of backupd, for the matrix's small tenants")
    add("--postgres", type=int, metavar="MAJOR", help="[15 where Debian's is installed, else any]")
    add("--level", type=int, default=3, metavar="N", help="zstd's, for all who let it be chosen [3]")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print all figures as JSON; what goes on, to standard error")
    shape.add_argument("--markdown", action="store_true", help="print the tables in Markdown, as README has them")
    options = parser.parse_args()
    if options.postgres is None and 15 in postgres.installations():
        options.postgres = 15
    return options


def _counts(text: str) -> list[int]:
    try:
        counts = [int(one) for one in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers from 1 on with commas between them")
    return counts


def _list_of(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        strangers = [name for name in names if name not in known]
        if strangers:
            raise argparse.ArgumentTypeError(f"{', '.join(strangers)}: choose from {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    sys.exit(main())
