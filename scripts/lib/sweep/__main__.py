"""Every operation fails and is killed at every call it makes; then it is run again, and its store is checked."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from lib.servers import start_region
from lib.soak.application import Application, Journal
from lib.soak.clock import Clock
from lib.soak.nodes import Places, prepare
from lib.soak.run import moments
from lib.sweep.case import Case, Sweep
from lib.sweep.faults import KINDS, PORTS, Call, Fault
from lib.sweep.operations import OPERATIONS, Preparation
from lib.sweep.report import Row, markdown, table
from lib.sweep.world import World, folders_of_programs

CUSTOMERS, ROWS = 3, 8
BEGIN = (3, 24)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    folder = options.folder
    with ExitStack() as stack:
        world = _world(stack, folder, options.seed)
        world.disks = world.usual_disks()
        stages = Preparation(world, options.operations).all()
        with contextlib.closing(world.places.source.server.connect("app")) as app:
            app.execute("SET timezone = 'UTC'")
            digests = world.control.digests(app)
        rows, failed = [], []
        for operation in OPERATIONS:
            if operation.name in options.operations:
                sweep = Sweep(world, operation, stages[operation.name], digests)
                row, cases = _sweep(sweep, options)
                rows.append(row)
                failed += [case for case in cases if case.wrong]
    print("\n".join(markdown(rows) if options.markdown else table(rows)))
    print(f"{sum(row.run for row in rows)} of {sum(row.cases for row in rows)} cases run, {len(failed)} failed")
    for case in failed:
        print(f"\n{case.operation} {case.fault}: status {case.status}, then {case.again}")
        print("\n".join(f"  {line}" for one in case.wrong for line in one.splitlines()))
    return 1 if failed else 0


def _sweep(sweep: Sweep, options: argparse.Namespace) -> tuple[Row, list[Case]]:
    calls = sweep.count()
    kinds = {port: set(options.kinds) for port in options.ports}
    if sweep.operation.by_script:  # whose state is the store itself: without it nothing can be recovered
        kinds.get("state", set()).discard("removed")
    wanted = [fault for fault in _faults(calls) if fault.kind in kinds.get(fault.port, ())]
    row = Row(sweep.operation.name, {port: sum(call.port == port for call in calls) for port in PORTS}, len(wanted))
    chosen = [Fault.parse(one) for one in options.fault] or wanted[:: options.every]
    if options.cases or options.minutes:
        number = min(options.cases or len(wanted), len(wanted))
        chosen = random.Random(f"{options.seed} {row.operation}").sample(wanted, number)
    done, begun = [], time.monotonic()
    for fault in chosen:
        if options.minutes and time.monotonic() > begun + 60 * options.minutes:
            break
        done.append(sweep.run(fault))
        if options.verbose or done[-1].wrong:
            print(f"{row.operation} {fault}: {done[-1].status}, then {done[-1].again}", file=sys.stderr)
            print("\n".join(f"    {line}" for line in done[-1].wrong)[:3000], file=sys.stderr, flush=True)
    row.run, row.failed, row.seconds = len(done), sum(bool(case.wrong) for case in done), time.monotonic() - begun
    row.waited = sum(case.waited for case in done)
    return row, done


def _faults(calls: Sequence[Call]) -> list[Fault]:
    """Every kind at every call, in the order of the calls."""
    numbers: dict[tuple[str, str], int] = {}
    found = []
    for call in calls:
        key = call.process, call.port
        numbers[key] = numbers.get(key, 0) + 1
        found += [Fault(*key, numbers[key], kind, call.what) for kind in call.kinds]
    return found


def _world(stack: ExitStack, folder: Path, seed: int) -> World:
    now, live = datetime.now(UTC), folder / "live"
    live.mkdir()
    clock = Clock(Path(os.environ["SOAK_OFFSET"]), datetime(now.year + 3, *BEGIN, tzinfo=UTC))
    source = start_region(stack, "be", folder)
    os.environ["PATH"] = folders_of_programs(source.server.bin)
    places = Places(live, live / "scratch", clock, source)
    application = Application(source, clock, Journal(live / "journal"), moments(seed))
    application.start(CUSTOMERS, ROWS)
    prepare(places, None)
    config = live / "one" / "backupd.toml"
    config.write_text(config.read_text().replace("[node]\n", "[node]\nworkers = 1\n", 1))
    return World(places, application)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    names = [operation.name for operation in OPERATIONS]
    parser = argparse.ArgumentParser(prog="scripts/sweep", description=__doc__)
    parser.add_argument("--operations", type=_list_of(names), default=names, metavar="A,B", help=", ".join(names))
    parser.add_argument("--ports", type=_list_of(PORTS), default=PORTS, metavar="A,B", help=", ".join(PORTS))
    parser.add_argument("--kinds", type=_list_of(KINDS), default=list(KINDS), metavar="A,B", help=", ".join(KINDS))
    parser.add_argument("--every", type=int, default=1, metavar="K", help="only every K-th case")
    parser.add_argument("--cases", type=int, metavar="N", help="only so many of each operation, drawn by the seed")
    parser.add_argument("--minutes", type=float, metavar="N", help="only so long for each operation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", default=[], help="only this one, as a failed case is printed")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _list_of(names: Sequence[str]) -> object:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if wrong := [one for one in chosen if one not in names]:
            raise argparse.ArgumentTypeError(f"{', '.join(wrong)}: there are {', '.join(names)}")
        return chosen

    return parse


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
