"""Puts the fault between backupd and what it calls: its stores, PostgreSQL, its own disks, and the clock.

Nothing of backupd is changed but the five ports; which call is meant is the fault's affair.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from lib.sweep.disks import Disks, sweep_disks, sweep_programs
from lib.sweep.faults import Trip

T = TypeVar("T")
WRITING = {"put_new": "put", "replace": "put", "recompose": "put", "remove": "write"}
BENCH = {"write": "put", "rename": "write", "exchange": "write", "remove": "write"}


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


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


def postgres_error(kind: str, what: str) -> BaseException:
    if what == "connect" or kind in ("cut", "lost-reply"):
        return psycopg.OperationalError("server closed the connection unexpectedly (sweep)")
    if kind == "timeout":
        return psycopg.errors.QueryCanceled("canceling statement due to statement timeout (sweep)")
    return psycopg.errors.InsufficientPrivilege("permission denied (sweep)")


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
