"""The fault on our own disks, and at PostgreSQL's programs: what worker processes get, too.

It imports nothing of backupd, so that a worker starts as soon as without it: most of a case is starts of processes.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import json
import os
import sqlite3
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lib.sweep.faults import Trip

T = TypeVar("T")
PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "initdb", "pg_resetwal", "postgres")


@dataclass(frozen=True)
class Disks:
    """Folders whose every call counts, by port."""

    folders: Mapping[str, Path]

    def port_of(self, path: str) -> str | None:
        return next((port for port, folder in self.folders.items() if path.startswith(f"{folder}/")), None)


NUMBERS = {
    "error": errno.EIO,
    "full": errno.ENOSPC,
    "short": errno.ENOSPC,
    "quota": errno.EDQUOT,
    "read-only": errno.EROFS,
    "permission": errno.EACCES,
}
SQLITE = {
    "error": ("disk I/O error", sqlite3.SQLITE_IOERR),
    "full": ("database or disk is full", sqlite3.SQLITE_FULL),
    "short": ("database or disk is full", sqlite3.SQLITE_FULL),
    "quota": ("database or disk is full", sqlite3.SQLITE_FULL),
    "read-only": ("attempt to write a readonly database", sqlite3.SQLITE_READONLY),
    "permission": ("unable to open database file", sqlite3.SQLITE_CANTOPEN),
}
BY_NAME = {"mkdir": "write", "rmdir": "write", "unlink": "write", "remove": "write", "chmod": "write"}
TWO_NAMES = ("rename", "replace", "link")
BY_NUMBER = {"write": "put", "pwrite": "put", "fsync": "write", "ftruncate": "write", "fchmod": "write", "pread": "any"}


def disk_error(kind: str, what: str) -> BaseException:
    return OSError(NUMBERS[kind], os.strerror(NUMBERS[kind]), what)


def sqlite_error(kind: str, what: str) -> BaseException:  # noqa: ARG001 - the form of all of them
    text, code = SQLITE[kind]
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


def sweep_disks(trip: Trip, disks: Disks) -> None:
    trip.folders = disks.folders
    real_readlink, fspath = os.readlink, os.fspath

    def path_of(name: Any, folder: int | None = None) -> str:
        """The whole path of a name or a descriptor; empty where it has none."""
        if isinstance(name, int):
            try:
                return real_readlink(f"/proc/self/fd/{name}")
            except OSError:
                return ""
        text = os.fsdecode(fspath(name))
        return text if folder is None or text.startswith("/") else f"{path_of(folder)}/{text}"

    def wrap(name: str, manner: str, folder: str = "dir_fd") -> None:
        real = getattr(os, name)

        def call(target: Any, *arguments: Any, **keywords: Any) -> Any:
            port = disks.port_of(path_of(target, keywords.get(folder)))
            if port is None:
                return real(target, *arguments, **keywords)
            kind = manner
            if name == "open":
                kind = "write" if (arguments[0] if arguments else keywords["flags"]) & _CHANGING else "any"
            what = f"{name} {Path(path_of(target, keywords.get(folder))).suffix}"

            def short() -> Any:
                return real(target, arguments[0][: len(arguments[0]) // 2], *arguments[1:])

            return trip.call(port, kind, what.strip(), lambda: real(target, *arguments, **keywords), disk_error, short)

        setattr(os, name, call)

    for name, manner in {**BY_NAME, **BY_NUMBER, "open": "any"}.items():
        wrap(name, manner)
    for name in TWO_NAMES:
        wrap(name, "write", "src_dir_fd")
    _sweep_open(trip, disks, path_of)
    _sweep_sqlite(trip, disks)


_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def _sweep_open(trip: Trip, disks: Disks, path_of: Callable[[Any], str]) -> None:
    real = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        port = None if isinstance(file, int) else disks.port_of(path_of(file))
        if port is None:
            return real(file, mode, *arguments, **keywords)
        manner = "any" if set(mode) <= set("rbt") else "write"
        what = f"open {Path(path_of(file)).suffix}".strip()
        return trip.call(port, manner, what, lambda: real(file, mode, *arguments, **keywords), disk_error)

    io.open = opened
    builtins.open = opened


def _sweep_sqlite(trip: Trip, disks: Disks) -> None:
    real = sqlite3.connect

    class SweptDatabase(sqlite3.Connection):
        port = ""

        def execute(self, statement: str, *values: Any) -> Any:
            return self._call(statement, lambda: super(SweptDatabase, self).execute(statement, *values))

        def executemany(self, statement: str, *values: Any) -> Any:
            return self._call(statement, lambda: super(SweptDatabase, self).executemany(statement, *values))

        def executescript(self, statement: str) -> Any:
            return self._call("CREATE", lambda: super(SweptDatabase, self).executescript(statement))

        def _call(self, statement: str, effect: Callable[[], T]) -> T:
            word = statement.split(maxsplit=1)[0].upper()
            manner = "any" if word in ("SELECT", "PRAGMA", "ROLLBACK", "ATTACH") else "write"
            return trip.call(self.port, manner, f"sqlite {word}", effect, sqlite_error) if self.port else effect()

    def connect(path: Any, *arguments: Any, **keywords: Any) -> sqlite3.Connection:
        text = os.fsdecode(path)
        port = disks.port_of(text.removeprefix("file:").partition("?")[0])
        if port is None:
            return real(path, *arguments, **keywords)
        made = trip.call(
            port,
            "any",
            "sqlite connect",
            lambda: real(path, *arguments, factory=SweptDatabase, **keywords),
            sqlite_error,
        )
        made.port = port
        return made

    sqlite3.connect = connect


def program_error(_: str, what: str) -> BaseException:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), what)


def sweep_programs(trip: Trip) -> None:
    """PostgreSQL's own programs fail, die, or cannot be started; worker processes get the same fault."""

    class SweptPopen(subprocess.Popen):
        def __init__(self, command: Any, *arguments: Any, **keywords: Any) -> None:
            words = [os.fspath(word) for word in command] if not isinstance(command, str | bytes) else [command]
            start = super().__init__
            if words[-1] == "backupd.rows.worker":
                words[-1] = "lib.sweep.worker"
                keywords["env"] = {**(keywords.get("env") or os.environ), **trip.environment()}
            program = json.loads(words[-1])["command"][0] if "jail.py" in "".join(map(str, words[:-2])) else words[0]
            name = Path(str(program)).name
            if name not in PROGRAMS:
                start(words, *arguments, **keywords)
                return

            def failing(kind: str, what: str) -> BaseException:
                if kind == "permission":
                    return program_error(kind, what)
                start(["/bin/false"] if kind == "error" else words, *arguments, **keywords)
                if kind != "error":
                    self.kill()
                return _StartedError()

            with contextlib.suppress(_StartedError):
                trip.call("postgres", "program", name, lambda: start(words, *arguments, **keywords), failing)

    subprocess.Popen = SweptPopen


class _StartedError(Exception):
    """The program runs, though not as it should."""
