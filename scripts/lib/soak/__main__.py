"""Weeks of the real daemon on a real PostgreSQL and a real store, at the speed of the machine."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from doubles.node.processes import environment, everybody
from doubles.servers.sshd import Sshd

from lib.servers import start_region
from lib.soak.application import Application, Journal
from lib.soak.clock import Clock
from lib.soak.nodes import Places, SoakNode, add_second_store, prepare
from lib.soak.report import figures_of, print_line, print_result
from lib.soak.run import ROWS, BrokenError, Soak, moments
from lib.soak.scenario import draw

CUSTOMERS = 10
BEGIN = (3, 24)
"""Summer time begins some days later."""


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    days = options.days = options.days or options.weeks * 7
    replay = f"scripts/soak --seed {seed} --days {days}"
    replay += (" --sshd" if options.sshd else "") + (" --plain" if options.plain else "")
    print_line(options, f"seed {seed}: {days} virtual days; again with: {replay}")
    folder = Path(tempfile.mkdtemp(prefix="backupd-soak-"))
    folder.chmod(0o711)
    begun, broken, soak = time.monotonic(), "", None
    try:
        with ExitStack() as stack:
            soak = _set_up(stack, folder, seed, options)
            try:
                _run(soak, days, options)
            except (BrokenError, RuntimeError) as error:
                broken = str(error)
            finally:
                _end(soak)
        broken = broken or _left_behind(folder)
    finally:
        if not (broken and options.keep):
            shutil.rmtree(folder)
    figures = {**figures_of(soak, days), "seconds": round(time.monotonic() - begun), "seed": seed, "broken": broken}
    print_result(
        options, figures, soak.failed_jobs if soak else [], f"{replay}\nfiles: {folder}" if options.keep else replay
    )
    return 1 if broken else 0


def _set_up(stack: ExitStack, folder: Path, seed: int, options: argparse.Namespace) -> Soak:
    now = datetime.now(UTC)
    clock = Clock(folder / "offset", datetime(now.year + 3, *BEGIN, tzinfo=UTC))
    source = start_region(stack, "be", folder)
    sshd = Sshd(home=folder / "disk") if options.sshd else None
    places = Places(folder, folder / "scratch", clock, source, sshd)
    journal = Journal(folder / "journal")
    application = Application(source, clock, journal, moments(seed))
    application.start(CUSTOMERS, ROWS)
    prepare(places, stack.enter_context(sshd) if sshd else None)
    if not options.plain:
        add_second_store(places)
    one = SoakNode("one", places)
    keeper = SoakNode("two", places, ("--jobs", "sync,purge,expire"))
    one.run("init", "be")
    one.start()
    scenario = draw(seed, options.days, sorted(application.incarnations), plain=options.plain)
    return Soak(places, application, scenario, clock.now(), keeper, one)


def _run(soak: Soak, days: int, options: argparse.Namespace) -> None:
    for day in range(days):
        line = soak.day(day)
        print_line(options, line)
        if day % 7 == 6:
            soak.attest()
            if day != days - 1:
                soak.check()
    soak.stop(soak.one)
    soak.stop(soak.keeper)
    soak.check()
    _goes_red(soak)


def _goes_red(soak: Soak) -> None:
    """A check that cannot fail is none: one byte of a copy is changed, and it has to notice."""
    copy = soak.places.folder / "copy"
    shutil.copytree(soak.places.disk, copy)
    pack = max(copy.glob("be/packs/*/*.pack"), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    try:
        soak.check_store(copy, soak.places.disk.name)
    except BrokenError:
        return
    raise BrokenError("10: a changed byte was not noticed")


def _end(soak: Soak) -> None:
    for node in (soak.one, soak.keeper):
        node.stop()


def _left_behind(folder: Path) -> str:
    """What runs, or lies about, after everything was stopped."""
    mark = f"SOAK_OFFSET={folder}".encode()
    running = [pid for pid in everybody() if mark in environment(pid)]
    scratch = [path.name for path in (folder / "scratch").iterdir()]
    if running or scratch:
        return f"11: {len(running)} processes and {len(scratch)} scratch folders are left"
    return ""


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--seed", type=int, help="drawn and printed when left out")
    parser.add_argument("--weeks", type=int, default=4, help="virtual ones; default: 4")
    parser.add_argument("--days", type=int, help="instead of weeks")
    parser.add_argument("--plain", action="store_true", help="one store, no holds, wrong clocks or DDL: half the time")
    parser.add_argument("--sshd", action="store_true", help="the store is behind an SSH server, as at rsync.net")
    parser.add_argument("--verbose", action="store_true", help="print every job that did not end well")
    parser.add_argument("--keep", action="store_true", help="keep all files when a promise is broken")
    parser.add_argument("--json", action="store_true", help="figures as JSON, all else to the standard error")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1:]))
