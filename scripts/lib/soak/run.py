"""Turns the scenario into time: steps, waits until the daemons are at rest, and does what is to be done meanwhile."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from datetime import time as of_day
from pathlib import Path
from typing import Any

from lib.soak.application import Application
from lib.soak.footprint import Footprint, Footprints
from lib.soak.nodes import CHECKOUT, Places, SoakNode, outage, restart, rotate, unmounted
from lib.soak.oracle import Journal, Terms
from lib.soak.scenario import STEPS, Act, Scenario

WELL = ("done", "busy", "stopped", "found")
SOON = timedelta(minutes=15)
CRAWL = timedelta(seconds=30)
ROWS = 120
SNAPSHOTS_KEPT = 2
DAY = timedelta(days=1)
REFUSED = 10


class BrokenError(Exception):
    """A promise does not hold; the message says which, a line each."""


@dataclass
class Soak:
    """Everything that is running."""

    places: Places
    application: Application
    scenario: Scenario
    begin: datetime
    keeper: SoakNode
    one: SoakNode
    failed_jobs: list[str] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    jobs: Counter[tuple[str, str]] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    footprints: Footprints = field(default_factory=Footprints)
    failing: set[tuple[str, str]] = field(default_factory=set)
    attested: set[str] = field(default_factory=set)
    """Lives."""

    def day(self, number: int) -> str:
        """One virtual day; a line that sums it up."""
        before, jobs = Counter(self.acts), Counter(self.jobs)
        for step in STEPS:
            at = self.begin + timedelta(days=number)
            self._step(datetime.combine(at.date(), of_day.fromisoformat(step), at.tzinfo), number, step)
        self._measure()
        self.check("--census")
        acts = ", ".join(f"{what} {count}" for what, count in sorted((self.acts - before).items()) if what != "work")
        ended = ", ".join(f"{kind} {how} {count}" for (kind, how), count in sorted((self.jobs - jobs).items()))
        return f"day {number:3d} {at.date()}  {ended}  | {acts or 'nothing befell it'}"

    def _measure(self) -> None:
        """Look at what the daemons at rest have. Raises BrokenError when it has grown."""
        for node in (self.one, self.keeper):
            if node.process is not None:
                footprint = Footprint.of(node.process.pid)
                while not node.at_rest():  # a job began meanwhile
                    self._settle()
                    footprint = Footprint.of(node.process.pid)
                self.footprints.add(node.name, node.process.pid, footprint)
        if faults := self.footprints.faults():
            raise BrokenError("\n".join(faults))

    def check(self, *options: str) -> None:
        """Run the checker on every store, apart from everything else. Raises BrokenError with what it found."""
        for store in (self.places.disk, self.places.second):
            if store.exists():
                self.check_store(store, store.name, *options)

    def check_store(self, store: Path, name: str, *options: str) -> None:
        """Run the checker on one store, or a copy of it; what was seen there before is kept by its name."""
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                Path(__file__).parent / "oracle.py",
                *self._seen(store, name),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1) or not done.stdout:
            raise BrokenError(f"the checker failed:\n{done.stderr}")
        found: dict[str, Any] = json.loads(done.stdout)
        if done.returncode:
            raise BrokenError("\n".join(found["faults"]))
        if "--census" not in options:
            self.checks.update({name: count for name, count in found.items() if name != "faults"})
            self.checks["checks"] += 1

    def attest(self) -> None:
        """Have it signed that nothing is left of those whose deadline was a day ago. Raises BrokenError when it is not
        to be had."""
        now = self.places.clock.now()
        for incarnation, due in Journal.read(self.application.journal.path).dues.items():
            if incarnation not in self.attested and now > Terms().deadline(due) + timedelta(days=1):
                self.attested.add(incarnation)
                try:
                    which = ("--incarnation", str(due["incarnation"]))
                    issued = self.one.run("tenant", "attest", "be", due["tenant"], *which)
                except RuntimeError as error:
                    raise BrokenError(f"5: {error}") from None
                self.checks["attestations"] += 1
                self.checks["late"] += issued["attestation"]["late"]

    def _seen(self, store: Path, name: str) -> list[str]:
        folder = self.places.folder
        also = [folder / name / part for name in ("one", "two") for part in ("state", "spool", "status.html")]
        also += [folder / "one.log", folder / "two.log"]
        options = {
            "--recover": CHECKOUT / "scripts" / "recover",
            "--journal": self.application.journal.path,
            "--seen": folder / f"seen-{name}",
            "--identity": folder / "drill.identity",
            "--passphrase-file": folder / "drill.passphrase",
            "--out": folder / "recovered",
            "--now": self.places.clock.now().isoformat(),
        }
        there = [str(path) for path in also if path.exists()]
        return [str(store), *(str(word) for pair in options.items() for word in pair), "--also", *there]

    def _step(self, to: datetime, day: int, step: str) -> None:
        while self.failing and self.places.clock.now() + SOON < to:
            self._advance(self.places.clock.now() + SOON)
            self._settle()
        acts = self.scenario.at(day, step)
        if step == STEPS[0]:
            self._advance(to)
            rotate(self.places, SNAPSHOTS_KEPT)
        with ExitStack() as stack:
            if any(act.what == "store-gone" for act in acts):
                stack.enter_context(outage(self.places))
            elif any(act.what == "second-gone" for act in acts):
                stack.enter_context(unmounted(self.places, self.places.second))
            self._advance(to)
            for act in acts:
                self._do(act)
            self._settle()

    def _do(self, act: Act) -> None:
        self.acts[act.what] += 1
        if act.delay:
            self._wait_for_work(act.delay)
        application = self.application
        match act.what:
            case "work" | "change-during":
                application.work()
            case "leave" if act.tenant in application.incarnations:
                application.leave(act.tenant, early=False)
            case "erase" if act.tenant in application.incarnations:
                application.leave(act.tenant, early=True)
            case "come-back" if application.left.get(act.tenant) == "unsubscribed":
                application.come_back(act.tenant)
            case "take-out" if application.left.get(act.tenant) == "unsubscribed":
                application.take_out(act.tenant)
            case "join" if act.tenant not in application.incarnations:
                application.join(act.tenant, 2 if act.tenant in application.left else 1, ROWS)
            case "kill-daemon" | "kill-job":
                node = self.keeper if self.keeper.at_work() and not self.one.at_work() else self.one
                node.kill(only_child=act.what == "kill-job")
            case "postgres-restarts":
                restart(self.places.source)
            case "second-keeper" if self.keeper.process is None:
                self.keeper.start()
            case "second-keeper-stops":
                self.stop(self.keeper)
            case "migrate":
                application.migrate()
            case "hold" | "release":
                self._hold(act.tenant, released=act.what == "release")
            case "replicate":
                self.one.run("replicate", "be", "--from", "disk", "--to", "second")
            case "clock-back" | "clock-ahead":
                self._refused_with(-2 * DAY if act.what == "clock-back" else 400 * DAY)

    def _hold(self, tenant: str, *, released: bool) -> None:
        review = (self.places.clock.now() + 30 * DAY).date().isoformat()
        if released:
            self.one.run("tenant", "release", "be", tenant, "CASE-1")
        else:
            self.one.run("tenant", "hold", "be", tenant, "CASE-1", "--review", review)
        self.application.held(tenant, released=released)

    def _refused_with(self, ahead: timedelta) -> None:
        """Nothing is dated where this machine's clock alone is wrong; what has nothing to do may say so."""
        before = set(self._dated())
        for command in ("backup", "purge", "expire"):
            status, said = self.one.status_with_wrong_clock(ahead.total_seconds(), command, "be")
            if status != REFUSED and (status or command == "backup"):
                raise BrokenError(f"7: {command} ends with {status} where the clock is {ahead} ahead: {said}")
        now = self.places.clock.now()
        for path in set(self._dated()) - before:  # by the daemons, which run beside
            body = json.loads(path.read_bytes().partition(b"\n")[0])
            if abs(datetime.fromisoformat(body.get("at") or body["published"]) - now) > DAY:
                raise BrokenError(f"7: '{path}' is dated by a clock that is {ahead} ahead")

    def _dated(self) -> Iterator[Path]:
        """Give every entry of the ledger and every record on the stores."""
        for root in (self.places.disk, self.places.second):
            yield from root.glob("be/ledger/*.json")
            yield from root.glob("be/snapshots/*/*")

    def stop(self, node: SoakNode) -> None:
        """Raises BrokenError when it does not end as it should."""
        if status := node.stop():
            raise BrokenError(f"11: the daemon on {node.name} ended with {status}")

    def _wait_for_work(self, delay: float) -> None:
        until = time.monotonic() + 2
        while not (self.one.at_work() or self.keeper.at_work()) and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(delay)

    def _advance(self, to: datetime) -> None:
        self.places.clock.advance(to, self.places.disk, self.places.second)

    def _settle(self) -> None:
        """Until nothing is at work; what waits for time to pass gets some, a little at a time."""
        begun = time.monotonic()
        while not (self.one.at_rest() and self.keeper.at_rest()):
            time.sleep(0.03)
            seconds = time.monotonic() - begun
            if seconds > 60:
                time.sleep(1)
                self._advance(self.places.clock.now() + CRAWL)
            if seconds > 600:
                raise BrokenError("11: a job does not end")
        for node in (self.one, self.keeper):
            for line in node.ended():
                self._ended(node, line)

    def _ended(self, node: SoakNode, line: dict[str, Any]) -> None:
        kind, outcome = line["kind"], line["outcome"]
        self.jobs[kind, outcome] += 1
        if outcome in WELL:
            self.failing.discard((node.name, kind))
        else:
            self.failed_jobs.append(f"{node.name}: {json.dumps(line)}")
            if line.get("retry"):
                self.failing.add((node.name, kind))


def moments(seed: int) -> random.Random:
    """For what is drawn while it runs."""
    return random.Random(seed + 1)
