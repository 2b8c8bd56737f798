"""A keeper's cache of one store's keyring indexes and pack headers: segments by tenant, and packs by segment. SQLite.

Mostly unchanging facts are stored (a keyring's signed index, a pack's clear header), so finding one tenant among ten
thousand costs only the reading of new objects. Losing the file costs reading everything once more. It holds tags and
hashes, and no name and no key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, DamageError, RefusedError
from backupd.model.ids import (
    ClassTag,
    Fingerprint,
    GenerationId,
    ObjectName,
    Pseudonym,
    RepositoryId,
    SegmentTags,
    SnapshotName,
    TenantTag,
)
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.repository.state.index_file import unusable_memory
from backupd.repository.state.pack_cache import PACK_TABLES, PackCache

if TYPE_CHECKING:
    from backupd.repository.repository import Repository
    from backupd.seal.keyring import Keyring
    from backupd.seal.tags import TenantTags

_FORM = 8
_REMEMBERED = 16
"""Generations kept that left the store and may still be in its own snapshots."""
_SEGMENTS = """(
  generation TEXT NOT NULL, pseudonym TEXT NOT NULL, tenant TEXT NOT NULL, class TEXT NOT NULL, keyring TEXT NOT NULL,
  forged INTEGER NOT NULL, PRIMARY KEY (generation, pseudonym, keyring)) WITHOUT ROWID;
