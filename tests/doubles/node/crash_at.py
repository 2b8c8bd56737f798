"""Run the command line in a process that kills itself at a chosen moment: `python -m doubles.node.crash_at WHEN ARGS…`.

WHEN is `started:PHASE`, `done:PHASE` or `progress:PHASE` for an event of the run, or `before:FOLDER:N` and
`after:FOLDER:N` for the N-th object (from 1) put into a folder of the store. Packs are small, to have several.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from backupd.cli import progress
from backupd.cli.main import main
from backupd.operations.backup import read
from backupd.store.directory import DirectoryStore
from backupd.trace import Event, PhaseDone, PhaseStarted, Progress

EVENTS = {"started": PhaseStarted, "done": PhaseDone, "progress": Progress}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_event(kind: str, phase: str) -> None:
    usual = progress.PlainProgress.emit

    def emit(self: Any, event: Event) -> None:
        if isinstance(event, EVENTS[kind]) and event.phase == phase:
            die()
        usual(self, event)

    progress.PlainProgress.emit = emit  # the one place every event passes


def die_at_put(side: str, folder: str, number: int) -> None:
    usual, lock, seen = DirectoryStore.put_new, threading.Lock(), [0]

    def put_new(self: DirectoryStore, name: Any, *rest: Any) -> None:
        with lock:
            seen[0] += name.startswith(folder)
            chosen = name.startswith(folder) and seen[0] == number
        if chosen and side == "before":
            die()
        usual(self, name, *rest)
        if chosen:
            die()

    DirectoryStore.put_new = put_new


if __name__ == "__main__":
    when, *arguments = sys.argv[1:]
    read.PACK_SIZE = 20_000
    side, _, where = when.partition(":")
    if side in EVENTS:
        die_at_event(side, where)
    else:
        folder, _, number = where.partition(":")
        die_at_put(side, folder, int(number))
    sys.exit(main(arguments))
