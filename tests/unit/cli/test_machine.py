"""Faults of this machine's own disks and limits end in an error with a name, wherever they come up."""

from __future__ import annotations

import errno
import json
import signal
import sqlite3

import pytest

from backupd.cli import main
from backupd.cli.machine import named


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/var/lib/backupd/x"), 9, "SpoolFull"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 9, "SpoolFull"),
        (OSError(errno.EIO, "Input/output error", "/var/lib/backupd/x"), 1, "Backupd"),
        (OSError(errno.EROFS, "Read-only file system"), 1, "Backupd"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/var/spool/backupd/x"), 1, "Backupd"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "Backupd"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "Backupd"),
        (MemoryError(), 1, "Backupd"),
        (RuntimeError("can't start new thread"), 1, "Backupd"),
        (sqlite_error(sqlite3.SQLITE_FULL), 9, "SpoolFull"),
        (sqlite_error(sqlite3.SQLITE_IOERR | 1 << 8), 1, "Backupd"),
        (sqlite_error(sqlite3.SQLITE_READONLY), 1, "Backupd"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), 1, "Backupd"),
    ],
)
def test_a_disk_that_fails_is_no_fault_of_backupd(fault, status, kind, monkeypatch, capsys):
    """With what is wrong, and what to do."""

    def broken():
        raise fault

    monkeypatch.setattr("backupd.cli.application.build", broken)
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        assert main.main(["backup", "be", "--json"]) == status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["kind"] == kind
    assert error["hint"]


@pytest.mark.parametrize(
    "fault",
    [
        KeyError("a row"),
        RuntimeError("another"),
        FileNotFoundError(errno.ENOENT, "a file that ought to be there"),
        sqlite_error(1),
    ],
    ids=["key", "runtime", "missing", "statement"],
)
def test_what_is_a_fault_of_backupd_stays_one(fault):
    """A wrong statement, and a file that nobody else could have removed."""
    assert named(fault) is fault
