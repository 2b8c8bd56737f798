"""A node, its store and its databases as they stand before an operation, and processes that run one command there.

A command runs in a fork of this process, so that the fault can stand between it and its ports, and so that it may be
killed. It is the real command line, and everything below it is real, too.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from doubles.node.processes import environment, everybody

from backupd.cli.main import main
from lib.soak.clock import Clock
from lib.soak.nodes import Places
from lib.sweep import ports
from lib.sweep.disks import Disks
from lib.sweep.faults import Call, Fault, Trip

PATIENCE = 600.0
"""Seconds after which a command counts as hanging."""
NODE = "one"


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, negative for a signal, and what it said."""

    status: int
    out: str
    err: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL

    @property
    def internal(self) -> bool:
        said = self.out + self.err
        return "internal error" in said or "Traceback" in said

    @property
    def is_told(self) -> bool:
        """Whether a failure says what is wrong, and below it what to do."""
        lines = self.err.splitlines()
        hinted = any(line.startswith("  ") and line.rstrip().endswith((".", "'", "`", ":")) for line in lines)
        return (
            self.status == 0
            or bool(self.out.strip())
            or ("backupd: " in self.err and hinted)
            or "recover: " in self.err
        )


@dataclass
class World:
    """The one that is alive, in `places.folder`; others lie beside it, saved."""

    places: Places
    control: Any
    """The application whose databases are backed up."""
    runs: int = 0
    disks: dict[str, Path] = field(default_factory=dict)
    """The folders whose calls count, by their ports."""
    patches: list[Callable[[], None]] = field(default_factory=list)
    """What a process does to backupd before it runs a command: for stores that this machine has not."""

    @property
    def folder(self) -> Path:
        return self.places.folder

    @property
    def region(self) -> Path:
        return self.places.disk / "be"

    @property
    def node(self) -> Path:
        return self.folder / NODE

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def usual_disks(self) -> dict[str, Path]:
        return {"spool": self.node / "spool", "state": self.node / "state"}

    def save(self, name: str) -> Path:
        """Keep the world as it is, to begin with it again and again."""
        self.pass_time(1)
        saved = self.folder.with_name(f"saved-{name.replace(' ', '-')}")
        shutil.copytree(self.folder, saved, symlinks=True)
        return saved

    def load(self, saved: Path, at: datetime) -> None:
        until = time.monotonic() + 120
        while self.folder.exists():  # who outlives a drill that was killed removes its files, too
            shutil.rmtree(self.folder, ignore_errors=time.monotonic() < until)
        shutil.copytree(saved, self.folder, symlinks=True)
        self.set_clock(at)

    def set_clock(self, at: datetime) -> None:
        self.control.clock = self.places.clock = Clock(Path(os.environ["SOAK_OFFSET"]), at)

    def pass_time(self, seconds: float) -> None:
        """Time passes for backupd and for the store's disk."""
        self.set_clock(shifted_now())  # others may have moved it
        self.places.clock.advance(shifted_now() + timedelta(seconds=seconds), self.places.disk)

    def run(self, arguments: Sequence[str], fault: Fault | None = None) -> Ended:
        """Run one command line of backupd."""
        return self.fork(lambda: main(list(arguments)), fault)

    def calls(self, arguments: Sequence[str], program: Callable[[], int] | None = None) -> tuple[Ended, list[Call]]:
        """Run a command and list every call that it makes."""
        log = self.folder.with_name("calls")
        log.unlink(missing_ok=True)
        ended = self.fork(program or (lambda: main(list(arguments))), None, str(log))
        lines = log.read_text().splitlines() if log.exists() else []
        return ended, [Call(*line.split("\t")) for line in lines]

    def fork(self, program: Callable[[], int], fault: Fault | None = None, log: str = "") -> Ended:
        self.runs += 1
        mark = f"{self.folder}/{self.runs}"
        outputs = [self.folder.with_name("out"), self.folder.with_name("err")]
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._inside(program, Trip("main", fault, log), mark, outputs)
        status = self._wait(pid)
        self._reap(mark)
        return Ended(status, *(path.read_text(errors="replace") for path in outputs))

    def _inside(self, program: Callable[[], int], trip: Trip, mark: str, outputs: list[Path]) -> None:
        status = 99
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for number, path in ((1, outputs[0]), (2, outputs[1])):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(self.node)
            os.environ["SWEEP_CASE"] = mark
            os.environ["SWEEP_DISKS"] = json.dumps({port: str(path) for port, path in self.disks.items()})
            os.environ["BACKUPD_CONFIG"] = str(self.node / "backupd.toml")
            for patch in self.patches:
                patch()
            ports.install(trip, Disks(self.disks), self.pass_time)
            status = program()
        except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _wait(self, pid: int) -> int:
        with open(os.pidfd_open(pid), "rb") as process:  # noqa: PTH123 - a descriptor has no path
            ended = select.poll()
            ended.register(process, select.POLLIN)
            if not ended.poll(1000 * PATIENCE):
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return -signal.SIGALRM
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _reap(self, mark: str) -> None:
        """Wait for what a command that was killed had started; it ends by itself."""
        wanted = f"SWEEP_CASE={mark}\0".encode()
        until = time.monotonic() + 120
        while left := [pid for pid in everybody() if wanted in environment(pid)]:
            if time.monotonic() > until:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise RuntimeError(f"{len(left)} processes outlive the command that started them")
            time.sleep(0.02)


def shifted_now() -> datetime:
    offset = float(Path(os.environ["SOAK_OFFSET"]).read_text(encoding="ascii"))
    return datetime.now(UTC) + timedelta(seconds=offset)


def folders_of_programs(bin_folder: Path) -> str:
    return f"{bin_folder}:/usr/bin:/bin"
