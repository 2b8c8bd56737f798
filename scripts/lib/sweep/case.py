"""One case of the sweep: an operation meets a fault, is run again, and what stands on the store is looked at."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib.soak.nodes import CHECKOUT
from lib.soak.oracle import load
from lib.sweep.faults import Call, Fault
from lib.sweep.invariants import faults, marks
from lib.sweep.operations import RESTORED, Operation, Stage, by_folders
from lib.sweep.world import Ended, World

BUSY, REFUSED = 11, 10
EXPECTED = re.compile(r"is kept beyond max_age|^10: drill \S+ ended error: ")
"""What the checker may say until the operation was run again: a snapshot waits, and a drill came to no verdict."""
UNPUBLISHED = re.compile(r"^10: report \S+ is not there, of which the ledger tells")
"""What it may say after the fault, not in the end: a report stands in the ledger first, and is published then."""
REFUSAL = re.compile(r"^10: drill \S+ ended fail: equality")
"""What it may say of a drill in which PostgreSQL refused a statement: what it refuses cannot be restored."""
A_DAY = 25 * 3600.0
VERIFY = ("verify", "be", "--read-data", "all", "--identity", "{}/drill.identity", "--passphrase-file")


@dataclass
class Case:
    """What came of one fault."""

    operation: str
    fault: Fault
    status: int = 0
    again: int = 0
    waited: bool = False
    """Whether a day had to pass before it could be run again."""
    wrong: list[str] = field(default_factory=list)


@dataclass
class Sweep:
    """One operation, from one stage, again and again."""

    world: World
    operation: Operation
    stage: Stage
    digests: Any
    expected: object = None

    def count(self) -> list[Call]:
        """Run it once without a fault: every call, and what stands there in the end. Raises RuntimeError."""
        self._begin()
        ended, calls = self.world.calls(self.operation.command(self.world), self._program())
        self.expected = self.operation.effect(self.world) if not ended.status else None
        wrong = self._faults()
        self._end()
        if ended.status or wrong:
            raise RuntimeError(f"{self.operation.name} ends with {ended.status}: {ended.err}{wrong}")
        return calls

    def run(self, fault: Fault) -> Case:
        case = Case(self.operation.name, fault)
        self._begin()
        try:
            first = self._run(fault)
            case.status = first.status
            self._judge(case, first, "at first")
            found = [one for one in self._faults() if not UNPUBLISHED.search(one)]
            case.wrong += [f"after the fault: {one}" for one in found if not self._is_expected(one, fault)]
            self._again(case)
            if not case.wrong:
                self._afterwards(case)
        except Exception as error:  # noqa: BLE001 - one case that the checker cannot read must not end the others
            case.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            self._end()
        return case

    def _is_expected(self, found: str, fault: Fault) -> bool:
        """Who runs scripts/recover is told which of the plain files it makes failed, and they have tenants' names."""
        told = self.operation.by_script and found.endswith("/err' tells a tenant's name")
        refused = (fault.port, fault.kind) == ("postgres", "error") and REFUSAL.search(found)
        return told or bool(refused) or EXPECTED.search(found) is not None

    def _again(self, case: Case) -> None:
        again = self._run(None)
        if again.status == BUSY:
            case.waited = True
            self.world.pass_time(A_DAY)
            again = self._run(None)
        case.again = again.status
        self._judge(case, again, "the second time")
        # What was done, and could only not be told of, is not done twice.
        done = again.status == REFUSED and self.operation.name in ("init", "restore", "recover")
        done = done and (case.status <= 0 or case.fault.kind == "lost-reply")
        if again.status and not done:
            case.wrong.append(f"run again, it ends with {again.status}: {again.err.strip()}")
        if case.wrong:
            return
        try:
            found = self.operation.effect(self.world)
        except Exception as error:  # noqa: BLE001 - whatever is missing, it is the case's fault
            found = repr(error)
        if found != self.expected:
            case.wrong.append(f"run again, it has not done its work: {found!r}, not {self.expected!r}")

    def _afterwards(self, case: Case) -> None:
        """The next backup works, and backupd itself finds nothing wrong."""
        world = self.world
        commands = [["backup", "be"]] if self.operation.name not in ("ingest", "init") else []
        if self.operation.name not in ("ingest", "init"):  # of an empty store nothing can be verified
            commands.append([word.format(world.folder) for word in (*VERIFY, "{}/drill.passphrase")])
        for command in commands if not self.operation.by_script else ():
            ended = world.run(command)
            if ended.status == BUSY:
                case.waited = True
                world.pass_time(A_DAY)
                ended = world.run(command)
            self._judge(case, ended, command[0])
            if ended.status:
                case.wrong.append(f"{command[0]} ends with {ended.status}: {ended.out}{ended.err}".strip())
        if self.operation.name != "ingest":
            case.wrong += [f"in the end: {one}" for one in self._faults() if not self._is_expected(one, case.fault)]
        spooled = [path.name for path in (world.node / "spool").rglob("*") if path.is_file()]
        if spooled and not case.wrong:
            case.wrong.append(f"left in the spool: {spooled}")
        # Who is killed, or cut off from its store, leaves its mark; it counts for a day at most.
        if case.fault.port != "store" and case.status >= 0 and not case.wrong and (left := marks(world.region)):
            case.wrong.append(f"marks are left: {left}")

    def _judge(self, case: Case, ended: Ended, when: str) -> None:
        if ended.internal:
            case.wrong.append(f"{when}: an error without a name:\n{ended.out}{ended.err}")
        elif ended.status < 0 and not ended.killed:
            case.wrong.append(f"{when}: it hangs, or dies of {-ended.status}")
        elif not ended.killed and not ended.is_told:
            case.wrong.append(f"{when}: status {ended.status} without saying what to do: {ended.err!r}")

    def _faults(self) -> list[str]:
        self.world.pass_time(1)  # what was written meanwhile gets the time it has here
        return faults(self.world)

    def _begin(self) -> None:
        world = self.world
        world.load(self.stage.saved, self.stage.at)
        world.patches[:] = [by_folders(world.region)] if self.operation.name == "ingest" else []
        world.disks = world.usual_disks()
        if self.operation.by_script:  # which reads a copy of the store, and writes plain files
            world.disks = {"state": world.places.disk, "spool": world.folder / "recovered"}
        at = self.stage.at.isoformat()
        with world.journal.open("a", encoding="utf-8") as out:
            line = {"kind": "state", "begun": at, "settled": at, "digests": self.digests}
            out.write(json.dumps(line) + "\n")

    def _end(self) -> None:
        server = self.world.places.source.server
        for (name,) in server.sql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate"):
            if name.startswith((RESTORED, "backupd")):
                server.drop_database(name)

    def _run(self, fault: Fault | None) -> Ended:
        program = self._program()
        if program is None:
            return self.world.run(self.operation.command(self.world), fault)
        return self.world.fork(program, fault)

    def _program(self) -> Callable[[], int] | None:
        if not self.operation.by_script:
            return None
        return lambda: _recover(self.operation.command(self.world))


def _recover(command: list[str]) -> int:
    """scripts/recover, as a person runs it: what it began is removed before it is run again."""
    script = load(CHECKOUT / "scripts" / "recover")
    shutil.rmtree(Path(command[-1]), ignore_errors=True)
    sys.argv = ["recover", *command]
    status: int = script.main()
    return status
