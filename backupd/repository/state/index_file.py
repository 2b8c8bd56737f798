"""The SQLite file of the node's index: its tables, its one connection, its lock, and the handling of damage.

`backupd manual trust`, row *state folders: index, copies of ledgers*, says who can write this, and what is checked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backupd.errors import BackupdError, BusyError, ConfigError, SpoolFullError
from backupd.trace import Trace, Warned

INDEX = "index.sqlite"
"""Name of the file in the state folder of a region and store."""
_FORM = 4
"""Version of the tables below, stored as SQLite's user_version: an index of another form is not read."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS generation (
  id TEXT NOT NULL, repository TEXT NOT NULL, chunk_key BLOB NOT NULL, started TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
  pseudonym TEXT PRIMARY KEY, number INTEGER NOT NULL, digest BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS packs (id INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sections (
  id INTEGER PRIMARY KEY, pack INTEGER NOT NULL, place INTEGER NOT NULL, pseudonym TEXT NOT NULL,
  number INTEGER NOT NULL, length INTEGER NOT NULL, ids BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_segment ON sections (pseudonym, number);
CREATE INDEX IF NOT EXISTS by_pack ON sections (pack, place);
CREATE TABLE IF NOT EXISTS chunks (
  id BLOB PRIMARY KEY, section INTEGER NOT NULL, chunk INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keyrings (run TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tables (tag BLOB PRIMARY KEY, mask INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS definitions (tag BLOB PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numberings (list BLOB PRIMARY KEY, numbers BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS records (
  name TEXT PRIMARY KEY, generation TEXT NOT NULL, place INTEGER NOT NULL, published INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tenant_keys (tag BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS recipients (fingerprint TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS grids (tag BLOB PRIMARY KEY, blocks INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (database BLOB PRIMARY KEY, base BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS extents (place BLOB PRIMARY KEY, database BLOB NOT NULL, spans BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS extents_read (place BLOB PRIMARY KEY, database BLOB NOT NULL, spans BLOB);
CREATE TABLE IF NOT EXISTS snapshots (database BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audits (label TEXT PRIMARY KEY, audited REAL NOT NULL, distrusted INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS last_unread (label TEXT PRIMARY KEY, bytes INTEGER NOT NULL, reason TEXT NOT NULL);
"""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class IndexDamagedError(sqlite3.DatabaseError):
    """The error of a file that is no index, or not one that can be trusted."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class IndexFile:
    """One open index file. Safe for several threads; worker processes read the file at the same time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it with empty tables. Raises sqlite3.Error, IndexDamagedError among them."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self.lock = threading.RLock()
        self.database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            path.chmod(0o600)
            self.database.execute("PRAGMA journal_mode = WAL")
            self.database.execute("PRAGMA synchronous = NORMAL")
            self.database.execute("PRAGMA secure_delete = ON")  # what is forgotten of a purged tenant is overwritten
            self.database.execute("PRAGMA cache_size = -8192")
            self._check()
            self.database.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORM}")
        except BaseException:
            self.database.close()
            raise

    def _check(self) -> None:
        (form,) = self.row("PRAGMA user_version") or (0,)
        if form != _FORM and self.row("SELECT 1 FROM sqlite_schema") is not None:
            raise IndexDamagedError("another form")
        if self.row("PRAGMA quick_check(1)") != ("ok",):
            raise IndexDamagedError("inconsistent")

    def close(self) -> None:
        """Close the connection; the file stays."""
        self.database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that the block changes together, or nothing of it when the block raises."""
        with self.lock:
            self.database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.database.execute("COMMIT")
            except BaseException:
                if self.database.in_transaction:  # SQLite itself ends it for some faults, a full disk among them
                    self.database.execute("ROLLBACK")
                raise

    def row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row that a statement gives; None when it gives none."""
        with self.lock:
            row: tuple[Any, ...] | None = self.database.execute(statement, values).fetchone()
        return row

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows that a statement gives."""
        with self.lock:
            return self.database.execute(statement, values).fetchall()

    def write(self, statement: str, *values: object) -> None:
        """Run one statement that changes the file, and commit it unless a transaction is open."""
        with self.lock:
            self.database.execute(statement, values)


_NUMBERS = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_READONLY: errno.EROFS,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
"""What the system calls the faults of a disk that SQLite reports."""


def unusable_folder(error: OSError) -> BackupdError:
    """Return the error that says why a state folder cannot be used: its disk, which may be well later, or its owner."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFullError(
            "the state folder cannot be used: its disk has no room, or no inode, for a file",
            hint="Make room on the disk that holds node.state_dir.",
        )
    if error.errno in (errno.EROFS, errno.EIO, errno.ESTALE):
        return BackupdError(
            f"the state folder cannot be used: {(error.strerror or 'its disk fails').lower()}",
            hint="Look at the disk that holds node.state_dir: it fails, or is mounted so that nobody can write.",
        )
    return ConfigError(
        f"the state folder cannot be used ({error.strerror})", hint="Check node.state_dir and its owner."
    )


def unusable_memory(path: Path, error: OSError | sqlite3.Error) -> BackupdError:
    """Return the error that says why a file of what was seen before cannot be used: its disk, or itself."""
    if isinstance(error, sqlite3.Error):
        number = _NUMBERS.get(_code(error))
        fault = OSError(number, os.strerror(number)) if number is not None else None
    else:
        fault = error
    if fault is not None and not isinstance(found := unusable_folder(fault), ConfigError):
        return found
    return ConfigError(f"'{path}' cannot be used: {error}", hint="Remove it; it is only a memory.")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock file of a state folder, which is created when missing, until the block ends.

    Raises BusyError while another process holds it, `unusable_folder` when the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable_folder(error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError("another backup of this region to this store is running on this node") from None
        yield
    finally:
        os.close(lock)


def set_aside(path: Path, trace: Trace) -> None:
    """Rename a damaged index out of the way, remove its journals, and emit a warning."""
    aside = path.with_name("index.damaged.sqlite")
    path.replace(aside)
    for journal in ("-wal", "-shm"):
        path.with_name(path.name + journal).unlink(missing_ok=True)
    trace.emit(
        Warned(
            f"the node's index is damaged, or of another version; it was set aside as '{aside.name}'",
            hint="This run sends everything again, into a new generation. Check the disk of node.state_dir.",
        )
    )


def is_damage(error: sqlite3.Error) -> bool:
    """Check whether an error means that the file is damaged or no database at all."""
    return _code(error) in _DAMAGED


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary code; 0 for errors that Python's module itself raises."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn SQLite's errors in the block into SpoolFullError for a full disk, and into BackupdError for the others."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _code(error) == sqlite3.SQLITE_FULL:
            raise SpoolFullError(
                "the disk of the node's index is full", hint="Make room on the disk that holds node.state_dir."
            ) from None
        if is_damage(error):
            raise BackupdError(
                "the node's index is damaged", hint="The next run sets it aside and starts a new generation."
            ) from None
        raise BackupdError(
            f"the node's index cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})",
            hint="Check node.state_dir and its disk: room, inodes, and whether it can be written.",
        ) from None
