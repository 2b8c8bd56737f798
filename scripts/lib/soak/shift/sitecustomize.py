"""Shifts the clock of every backupd that is started with this folder on PYTHONPATH: Python imports this by itself.

The command lines stay the real ones, those of children and workers included. The seconds to add stand in a file, which
whoever compresses time writes. Durations follow the same file, so that for backupd its clock is right all the time.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

FILE = os.environ.get("SOAK_OFFSET", "")
WRONG = timedelta(seconds=float(os.environ.get("SOAK_WRONG", "0")))
"""By how much this machine's clock alone is ahead of the others."""
QUICK = 0.1
"""Seconds: the daemon looks so often whether time has passed."""
MONTH = 30 * 86_400


def offset() -> float:
    return float(Path(FILE).read_text(encoding="ascii"))


def shifted(real: datetime) -> datetime:
    return real + timedelta(seconds=offset())


def clock(module: Any) -> None:
    """What everything but PostgreSQL and file systems takes for the time."""
    module.SystemClock.now = lambda _self: shifted(datetime.now(UTC)) + WRONG
    module.SystemClock.monotonic = lambda _self: time.monotonic() + offset()
    module.SystemClock.sleep = lambda _self, seconds: time.sleep(min(seconds, QUICK))


def exported(module: Any) -> None:
    """PostgreSQL's clock."""
    real = vars(module)["_export"]
    vars(module)["_export"] = lambda *arguments: (
        (found := real(*arguments)) and replace(found, instant=shifted(found.instant))
    )


def disk(module: Any, name: str = "_info") -> None:
    """The disk's clock. What was written since time was last moved bears the real time still; see `clock.Clock`."""
    real = vars(module)[name]

    def info(*arguments: Any) -> Any:
        found = real(*arguments)
        is_real = found.modified.timestamp() < time.time() + MONTH
        return replace(found, modified=shifted(found.modified)) if is_real else found

    vars(module)[name] = info


def server(module: Any) -> None:
    """The same disk, as an SSH server shows it."""
    disk(module, "described")


def waiting(module: Any) -> None:
    """The daemon's own waiting, which knows nothing of time that is moved: it says at which offset it has nothing to do
    any more, so that time can be moved on."""
    real = vars(module)["_pause"]
    told = Path(FILE).parent / f"rest-{os.getpid()}"

    def pause(supervisor: Any, clock: Any) -> float:
        at = Path(FILE).read_text(encoding="ascii")
        seconds: float = real(supervisor, clock)
        rests = not supervisor.busy and not supervisor.runs and seconds > 0
        told.write_text(at if rests else "", encoding="ascii")
        return seconds

    vars(module).update(_IDLE=QUICK, _BUSY=QUICK, _pause=pause)


PATCHES = {
    "backupd.clock": clock,
    "backupd.postgres.source.exported": exported,
    "backupd.store.directory.view": disk,
    "backupd.store.sftp.download": server,
    "backupd.operations.service.serve": waiting,
}


class Loader(importlib.abc.Loader):
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        PATCHES[module.__name__](module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target) if fullname in PATCHES else None
        if spec is not None:
            spec.loader = Loader(spec.loader)
        return spec


if FILE:
    sys.meta_path.insert(0, Finder())
