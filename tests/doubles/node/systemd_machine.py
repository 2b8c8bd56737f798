"""A machine that runs systemd: this one's files under a throw-away layer, in namespaces of their own. See boot.sh."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doubles.paths import ROOT

INSIDE = "/srv/test"
"""Where the machine sees the checkout, the interpreter and the libraries of the tests, and cannot write them."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE = 120.0


class NoMachineError(RuntimeError):
    """No machine can be booted here, and why."""


@dataclass
class SystemdMachine:
    """A running one. Everything in it is gone with it, and with the process that booted it."""

    pid: int
    """Of its first process, as seen from outside."""
    _holding: subprocess.Popen[bytes]
    _beside: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def python(self) -> str:
        """An interpreter that can use the libraries of the tests: the distribution's, or else the one we run on."""
        same = Path(f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}")
        return str(same) if same.exists() else f"{INSIDE}/python/bin/python3"

    def path(self, inside: str) -> Path:
        """A file of the machine, from outside."""
        return Path(f"/proc/{self.pid}/root", inside.lstrip("/"))

    def run(
        self, *command: str, check: bool = True, given: bytes = b"", seconds: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command in it, as root. With `check`, raises AssertionError with what it said when it fails."""
        done = subprocess.run(
            self._entered(command, environment), input=given, capture_output=True, check=False, timeout=seconds
        )
        told = f"{' '.join(command)}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"
        assert not check or done.returncode == 0, told
        return done

    def text(self, *command: str, **options: Any) -> str:
        return self.run(*command, **options).stdout.decode()

    def beside(self, *command: str, **environment: str) -> dict[str, Any]:
        """Start what goes on until the machine ends, and tells what there is to know in one line of JSON."""
        process = subprocess.Popen(
            self._entered(command, environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=None
        )
        self._beside.append(process)
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.readline())
        return told

    def shown(self, unit: str) -> dict[str, str]:
        """What systemd knows of a unit."""
        lines = self.text("systemctl", "show", unit).splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def journal(self, unit: str) -> str:
        return self.text("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def wait_for(
        self, unit: str, right: Callable[[dict[str, str]], bool], seconds: float = _PATIENCE
    ) -> dict[str, str]:
        """What systemd shows of a unit as soon as it is `right`."""
        until = time.monotonic() + seconds
        while not right(shown := self.shown(unit)):
            assert time.monotonic() < until, (
                f"{unit}: {shown['ActiveState']}, {shown['StatusText']}\n{self.journal(unit)}"
            )
            time.sleep(0.1)
        return shown

    def end(self) -> None:
        """Kill everything in it. What it wrote was memory."""
        assert self._holding.stdin is not None
        self._holding.stdin.close()
        self._holding.wait(30)
        for process in self._beside:
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()
        assert self._holding.stdout is not None
        self._holding.stdout.close()

    def _entered(self, command: tuple[str, ...], environment: dict[str, str]) -> list[str]:
        given = [f"{name}={value}" for name, value in {"PATH": _PATH, "LC_ALL": "C.UTF-8", **environment}.items()]
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--net", "--cgroup"]
        return [*enter, "env", "-i", *given, *command]


def boot(folder: Path) -> SystemdMachine:
    """Boot one, within seconds; `folder` is where its files are mounted, seen by nobody else.

    Raises NoMachineError.
    """
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        raise NoMachineError("booting systemd needs root and Debian's package systemd; scripts/test installs it")
    arguments = [folder, ROOT, sys.base_prefix, sysconfig.get_path("purelib")]
    with tempfile.TemporaryFile() as errors:
        holding = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "bash", Path(__file__).with_name("boot.sh"), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        assert holding.stdout is not None
        first = holding.stdout.readline()
        if not first:
            _ended(holding)
            errors.seek(0)
            raise NoMachineError(f"this machine refuses what a booted one needs: {errors.read().decode()}")
    machine = SystemdMachine(int(first), holding)
    try:
        _await_start(machine)
    except BaseException:
        machine.end()
        raise
    return machine


def _await_start(machine: SystemdMachine) -> None:
    until = time.monotonic() + _PATIENCE
    state = ""
    while state != "running":
        if time.monotonic() > until or state in ("degraded", "maintenance"):
            failed = machine.run("systemctl", "--no-pager", "list-units", "--failed", check=False)
            raise NoMachineError(f"systemd is {state or 'silent'} {failed.stdout.decode()}{failed.stderr.decode()}")
        time.sleep(0.1)
        state = machine.run("systemctl", "is-system-running", check=False).stdout.decode().strip()


def _ended(process: subprocess.Popen[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
    process.wait(30)
