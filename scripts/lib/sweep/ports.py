"""Puts the fault between backupd and what it calls: its stores, PostgreSQL, its own disks, and the clock.

Nothing of backupd is changed but the five ports; which call is meant is the fault's affair.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import psycopg
from doubles.stores.faulty_store import FaultyView

from backupd.clock import SystemClock
from backupd.errors import StoreAuthError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, Piece, ServerSnapshot, Space, StoreView
from backupd.store.forwarding import ForwardingStore
from lib.sweep.faults import Trip

T = TypeVar("T")
WRITING = {"put_new": "put", "replace": "put", "recompose": "put", "remove": "write"}
BENCH = {"write": "put", "rename": "write", "exchange": "write", "remove": "write"}
PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql", "initdb")


@dataclass(frozen=True)
class Disks:
    """Folders whose every call counts, by port."""

    folders: Mapping[str, Path]

    def port_of(self, path: str) -> str | None:
        return next((port for port, folder in self.folders.items() if path.startswith(f"{folder}/")), None)


# --- the store --------------------------------------------------------------------------------------------------------


def store_error(kind: str, what: str) -> BaseException:
    if kind in ("full", "quota"):
        return StoreFullError(f"the store has no room (sweep, {what})", hint="Let snapshots expire, or make room.")
    if kind in ("error", "read-only"):
        return StoreError(f"the store refuses {what} (sweep: {kind})", hint="Look at the store.")
    if kind == "permission":
        return StoreAuthError(f"the store refuses our key (sweep, {what})", hint="Look at the account.")
    return StoreGoneError(f"the store does not answer (sweep: {kind} at {what})", hint="Try again later.")


class SweptStore(ForwardingStore):
    """A store whose calls count, and one of which meets the fault."""

    def __init__(self, inner: Any, trip: Trip) -> None:
        super().__init__(inner)
        self._trip = trip

    def call(self, method: str, name: str, effect: Callable[[], T], short: Callable[[], T] | None = None) -> T:
        manner = BENCH.get(method[6:], "any") if method.startswith("bench.") else WRITING.get(method, "any")
        what = f"{method} {name.partition('/')[0]}".strip()
        return self._trip.call("store", manner, what, effect, store_error, short)

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.call("put_new", name, lambda: self.inner.put_new(name, source, size, sha256), lambda: self._part(source))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self.call("replace", name, lambda: self.inner.replace(name, source, size, sha256), lambda: self._part(source))

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        def part() -> None:
            self._part(io.BytesIO(b"".join(piece for piece in pieces if isinstance(piece, bytes))))

        self.call("recompose", name, lambda: self.inner.recompose(name, pieces, size), part)

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        return iter(self.call("list", prefix, lambda: [*self.inner.list(prefix)]))

    def space(self) -> Space | None:
        fault = self._trip.fault
        no_room = self._trip.blown and fault is not None and fault.kind == "full"
        return Space(0, 1 << 30) if no_room else super().space()

    def view(self, snapshot: ServerSnapshot) -> StoreView:
        return FaultyView(super().view(snapshot), self)  # it needs nothing but `call`

    def workbench(self) -> Any:
        return SweptBench(self.inner.workbench(), self)  # every adapter has one

    def _part(self, source: BinaryIO) -> None:
        """What a line that breaks during an upload leaves behind."""
        source.seek(0)
        data = source.read()
        folder = _root(self.inner) / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / os.urandom(16).hex()).write_bytes(data[: len(data) // 2])
        raise StoreGoneError("the line broke in the middle (sweep)", hint="Try again later.")


class SweptBench:
    """The single steps of a probe."""

    def __init__(self, inner: Any, store: SweptStore) -> None:
        self._inner, self._store = inner, store

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value
        return lambda *arguments, **keywords: self._store.call(
            f"bench.{name}", "", lambda: value(*arguments, **keywords)
        )


def _root(store: Any) -> Path:
    while (inner := getattr(store, "inner", None)) is not None:
        store = inner
    return Path(store.root)


def sweep_stores(trip: Trip) -> None:
    from backupd.wiring.context import open_store as usual

    def open_store(*arguments: Any, **keywords: Any) -> SweptStore:
        return SweptStore(usual(*arguments, **keywords), trip)

    for name, module in list(sys.modules.items()):  # each has it under its own name
        if name.startswith("backupd.") and vars(module).get("open_store") is usual:
            vars(module)["open_store"] = open_store


# --- our own disks ----------------------------------------------------------------------------------------------------

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


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def postgres_error(kind: str, what: str) -> BaseException:
    if what == "connect" or kind in ("cut", "lost-reply"):
        return psycopg.OperationalError("server closed the connection unexpectedly (sweep)")
    if kind == "timeout":
        return psycopg.errors.QueryCanceled("canceling statement due to statement timeout (sweep)")
    return psycopg.errors.InsufficientPrivilege("permission denied (sweep)")


def program_error(_: str, what: str) -> BaseException:
    return PermissionError(errno.EACCES, os.strerror(errno.EACCES), what)


def sweep_postgres(trip: Trip) -> None:
    connect, execute, copy = psycopg.connect, psycopg.Cursor.execute, psycopg.Cursor.copy

    def connected(*arguments: Any, **keywords: Any) -> Any:
        return trip.call("postgres", "any", "connect", lambda: connect(*arguments, **keywords), postgres_error)

    def executed(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return _on_line(trip, self, "execute", lambda: execute(self, *arguments, **keywords))

    def copied(self: Any, *arguments: Any, **keywords: Any) -> Any:
        return _on_line(trip, self, "copy", lambda: copy(self, *arguments, **keywords))

    psycopg.connect = connected
    psycopg.Cursor.execute = executed
    psycopg.Cursor.copy = copied
    sweep_programs(trip)


def _on_line(trip: Trip, cursor: Any, what: str, effect: Callable[[], T]) -> T:
    """A statement; with a line that is cut, its connection is closed as by the other side."""

    def error(kind: str, name: str) -> BaseException:
        if kind == "cut":
            cursor.connection.pgconn.finish()
        return postgres_error(kind, name)

    return trip.call("postgres", "any", what, effect, error)


def sweep_programs(trip: Trip) -> None:
    """PostgreSQL's own programs fail, die, or cannot be started; worker processes get the same fault."""

    class SweptPopen(subprocess.Popen):
        def __init__(self, command: Any, *arguments: Any, **keywords: Any) -> None:
            words = [os.fspath(word) for word in command] if not isinstance(command, str | bytes) else [command]
            start = super().__init__
            if words[-1] == "backupd.rows.worker":
                words[-1] = "lib.sweep.worker"
                keywords["env"] = {**(keywords.get("env") or os.environ), **trip.environment()}
            name = Path(str(words[0])).name
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


