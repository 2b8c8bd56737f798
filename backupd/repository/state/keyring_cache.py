"""A keeper's memory of one store: whose segments there are, and what each part needs. SQLite.

Only what never changes is remembered (a keyring's signed index, a part's clear header), so that finding one tenant
among ten thousand costs what is new since the last time. Losing the file costs reading it all once more. It holds tags
and hashes, no name and no key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, ConfigError, DamageError, RefusedError
from backupd.model.ids import (
    ClassTag,
    Fingerprint,
    GenerationId,
    ObjectHash,
    ObjectName,
    Pseudonym,
    RepositoryId,
    SnapshotName,
    TenantTag,
)
from backupd.repository import layout

if TYPE_CHECKING:
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring

_FORM = 4
_REMEMBERED = 16
"""Generations that left the store, and may be in its own snapshots still."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS repository (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keyrings (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
  generation TEXT NOT NULL, pseudonym TEXT NOT NULL, tenant TEXT NOT NULL, class TEXT NOT NULL, keyring TEXT NOT NULL,
  PRIMARY KEY (generation, pseudonym, keyring)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone (
  generation TEXT NOT NULL, pseudonym TEXT NOT NULL, tenant TEXT NOT NULL, class TEXT NOT NULL, keyring TEXT NOT NULL,
  PRIMARY KEY (generation, pseudonym, keyring)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sealed (keyring TEXT PRIMARY KEY, recipients TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_tenant ON segments (generation, tenant);
CREATE TABLE IF NOT EXISTS parts (
  generation TEXT NOT NULL, pseudonym TEXT NOT NULL, sha256 TEXT NOT NULL, packs TEXT NOT NULL,
  PRIMARY KEY (generation, pseudonym, sha256)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class CachedSegment:
    """One segment as a keyring's index shows it."""

    generation: GenerationId
    pseudonym: Pseudonym
    tenant: TenantTag
    data_class: ClassTag
    keyring: ObjectName


class KeyringCache:
    """The memory of one repository on one store. For one thread."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    @contextmanager
    def opened(cls, path: Path, repository: RepositoryId) -> Iterator[KeyringCache]:
        """The memory in `path`; one that is damaged, of another form or another repository is begun anew.

        Raises ConfigError when the file cannot be used.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                database = _connected(path, repository)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                database = _connected(path, repository)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"'{path}' cannot be used: {error}", hint="Remove it; it is only a memory.") from error
        with closing(database):
            yield cls(database)

    def refresh(
        self, repository: Repository, unsound: dict[ObjectName, BackupdError] | None = None
    ) -> list[ObjectName]:
        """Read the keyrings that are new, forget those that are gone.

        Returns the names of those from which lines were removed since, by us or by somebody else: their size is not
        what it was, or they lack some at the first look. A keyring that cannot be believed is put into `unsound`, to be
        read again the next time; without that, it raises DamageError or RefusedError.
        """
        known = dict(self._database.execute("SELECT name, size FROM keyrings"))
        listed = {
            info.name: info.size
            for info in repository.store.list(layout.KEYRINGS)
            if layout.place_of(info.name).kind is layout.ObjectKind.KEYRING
        }
        for name in known.keys() - listed.keys():
            self._forget(name)
        shrunk = [name for name in known.keys() & listed.keys() if known[name] != listed[name]]
        for name in sorted(listed.keys() - known.keys()):
            try:
                keyring = repository.keyring(name)
            except (DamageError, RefusedError) as error:
                if unsound is None:
                    raise
                unsound[name] = error
                continue
            if keyring.shredded:
                shrunk.append(name)
            # Of a size it cannot have, until whoever asks has looked at what is missing.
            self.note(keyring, 0 if keyring.shredded else listed[name])
        return sorted(shrunk)

    def note(self, keyring: Keyring, size: int) -> None:
        """Remember a keyring as it stands on the store with `size` bytes."""
        rows = [
            (keyring.ids.generation, pseudonym, tags.tenant, tags.data_class, keyring.where)
            for (pseudonym, _), tags in zip(keyring.index, keyring.tags, strict=True)
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?)", rows)
            self._database.execute("INSERT OR REPLACE INTO keyrings VALUES (?, ?)", (keyring.where, size))
            sealed = keyring.where, " ".join(sorted(keyring.wraps))
            self._database.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", sealed)

    def recipients(self, keyring: ObjectName) -> frozenset[Fingerprint] | None:
        """Whom a keyring was sealed to when it was last noted; None: nobody knows."""
        row = self._database.execute("SELECT recipients FROM sealed WHERE keyring = ?", (keyring,)).fetchone()
        return None if row is None else frozenset(Fingerprint(one) for one in row[0].split())

    def generations(self) -> list[GenerationId]:
        """Those with a keyring, oldest first."""
        rows = self._database.execute("SELECT DISTINCT generation FROM segments ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def of_tenant(self, generation: GenerationId, tag: TenantTag) -> list[CachedSegment]:
        """The segments one tag stands for."""
        return self._segments("generation = ? AND tenant = ?", generation, tag)

    def gone_generations(self) -> list[GenerationId]:
        """Those whose keyrings left the store, oldest first; the newest ones only."""
        rows = self._database.execute("SELECT DISTINCT generation FROM gone ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def gone_of_tenant(self, generation: GenerationId, tag: TenantTag) -> list[CachedSegment]:
        """The segments one tag stood for, in keyrings that left the store."""
        rows = self._database.execute(
            "SELECT generation, pseudonym, tenant, class, keyring FROM gone WHERE generation = ? AND tenant = ?",
            (generation, tag),
        )
        return [CachedSegment(*row) for row in rows]

    def of_generation(self, generation: GenerationId) -> list[CachedSegment]:
        return self._segments("generation = ?", generation)

    def find(self, segments: Iterable[tuple[GenerationId, Pseudonym]]) -> list[CachedSegment]:
        """Those of these segments that a keyring on the store lists."""
        return [
            found
            for generation, pseudonym in segments
            for found in self._segments("generation = ? AND pseudonym = ?", generation, pseudonym)
        ]

    def records(self) -> set[SnapshotName]:
        """The records that were there the last time."""
        return {SnapshotName(row[0]) for row in self._database.execute("SELECT name FROM records")}

    def note_records(self, names: Iterable[SnapshotName]) -> None:
        """These are there now, and no others."""
        with self._database:
            self._database.execute("DELETE FROM records")
            self._database.executemany("INSERT INTO records VALUES (?)", ((name,) for name in names))

    def packs(self, generation: GenerationId, segment: Pseudonym) -> dict[ObjectHash, tuple[ObjectHash, ...]]:
        """What the headers of a segment's known parts name."""
        rows = self._database.execute(
            "SELECT sha256, packs FROM parts WHERE generation = ? AND pseudonym = ?", (generation, segment)
        )
        return {ObjectHash(part): tuple(ObjectHash(pack) for pack in packs.split()) for part, packs in rows}

    def note_parts(
        self, generation: GenerationId, parts: Iterable[tuple[Pseudonym, ObjectHash, Sequence[ObjectHash]]]
    ) -> None:
        with self._database:
            self._database.executemany(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)",
                ((generation, segment, part, " ".join(packs)) for segment, part, packs in parts),
            )

    def forget_parts(self, generation: GenerationId, parts: Iterable[tuple[Pseudonym, ObjectHash]]) -> None:
        with self._database:
            self._database.executemany(
                "DELETE FROM parts WHERE generation = ? AND pseudonym = ? AND sha256 = ?",
                ((generation, *part) for part in parts),
            )

    def _segments(self, where: str, *values: str) -> list[CachedSegment]:
        rows = self._database.execute(
            f"SELECT generation, pseudonym, tenant, class, keyring FROM segments WHERE {where}",  # noqa: S608  # constants
            values,
        )
        return [CachedSegment(*row) for row in rows]

    def _forget(self, name: str) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO gone SELECT * FROM segments WHERE keyring = ?", (name,))
            self._database.execute("DELETE FROM segments WHERE keyring = ?", (name,))
            self._database.execute("DELETE FROM keyrings WHERE name = ?", (name,))
            self._database.execute("DELETE FROM sealed WHERE keyring = ?", (name,))
            self._database.execute(
                "DELETE FROM gone WHERE generation NOT IN "
                "(SELECT DISTINCT generation FROM gone ORDER BY generation DESC LIMIT ?)",
                (_REMEMBERED,),
            )


def _connected(path: Path, repository: RepositoryId) -> sqlite3.Connection:
    database = sqlite3.connect(path)
    try:
        path.chmod(0o600)
        _prepare(database, repository)
    except BaseException:
        database.close()
        raise
    return database


def _prepare(database: sqlite3.Connection, repository: RepositoryId) -> None:
    if database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
        database.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORM}")
        with database:
            database.execute("INSERT INTO repository VALUES (?)", (repository,))
    if database.execute("PRAGMA user_version").fetchone() != (_FORM,):
        raise sqlite3.DatabaseError("of another form")
    database.executescript(_SCHEMA)
    if database.execute("SELECT id FROM repository").fetchall() != [(repository,)]:
        raise sqlite3.DatabaseError("of another repository")
