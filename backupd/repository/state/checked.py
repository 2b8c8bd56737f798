"""The state of verify between runs, and the listing it works on: one SQLite file beside the node's index.

It holds hashes, names of records and times. Losing it only makes the next run start from the beginning. Two runs may
have it open at once: each writes in short transactions only, and waits for the other's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from backupd.model.ids import GenerationId, ObjectHash, RepositoryId, SnapshotName
from backupd.repository import layout
from backupd.repository.state.index_file import is_damage, unusable_memory
from backupd.store.base import ObjectInfo

_SCHEMA = """
CREATE TABLE IF NOT EXISTS passed (what TEXT, generation TEXT, sha256 TEXT, at REAL,
  PRIMARY KEY (what, generation, sha256)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repository (id TEXT NOT NULL);
CREATE TEMP TABLE listed (generation TEXT, sha256 TEXT, size INTEGER);
"""

_A_COMMIT = 1000
"""Checks written in one transaction: each commit waits for the disk."""
_PATIENCE = 60.0
"""Seconds to wait for another run's transaction."""

READ, CONTENT = "read", "content"
"""Kinds of checks: `read` of a pack's sections, `content` of what a manifest refers to; a manifest is called by the
SHA-256 of its section."""


class CheckedState:
    """The state of one repository on one store. A context manager, for one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it; a damaged one is replaced. Raises `unusable_memory` when it cannot
        be used.
        """
        self._failed = False
        self._waiting: list[tuple[str, tuple[object, ...]]] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._database = _connected(path)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                path.unlink()
                self._database = _connected(path)
        except (OSError, sqlite3.Error) as error:
            raise unusable_memory(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._failed:
                self._write()  # also after an error: what passed, passed
        finally:
            self._database.close()

    def belong_to(self, repository: RepositoryId) -> None:
        """Forget everything when the state is of another repository: the store was set up again."""
        if self._database.execute("SELECT id FROM repository").fetchall() != [(repository,)]:
            deleting = [(f"DELETE FROM {table}", ()) for table in ("passed", "records", "repository")]  # noqa: S608  # one of three constants
            self._write([*deleting, ("INSERT INTO repository VALUES (?)", (repository,))])

    def take_listing(self, found: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        """Store a listing's packs, and return its other objects."""
        others: list[ObjectInfo] = []

        def packs() -> Iterable[tuple[object, ...]]:
            for info in found:
                place = layout.place_of(info.name)
                if place.kind is layout.ObjectKind.PACK:
                    yield place.generation, place.sha256, info.size
                else:
                    others.append(info)

        self._database.execute("BEGIN")  # of a table that nobody else sees: it locks nothing
        self._database.executemany("INSERT INTO listed VALUES (?, ?, ?)", packs())
        self._database.execute("CREATE INDEX temp.listed_by_generation ON listed (generation)")
        self._database.execute("COMMIT")
        return others

    def generations(self) -> list[GenerationId]:
        """List the generations of the packs in the listing."""
        rows = self._database.execute("SELECT DISTINCT generation FROM listed ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def listed(self, generation: GenerationId) -> dict[ObjectHash, int]:
        """Return a generation's packs with their sizes in bytes."""
        rows = self._database.execute(
            "SELECT sha256, size FROM listed WHERE generation = ? ORDER BY sha256", (generation,)
        )
        return {ObjectHash(sha256): size for sha256, size in rows}

    def times(self, what: str, generation: GenerationId) -> dict[ObjectHash, float]:
        """Return when packs or manifests of a generation last passed a check, in seconds since 1970."""
        self._write()
        rows = self._database.execute(
            "SELECT sha256, at FROM passed WHERE what = ? AND generation = ?", (what, generation)
        )
        return {ObjectHash(sha256): at for sha256, at in rows}

    def remember(self, what: str, generation: GenerationId, sha256: ObjectHash, at: float) -> None:
        """Note that something passed a check at `at`, in seconds since 1970."""
        self._later("INSERT OR REPLACE INTO passed VALUES (?, ?, ?, ?)", (what, generation, sha256, at))

    def forget(self, what: str, generation: GenerationId, sha256: ObjectHash) -> None:
        """Forget that something passed a check, because it failed now: the next run begins with it."""
        self._later("DELETE FROM passed WHERE (what, generation, sha256) = (?, ?, ?)", (what, generation, sha256))

    def records(self) -> set[SnapshotName]:
        """Return every record that an earlier run saw."""
        return {SnapshotName(row[0]) for row in self._database.execute("SELECT name FROM records")}

    def remember_records(self, names: Iterable[SnapshotName]) -> None:
        """Note records that this run saw."""
        self._write([("INSERT OR IGNORE INTO records VALUES (?)", (name,)) for name in names])

    def _later(self, sql: str, values: tuple[object, ...]) -> None:
        self._waiting.append((sql, values))
        if len(self._waiting) == _A_COMMIT:
            self._write()

    def _write(self, more: Iterable[tuple[str, tuple[object, ...]]] = ()) -> None:
        """Write what waits, and more, in one transaction of its own."""
        statements = [*self._waiting, *more]
        if not statements:
            return
        self._failed = True  # unless it comes to its end: of one that did not, the next could not even begin
        self._database.execute("BEGIN IMMEDIATE")
        for sql, values in statements:
            self._database.execute(sql, values)
        self._database.execute("COMMIT")
        self._failed = False
        self._waiting.clear()


def _connected(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        # The listing may be larger than memory should hold; it goes to a temporary file.
        database.executescript("PRAGMA temp_store = FILE;" + _SCHEMA)
    except BaseException:
        database.close()
        raise
    return database