# --- the clock --------------------------------------------------------------------------------------------------------

JUMPS = {"back": timedelta(days=-2), "ahead": timedelta(days=730)}


class _JumpedError(Exception):
    """The clock has another time now."""


def sweep_clock(trip: Trip, wait: Callable[[float], None]) -> None:
    """A clock that jumps keeps going; who waits on it has time pass at once."""
    now = SystemClock.now

    def jumped(_: str, __: str) -> BaseException:
        return _JumpedError()

    def read(self: SystemClock) -> Any:
        at = now(self)
        with contextlib.suppress(_JumpedError):
            at = trip.call("clock", "any", "now", lambda: at, jumped)
        fault = trip.fault
        return at + JUMPS[fault.kind] if trip.blown and fault is not None and fault.kind in JUMPS else at

    def sleep(_: SystemClock, seconds: float) -> None:
        time.sleep(min(seconds, 0.01))
        if seconds >= 0.2:
            wait(seconds)

    SystemClock.now = read
    SystemClock.sleep = sleep


def install(trip: Trip, disks: Disks, wait: Callable[[float], None]) -> None:
    """In a process that runs one command and then ends: nothing is put back."""
    sweep_clock(trip, wait)
    sweep_stores(trip)
    sweep_postgres(trip)
    sweep_disks(trip, disks)
