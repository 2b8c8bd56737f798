"""Every operation fails and is killed at every call it makes; then it is run again, and its store is checked."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from backupd.seal import keyfiles
from lib import manual_table
from lib.servers import start_region
from lib.soak.application import Application, Journal
from lib.soak.clock import Clock
from lib.soak.nodes import Places, prepare
from lib.soak.run import moments
from lib.sweep.case import Sweep
from lib.sweep.faults import KINDS, PORTS, Call, Fault, spread
from lib.sweep.log import Log
from lib.sweep.operations import OPERATIONS, Preparation
from lib.sweep.report import Row, markdown, table
from lib.sweep.world import World, folders_of_programs
from lib.warm import warm

CUSTOMERS, ROWS = 3, 8
BEGIN = (3, 24)


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    if options.table:
        return _told(Log(options.log).rows([operation.name for operation in OPERATIONS]), options)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its servers end with it, however it is ended
    options.log = options.log or options.folder / "log"
    if options.job:
        return _work(options)
    others = [_start([*arguments, "--job", str(job), "--log", str(options.log)], job) for job in range(1, options.jobs)]
    _work(options)
    if sum(abs(other.wait()) for other in others):
        raise RuntimeError("another process of the sweep failed; what it did is in the log")
    return _told(Log(options.log).rows(options.operations), options)


def _start(arguments: Sequence[str], job: int) -> subprocess.Popen[bytes]:
    """Another process, which does its share of the cases in a world of its own."""
    environment = {**os.environ, "SOAK_OFFSET": f"{os.environ['SOAK_OFFSET']}-{job}"}
    return subprocess.Popen([sys.executable, "-m", "lib.sweep", *arguments], env=environment)


def _work(options: argparse.Namespace) -> int:
    """Do the share of one process of each operation's cases."""
    folder = options.folder / str(options.job)  # short: a socket's path may have 107 bytes
    folder.mkdir(mode=0o711)
    with ExitStack() as stack:
        world = _world(stack, folder, options.seed)
        world.disks = world.usual_disks()
        stages = Preparation(world, options.operations).all()
        with contextlib.closing(world.places.source.server.connect("app")) as app:
            app.execute("SET timezone = 'UTC'")
            digests = world.control.digests(app)
        for operation in OPERATIONS:
            if operation.name in options.operations:
                _sweep(Sweep(world, operation, stages[operation.name], digests), options, Log(options.log))
    return 0


def _told(rows: Sequence[Row], options: argparse.Namespace) -> int:
    """Print the table, and what failed."""
    failed = [line for row in rows for line in row.wrong]
    if options.manual:
        manual_table.put([*markdown(rows)])
    print("\n".join(markdown(rows) if options.markdown else table(rows)))
    sorts = f"{sum(row.tried for row in rows)} of {sum(row.sorts for row in rows)} sorts of fault"
    print(
        f"{sum(row.run for row in rows)} of {sum(row.cases for row in rows)} cases run, {sorts}, {len(failed)} failed"
    )
    for lines in failed:
        print("\n" + lines)
    return 1 if failed else 0


def _sweep(sweep: Sweep, options: argparse.Namespace, log: Log) -> None:
    """Run our share of the cases of one operation that are not in the log yet, in an order that the seed draws."""
    name = sweep.operation.name
    calls = sweep.count()
    kinds = {port: set(options.kinds) for port in options.ports}
    if sweep.operation.by_script:  # whose state is the store itself: without it nothing can be recovered
        kinds.get("state", set()).discard("removed")
    wanted = [fault for fault in _faults(calls) if fault.kind in kinds.get(fault.port, ())]
    if options.job == 0:
        log.counted(name, {port: sum(call.port == port for call in calls) for port in PORTS}, wanted)
    known, asked = {fault.place: fault for fault in wanted}, [Fault.parse(one) for one in options.fault]
    chosen = [known.get(fault.place, fault) for fault in asked] or wanted[:: options.every]
    chosen = spread(chosen, f"{options.seed} {name}")[: options.cases]
    until = time.monotonic() + 60 * (options.minutes or math.inf)
    done = log.done(name)
    for fault in chosen:
        ours = zlib.crc32(fault.place.encode()) % options.jobs == options.job
        if ours and time.monotonic() < until and (options.fault or fault.place not in done):
            case = sweep.run(fault)
            log.ended(case)
            if options.verbose or case.wrong:
                print(f"{name} {fault}: {case.status}, then {case.again}", file=sys.stderr)
                print("\n".join(f"    {line}" for line in case.wrong)[:3000], file=sys.stderr, flush=True)


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
    warm()
    clock = Clock(Path(os.environ["SOAK_OFFSET"]), datetime(now.year + 3, *BEGIN, tzinfo=UTC))
    source = start_region(stack, "be", folder)
    os.environ["PATH"] = folders_of_programs(source.server.bin)
    places = Places(live, live / "scratch", clock, source)
    application = Application(source, clock, Journal(live / "journal"), moments(seed))
    application.start(CUSTOMERS, ROWS)
    vars(keyfiles)["_N"] = 2  # scrypt takes 0.2 s otherwise, for every command that opens something
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
    parser.add_argument(
        "--cases",
        type=int,
        metavar="N",
        help="only so many of each operation, drawn by the seed",
    )
    parser.add_argument("--minutes", type=float, metavar="N", help="only so long for each operation")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many processes, each with its own servers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", action="append", default=[], help="only this one, as a failed case is printed")
    parser.add_argument("--log", type=Path, metavar="FILE", help="go on from the cases of FILE, and add to it")
    parser.add_argument("--table", action="store_true", help="only print what is in the log")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--manual", action="store_true", help="put the table into the manual, in this checkout")
    parser.add_argument("--verbose", action="store_true", help="print every case")
    parser.add_argument("--job", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.table and options.log is None:
        parser.error("--table needs --log FILE")
    return options


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
