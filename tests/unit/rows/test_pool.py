"""Worker processes that end when nobody expects it."""

from __future__ import annotations

import os
from typing import cast

import pytest

from backupd.errors import BackupdError
from backupd.rows import pool, protocol
from backupd.rows.pool import Listener, WorkerPool
from backupd.rows.protocol import Setup, Task


def test_a_worker_that_dies_before_its_first_message_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other that died, with what to look for, and not by a broken pipe."""

    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(pool.sys, "executable", "/bin/false")
    monkeypatch.setattr(protocol, "send", broken)
    workers = WorkerPool([cast("Setup", None)] * 2, dict(os.environ), cast("Listener", None))
    with pytest.raises(BackupdError, match="a worker process ended unexpectedly"), workers as started:
        started.run([cast("Task", None)])


def test_no_process_is_started_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup of which nothing has to be read ends as one that had workers."""
    monkeypatch.setattr(pool.subprocess, "Popen", None)
    with WorkerPool([cast("Setup", None)] * 2, {}, cast("Listener", None)) as workers:
        workers.run([])
        workers.release()
        workers.close_segments([])
        workers.finish()
