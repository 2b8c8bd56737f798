"""The state of verify between runs, and the listing it works on: one SQLite file beside the node's index.

It holds hashes, pseudonyms, names of records and times. Losing it only makes the next run start from the beginning.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from backupd.errors import ConfigError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RepositoryId, SnapshotName
from backupd.planning.verify import ContainerKey, Stored
from backupd.repository import layout
from backupd.store.base import ObjectInfo

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checked (what TEXT, segment TEXT, sha256 TEXT, at REAL, PRIMARY KEY (what, segment, sha256))
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS repository (id TEXT NOT NULL);
CREATE TEMP TABLE listed (generation TEXT, segment TEXT, sha256 TEXT, kind TEXT, name TEXT, size INTEGER);
"""

_A_COMMIT = 1000
"""Checks written in one transaction: each commit waits for the disk."""

READ, CONTENT = "read", "content"
"""Kinds of checks: `read` of a container's bytes, `content` of a part's rows against its manifest."""


class CheckedState:
    """The state of one repository on one store. A context manager, for one thread."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it. Raises ConfigError when it cannot be used."""
        self._waiting = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = sqlite3.connect(path, isolation_level=None)
            # The listing may be larger than memory should hold; it goes to a temporary file.
            self._database.executescript("PRAGMA temp_store = FILE;" + _SCHEMA)
            self._database.execute("BEGIN")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"'{path}' cannot be used: {error}", hint="Remove it; it is only a memory.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Also after an error: what passed, passed.
        self._database.execute("COMMIT")
        self._database.close()

    def belong_to(self, repository: RepositoryId) -> None:
        """Forget everything when the state is of another repository: the store was set up again."""
        if self._database.execute("SELECT id FROM repository").fetchall() != [(repository,)]:
            for table in ("checked", "records", "repository"):
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608  # one of three constants
            self._database.execute("INSERT INTO repository VALUES (?)", (repository,))

    def take_listing(self, found: Iterable[ObjectInfo]) -> list[ObjectInfo]:
        """Store a listing's packs and parts, and return its other objects."""
        others: list[ObjectInfo] = []

        def containers() -> Iterable[tuple[object, ...]]:
            for info in found:
                place = layout.place_of(info.name)
                if place.kind in (layout.ObjectKind.PACK, layout.ObjectKind.PART):
                    yield place.generation, place.segment, place.sha256, place.kind.value, info.name, info.size
                else:
                    others.append(info)

        self._database.executemany("INSERT INTO listed VALUES (?, ?, ?, ?, ?, ?)", containers())
        self._database.execute("CREATE INDEX temp.listed_by_generation ON listed (generation)")
        return others

    def generations(self) -> list[GenerationId]:
        """List the generations of the containers in the listing."""
        rows = self._database.execute("SELECT DISTINCT generation FROM listed ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def listed(self, generation: GenerationId) -> tuple[dict[ContainerKey, Stored], list[tuple[ContainerKey, Stored]]]:
        """Return a generation's containers, and those that stand there twice, under the other extension, too."""
        stored: dict[ContainerKey, Stored] = {}
        twins: list[tuple[ContainerKey, Stored]] = []
        rows = self._database.execute(
            "SELECT segment, sha256, kind, name, size FROM listed WHERE generation = ? ORDER BY name", (generation,)
        )
        for segment, sha256, kind, name, size in rows:
            key, place = ContainerKey(Pseudonym(segment), ObjectHash(sha256)), Stored(ObjectName(name), kind, size)
            if stored.setdefault(key, place) is not place:
                twins.append((key, place))
        return stored, twins

    def times(self, what: str, segments: Iterable[Pseudonym]) -> dict[ContainerKey, float]:
        """Return when containers of these segments last passed a check, in seconds since 1970."""
        return {
            ContainerKey(segment, ObjectHash(sha256)): at
            for segment in dict.fromkeys(segments)
            for sha256, at in self._database.execute(
                "SELECT sha256, at FROM checked WHERE what = ? AND segment = ?", (what, segment)
            )
        }

    def remember(self, what: str, key: ContainerKey, at: float) -> None:
        """Note that a container passed a check at `at`, in seconds since 1970."""
        self._database.execute("INSERT OR REPLACE INTO checked VALUES (?, ?, ?, ?)", (what, *key, at))
        self._waiting += 1
        if self._waiting == _A_COMMIT:
            self._waiting = 0
            self._database.execute("COMMIT")
            self._database.execute("BEGIN")

    def forget(self, what: str, key: ContainerKey) -> None:
        """Forget that a container passed a check, because it failed now: the next run begins with it."""
        self._database.execute("DELETE FROM checked WHERE (what, segment, sha256) = (?, ?, ?)", (what, *key))

    def records(self) -> set[SnapshotName]:
        """Return every record that an earlier run saw."""
        return {SnapshotName(row[0]) for row in self._database.execute("SELECT name FROM records")}

    def remember_records(self, names: Iterable[SnapshotName]) -> None:
        """Note records that this run saw."""
        self._database.executemany("INSERT OR IGNORE INTO records VALUES (?)", ((name,) for name in names))