"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS repository (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS keyrings (name TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (name TEXT PRIMARY KEY, after REAL, believed INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looked (at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS early (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed (name TEXT PRIMARY KEY, earlier TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments {_SEGMENTS}
CREATE TABLE IF NOT EXISTS gone {_SEGMENTS}
CREATE TABLE IF NOT EXISTS sealed (keyring TEXT PRIMARY KEY, recipients TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lost (keyring TEXT, pseudonym TEXT, PRIMARY KEY (keyring, pseudonym)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_tenant ON segments (generation, tenant);
CREATE INDEX IF NOT EXISTS by_keyring ON segments (keyring);
{PACK_TABLES}
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
    """The cache of one repository on one store. For one thread.

    A listing whose pseudonym is not that of its tags is a forgery: nothing is found by its tags.
    """

    def __init__(self, database: sqlite3.Connection, tags: TenantTags) -> None:
        self._database = database
        self._tags = tags
        self.packs = PackCache(database)

    @classmethod
    @contextmanager
    def opened(cls, path: Path, repository: RepositoryId, tags: TenantTags) -> Iterator[KeyringCache]:
        """Open the cache in `path`; a damaged one, or one of another form or repository, is replaced by an empty one.

        Each listing is compared with `tags`.

        Raises `unusable_memory` when the file cannot be used.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                database = _connected(path, repository)
            except sqlite3.DatabaseError:
                path.unlink(missing_ok=True)
                database = _connected(path, repository)
        except (OSError, sqlite3.Error) as error:
            raise unusable_memory(path, error) from error
        with closing(database):
            yield cls(database, tags)

    def refresh(
        self, repository: Repository, unsound: dict[ObjectName, BackupdError] | None = None, threads: int = 1
    ) -> list[ObjectName]:
        """Read the new keyrings, `threads` at once, forget the missing ones, and return the names of those that lost
        lines.

        A keyring lost lines, by our doing or somebody else's, when its size has changed, or when the first reading
        shows shredded keys. A keyring that cannot be believed is put into `unsound`, and read again the next time;
        without `unsound`, it raises DamageError or RefusedError.
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
        for name, read in in_parallel(repository.keyring, sorted(listed.keys() - known.keys()), threads):
            try:
                keyring = read.result()
            except (DamageError, RefusedError) as error:
                if unsound is None:
                    raise
                unsound[name] = error
                continue
            if keyring.shredded:
                shrunk.append(name)
            # An impossible size, so that it counts as changed until the caller has dealt with the missing lines.
            self.note(keyring, 0 if keyring.shredded else listed[name])
        return sorted(shrunk)

    def note(self, keyring: Keyring, size: int) -> None:
        """Store the index of a keyring that stands on the store with `size` bytes."""
        generation = keyring.ids.generation
        rows = [
            (
                generation,
                segment,
                tags.tenant,
                tags.data_class,
                keyring.where,
                self._is_forged(generation, segment, tags),
            )
            for segment, tags in keyring.index
        ]
        with self._database:
            self._database.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?)", rows)
            self._database.execute("INSERT OR REPLACE INTO keyrings VALUES (?, ?)", (keyring.where, size))
            sealed = keyring.where, " ".join(sorted(keyring.wraps))
            self._database.execute("INSERT OR REPLACE INTO sealed VALUES (?, ?)", sealed)
            self._database.execute("DELETE FROM lost WHERE keyring = ?", (keyring.where,))
            lost = ((keyring.where, segment) for segment in keyring.shredded)
            self._database.executemany("INSERT INTO lost VALUES (?, ?)", lost)

    def has_seen(self, name: ObjectName) -> bool:
        """Check whether this is the name of a keyring or pack that was read in its place."""
        place = layout.place_of(name)
        if place.generation is not None and place.sha256 is not None:
            return self.packs.header(place.generation, place.sha256) is not None
        return self._database.execute("SELECT 1 FROM keyrings WHERE name = ?", (name,)).fetchone() is not None

    def lost(self, keyring: ObjectName) -> set[Pseudonym]:
        """Return the segments whose keys a keyring had lost when it was last stored."""
        rows = self._database.execute("SELECT pseudonym FROM lost WHERE keyring = ?", (keyring,))
        return {Pseudonym(row[0]) for row in rows}

    def recipients(self, keyring: ObjectName) -> frozenset[Fingerprint] | None:
        """Return the recipients that a keyring was sealed to when it was last stored; None when unknown."""
        row = self._database.execute("SELECT recipients FROM sealed WHERE keyring = ?", (keyring,)).fetchone()
        return None if row is None else frozenset(Fingerprint(one) for one in row[0].split())

    def generations(self) -> list[GenerationId]:
        """List the generations that have a keyring, oldest first."""
        rows = self._database.execute("SELECT DISTINCT generation FROM segments ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def of_tenant(self, generation: GenerationId, tag: TenantTag) -> list[CachedSegment]:
        """List the segments of a tenant's tag in a generation, once for each keyring; no forgeries."""
        return self._segments("segments", "generation = ? AND tenant = ? AND NOT forged", generation, tag)

    def gone_generations(self) -> list[GenerationId]:
        """List the newest generations of which keyrings left the store, oldest first; at most 16 are kept."""
        rows = self._database.execute("SELECT DISTINCT generation FROM gone ORDER BY generation")
        return [GenerationId(row[0]) for row in rows]

    def gone_of_tenant(self, generation: GenerationId, tag: TenantTag) -> list[CachedSegment]:
        """List the segments of a tenant's tag in keyrings that left the store; no forgeries."""
        return self._segments("gone", "generation = ? AND tenant = ? AND NOT forged", generation, tag)

    def classes(self, generation: GenerationId) -> dict[Pseudonym, ClassTag]:
        """Return the class of every segment of a generation that a keyring lists; no forgeries."""
        rows = self._database.execute(
            "SELECT DISTINCT pseudonym, class FROM segments WHERE generation = ? AND NOT forged", (generation,)
        )
        return {Pseudonym(segment): ClassTag(tag) for segment, tag in rows}

    def find(self, segments: Iterable[tuple[GenerationId, Pseudonym]]) -> list[CachedSegment]:
        """List those of the given segments that keyrings on the store list, forgeries included.

        What is to lose its keys loses them wherever they stand, also where somebody put other tags beside them.
        """
        return [
            found
            for generation, segment in segments
            for found in self._segments("segments", "generation = ? AND pseudonym = ?", generation, segment)
        ]

    def forgeries(self) -> list[CachedSegment]:
        """List the listings on the store whose pseudonym is not that of the tags beside it."""
        return self._segments("segments", "forged")

    def strangers(self) -> list[CachedSegment]:
        """List those of the forgeries whose segment no keyring on the store lists beside its own tags: nobody knows
        whose they are.
        """
        known = "SELECT 1 FROM segments own WHERE NOT own.forged AND own.generation = segments.generation"
        return self._segments("segments", f"forged AND NOT EXISTS ({known} AND own.pseudonym = segments.pseudonym)")

    def records(self) -> set[SnapshotName]:
        """Return the records that were on the store the last time, and that could be believed at least once."""
        return {SnapshotName(row[0]) for row in self._database.execute("SELECT name FROM records WHERE believed")}

    def note_records(
        self, names: Collection[SnapshotName], believed: Mapping[SnapshotName, Sequence[SnapshotName]]
    ) -> None:
        """Store the names of all records on the store, in place of the earlier ones, and those that can be believed
        now, each with the records that it follows.

        A new one came after the last look noted with `note_look`.
        """
        with self._database:
            gone = {name for (name,) in self._database.execute("SELECT name FROM records")} - set(names)
            self._database.executemany("DELETE FROM records WHERE name = ?", ((name,) for name in gone))
            self._database.executemany(
                "INSERT OR IGNORE INTO records VALUES (?, (SELECT max(at) FROM looked), 0)", ((name,) for name in names)
            )
            self._database.executemany("UPDATE records SET believed = 1 WHERE name = ?", ((name,) for name in believed))
            self._database.executemany(
                "INSERT OR IGNORE INTO followed VALUES (?, ?)",
                ((name, " ".join(one)) for name, one in believed.items()),
            )
            # A name begins with its time. Those before the oldest that is there lead nowhere.
            self._database.execute("DELETE FROM followed WHERE name < (SELECT min(name) FROM records)")

    def followed(self) -> dict[SnapshotName, tuple[SnapshotName, ...]]:
        """Return each record that was ever believed here, with those that it follows; very old ones are forgotten."""
        rows = self._database.execute("SELECT name, earlier FROM followed")
        return {SnapshotName(name): tuple(map(SnapshotName, earlier.split())) for name, earlier in rows}

    def early(self) -> set[SnapshotName]:
        """Return the records that were on the store before their own export, at any of the keeper's looks."""
        return {SnapshotName(name) for (name,) in self._database.execute("SELECT name FROM early")}

    def note_look(self, at: datetime, early: Iterable[SnapshotName]) -> None:
        """Remember that every record that was on the store at this instant has been noted, and which were `early`.

        Only of an instant that was compared with the store's clock.
        """
        with self._database:
            self._database.executemany("INSERT OR IGNORE INTO early VALUES (?)", ((name,) for name in early))
            self._database.execute("DELETE FROM early WHERE name NOT IN (SELECT name FROM records)")
            self._database.execute("DELETE FROM looked")
            self._database.execute("INSERT INTO looked VALUES (?)", (at.timestamp(),))

    def came_after(self) -> dict[SnapshotName, datetime]:
        """Return an instant for each record at which it was not on the store yet, where one is known.

        Unlike the time that the store shows, nobody but this keeper sets it.
        """
        rows = self._database.execute("SELECT name, after FROM records WHERE after IS NOT NULL")
        return {SnapshotName(name): datetime.fromtimestamp(after, UTC) for name, after in rows}

    def _is_forged(self, generation: GenerationId, segment: Pseudonym, tags: SegmentTags) -> bool:
        return self._tags.pseudonym(generation, tags) != segment

    def _segments(self, table: str, where: str, *values: str) -> list[CachedSegment]:
        rows = self._database.execute(
            f"SELECT generation, pseudonym, tenant, class, keyring FROM {table} WHERE {where}",  # noqa: S608  # constants
            values,
        )
        return [CachedSegment(*row) for row in rows]

    def _forget(self, name: str) -> None:
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO gone SELECT * FROM segments WHERE keyring = ?", (name,))
            self._database.execute("DELETE FROM segments WHERE keyring = ?", (name,))
            self._database.execute("DELETE FROM keyrings WHERE name = ?", (name,))
            self._database.execute("DELETE FROM sealed WHERE keyring = ?", (name,))
            self._database.execute("DELETE FROM lost WHERE keyring = ?", (name,))
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
