"""The node's memory of a generation on one store: which chunks, segments and keyrings it has put there. SQLite.

It is a cache with one rule: a row about an object is committed only after the object was published, so whatever
it says exists did exist. Losing the file costs a new generation, nothing else. It holds no name and no secret half:
segments are found by a keyed tag, private halves only sealed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import BackupdError, BusyError, ConfigError, SpoolFullError
from backupd.model.ids import Fingerprint, GenerationId, ObjectHash, Pseudonym, RepositoryId, RunId, SnapshotName
from backupd.trace import NoTrace, Trace, Warned

_FORM = 2
"""Of the tables below, as SQLite's user_version: an index of another form is not read."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS generation (
  id TEXT NOT NULL, repository TEXT NOT NULL, chunk_key BLOB NOT NULL, started TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
  tag BLOB PRIMARY KEY, pseudonym TEXT NOT NULL UNIQUE, public BLOB NOT NULL, guard BLOB NOT NULL, run TEXT NOT NULL,
  part INTEGER, part_digest BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS containers (
  number INTEGER PRIMARY KEY, pseudonym TEXT NOT NULL, sha256 TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
  ids BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS chunks (
  id BLOB PRIMARY KEY, container INTEGER NOT NULL, chunk INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keyrings (
  run TEXT PRIMARY KEY, head BLOB NOT NULL, published INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entries (
  run TEXT NOT NULL, place INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (run, place)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tables (tag BLOB PRIMARY KEY, mask INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
  name TEXT PRIMARY KEY, generation TEXT NOT NULL, place INTEGER NOT NULL, published INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (seq INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS recipients (fingerprint TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_TOGETHER = 256
"""New segments written in one transaction: most of the time of one goes into its end."""
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@dataclass(frozen=True, slots=True)
class Generation:
    id: GenerationId
    repository: RepositoryId
    chunk_key: bytes
    started: str
    recipients: frozenset[Fingerprint]
    """Whom its keyrings are sealed to."""

    def __repr__(self) -> str:
        return f"Generation({self.id})"


@dataclass(frozen=True, slots=True)
class KnownSegment:
    pseudonym: Pseudonym
    part: int | None
    """Number of its newest part, if it has one."""
    part_digest: bytes | None
    """Keyed digest of what that part says."""


@dataclass(frozen=True, slots=True)
class KeyringPlace:
    """A segment's entry in the keyring of the run that made it."""

    run: RunId
    entry: bytes


@dataclass(frozen=True, slots=True)
class IndexedContainer:
    number: int
    pseudonym: Pseudonym
    sha256: ObjectHash
    size: int


class IndexDamagedError(sqlite3.DatabaseError):
    """The file is no index, or not one that can be trusted."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


class Index:
    """One generation's index. Safe for several threads; worker processes read the file at the same time."""

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.Error, IndexDamagedError among them."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._lock = threading.RLock()
        self._coming: dict[Pseudonym, tuple[bytes, bytes, KeyringPlace]] = {}
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            path.chmod(0o600)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("PRAGMA secure_delete = ON")  # the sealed keys among what goes are overwritten
            self._database.execute("PRAGMA cache_size = -8192")
            self._check()
            self._database.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORM}")
        except BaseException:
            self._database.close()
            raise

    def _check(self) -> None:
        (form,) = self._row("PRAGMA user_version") or (0,)
        if form != _FORM and self._row("SELECT 1 FROM sqlite_schema") is not None:
            raise IndexDamagedError("another form")
        if self._row("PRAGMA quick_check(1)") != ("ok",):
            raise IndexDamagedError("inconsistent")

    @classmethod
    @contextmanager
    def locked(cls, folder: Path, trace: Trace | None = None) -> Iterator[Index]:
        """The index in `folder`, held by this process alone; a damaged one is set aside, and an empty one begun.

        Raises BusyError while another backup holds it, ConfigError when the folder cannot be used, SpoolFullError when
        its disk is full. SQLite's errors inside the block leave it as BackupdErrors.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the state folder cannot be used ({error.strerror})", hint="Check node.state_dir and its owner."
            ) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise BusyError("another backup of this region to this store is running on this node") from None
            with _translated():
                index = cls._opened(folder / "index.sqlite", trace or NoTrace())
                try:
                    yield index
                finally:
                    index.close()
        finally:
            os.close(lock)

    @classmethod
    def _opened(cls, path: Path, trace: Trace) -> Index:
        try:
            return cls(path)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise
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
        return cls(path)

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or nothing."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # SQLite itself ends it for some faults, a full disk among them
                    self._database.execute("ROLLBACK")
                raise

    def generation(self) -> Generation | None:
        row = self._row("SELECT id, repository, chunk_key, started FROM generation")
        if row is None:
            return None
        with self._lock:
            rows = self._database.execute("SELECT fingerprint FROM recipients").fetchall()
        recipients = frozenset(Fingerprint(fingerprint) for (fingerprint,) in rows)
        return Generation(row[0], row[1], row[2], row[3], recipients)

    def begin(self, generation: Generation) -> None:
        """Start a generation and forget everything else, but for the names of records of the same repository."""
        known = self.generation()
        tables = ["generation", "segments", "containers", "chunks", "keyrings", "entries", "tables", "recipients"]
        if known is None or known.repository != generation.repository:
            tables.append("records")
        with self.transaction():
            for table in tables:
                self._database.execute(f"DELETE FROM {table}")  # noqa: S608 - names from the lines above
            self._database.execute(
                "INSERT INTO generation VALUES (?, ?, ?, ?)",
                (generation.id, generation.repository, generation.chunk_key, generation.started),
            )
            self._database.executemany("INSERT INTO recipients VALUES (?)", ((one,) for one in generation.recipients))

    def has_chunks(self) -> bool:
        return self._row("SELECT 1 FROM chunks LIMIT 1") is not None

    def segment(self, tag: bytes) -> KnownSegment | None:
        row = self._row("SELECT pseudonym, part, part_digest FROM segments WHERE tag = ?", tag)
        return None if row is None else KnownSegment(*row)

    def public(self, pseudonym: Pseudonym) -> bytes:
        """The public half of a segment's key.

        Raises IndexDamagedError when it is not the one that was stored: nobody could open what it seals.
        """
        with self._lock:
            if pseudonym in self._coming:
                self._settle()
            row = self._row("SELECT public, tag, guard FROM segments WHERE pseudonym = ?", pseudonym)
        if row is None or row[2] != _guard(row[1], pseudonym, row[0]):
            raise IndexDamagedError("a key was altered")
        return bytes(row[0])

    def add_segment(self, tag: bytes, pseudonym: Pseudonym, public: bytes, place: KeyringPlace) -> None:
        """Remember a new segment together with its keyring entry, so that its key cannot be lost without it.

        Many are written together, at the latest before `public` answers: before anything can be sealed with its key.
        `segment` does not know it until then.
        """
        with self._lock:
            self._coming[pseudonym] = (tag, public, place)
            if len(self._coming) >= _TOGETHER:
                self._settle()

    def _settle(self) -> None:
        """Write the segments that were added."""
        if not self._coming:
            return
        with self.transaction():
            for pseudonym, (tag, public, place) in self._coming.items():
                (number,) = self._row("SELECT coalesce(max(place) + 1, 0) FROM entries WHERE run = ?", place.run) or (
                    0,
                )
                self._database.execute(
                    "INSERT INTO segments (tag, pseudonym, public, guard, run) VALUES (?, ?, ?, ?, ?)",
                    (tag, pseudonym, public, _guard(tag, pseudonym, public), place.run),
                )
                self._database.execute("INSERT INTO entries VALUES (?, ?, ?)", (place.run, number, place.entry))
            self._coming.clear()

    def add_part(self, tag: bytes, part: IndexedContainer, ids: bytes, digest: bytes) -> None:
        """A segment's newest part, published; `digest` is of what it says."""
        with self.transaction():
            self._insert(part, ids)
            self._database.execute(
                "UPDATE segments SET part = ?, part_digest = ? WHERE tag = ?", (part.number, digest, tag)
            )

    def add_container(self, container: IndexedContainer, ids: bytes) -> None:
        """A published container and the 16-byte ids of its chunks, in order."""
        with self.transaction():
            self._insert(container, ids)

    def _insert(self, container: IndexedContainer, ids: bytes) -> None:
        rows = ((ids[i : i + 16], container.number, i // 16) for i in range(0, len(ids), 16))
        self._database.execute(
            "INSERT OR IGNORE INTO containers VALUES (?, ?, ?, ?, ?)",
            (container.number, container.pseudonym, container.sha256, container.size, ids),
        )
        self._database.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)", rows)

    def last_number(self) -> int:
        """The highest container number ever given; 0 when there is none."""
        row = self._row("SELECT coalesce(max(number), 0) FROM containers")
        return int(row[0]) if row else 0

    def containers(self, numbers: Sequence[int]) -> dict[int, IndexedContainer]:
        found: dict[int, IndexedContainer] = {}
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            marks = ",".join("?" * len(some))
            with self._lock:
                rows = self._database.execute(
                    f"SELECT number, pseudonym, sha256, size FROM containers WHERE number IN ({marks})",  # noqa: S608 - marks only
                    some,
                ).fetchall()
            found.update((row[0], IndexedContainer(*row)) for row in rows)
        return found

    def forget(self, numbers: Iterable[int]) -> None:
        """Containers the store no longer has: their chunks are new again."""
        with self.transaction():
            self._database.execute("CREATE TEMP TABLE lost (number INTEGER PRIMARY KEY)")
            self._database.executemany("INSERT INTO lost VALUES (?)", ((number,) for number in numbers))
            self._database.execute("DELETE FROM chunks WHERE container IN (SELECT number FROM lost)")
            self._database.execute("DELETE FROM containers WHERE number IN (SELECT number FROM lost)")
            self._database.execute(
                "UPDATE segments SET part = NULL, part_digest = NULL WHERE part IN (SELECT number FROM lost)"
            )
            self._database.execute("DROP TABLE lost")

    def forget_segments(self, pseudonyms: Iterable[Pseudonym]) -> None:
        """Segments that were purged: their tenants get new ones, if they come back."""
        with self.transaction():
            for pseudonym in pseudonyms:
                of_it = "(SELECT number FROM containers WHERE pseudonym = ?)"
                self._database.execute(f"DELETE FROM chunks WHERE container IN {of_it}", (pseudonym,))  # noqa: S608 - no input in it
                self._database.execute("DELETE FROM segments WHERE pseudonym = ?", (pseudonym,))
                self._database.execute("DELETE FROM containers WHERE pseudonym = ?", (pseudonym,))

    def drop_keyring(self, run: RunId) -> None:
        """A keyring that must not be published any more, with the segments whose keys only it has."""
        with self._lock:
            rows = self._database.execute("SELECT pseudonym FROM segments WHERE run = ?", (run,)).fetchall()
        self.forget_segments(Pseudonym(pseudonym) for (pseudonym,) in rows)
        with self.transaction():
            self._database.execute("DELETE FROM entries WHERE run = ?", (run,))
            self._database.execute("DELETE FROM keyrings WHERE run = ?", (run,))

    def all_containers(self) -> Iterator[IndexedContainer]:
        """Every container of the generation, in no promised order."""
        with self._lock:
            yield from (
                IndexedContainer(*row)
                for row in self._database.execute("SELECT number, pseudonym, sha256, size FROM containers")
            )

    def settled(self) -> int:
        """Up to which entry of the ledger this index knows what was removed from the store."""
        row = self._row("SELECT max(seq) FROM ledger")
        return 0 if row is None or row[0] is None else int(row[0])

    def settle(self, seq: int) -> None:
        """What entries up to `seq` removed is forgotten."""
        with self.transaction():
            self._database.execute("DELETE FROM ledger")
            self._database.execute("INSERT INTO ledger VALUES (?)", (seq,))

    def begin_keyring(self, run: RunId, head: bytes) -> None:
        self._write("INSERT INTO keyrings VALUES (?, ?, 0)", run, head)

    def unpublished_keyrings(self) -> list[tuple[RunId, bytes, list[bytes]]]:
        """Runs whose keyring is not on the store yet, with their entries in order; runs without any are left out."""
        with self._lock:
            self._settle()
            runs = self._database.execute("SELECT run, head FROM keyrings WHERE published = 0 ORDER BY run").fetchall()
            found = []
            for run, head in runs:
                rows = self._database.execute(
                    "SELECT body FROM entries WHERE run = ? ORDER BY place", (run,)
                ).fetchall()
                if rows:
                    found.append((run, head, [body for (body,) in rows]))
        return found

    def published_keyrings(self) -> set[RunId]:
        """Keyrings of this generation that are on the store."""
        with self._lock:
            rows = self._database.execute("SELECT run FROM keyrings WHERE published").fetchall()
        return {RunId(run) for (run,) in rows}

    def is_fresh(self) -> bool:
        """Whether a run cannot rely on anything yet: nothing was published, and no run that was cut off made keys."""
        relied = (
            "SELECT 1 FROM keyrings WHERE published UNION ALL SELECT 1 FROM entries UNION ALL SELECT 1 FROM containers"
        )
        return self._row(f"{relied} LIMIT 1") is None

    def abandon(self) -> None:
        """Add nothing more to the generation."""
        self._write("DELETE FROM generation")

    def keyring_published(self, run: RunId) -> None:
        """The store has it: what was kept of it here goes, for no purge would reach a copy of keys on a node."""
        with self.transaction():
            self._database.execute("UPDATE keyrings SET published = 1, head = x'' WHERE run = ?", (run,))
            self._database.execute("DELETE FROM entries WHERE run = ?", (run,))

    def mask(self, tag: bytes) -> int | None:
        row = self._row("SELECT mask FROM tables WHERE tag = ?", tag)
        return None if row is None else int(row[0])

    def set_mask(self, tag: bytes, mask: int) -> None:
        self._write("INSERT OR REPLACE INTO tables VALUES (?, ?)", tag, mask)

    def last_records(self) -> list[tuple[SnapshotName, GenerationId, bool]]:
        """The newest record, and whether it is known to be published; those before it, up to one that is."""
        with self._lock:
            rows = self._database.execute(
                "SELECT name, generation, published FROM records WHERE place >= "
                "(SELECT coalesce(max(place), 0) FROM records WHERE published) ORDER BY place DESC"
            ).fetchall()
        return [(SnapshotName(name), GenerationId(generation), bool(published)) for name, generation, published in rows]

    def records_of(self, generation: GenerationId) -> set[SnapshotName]:
        """Records of a generation that are known to have been published."""
        with self._lock:
            rows = self._database.execute(
                "SELECT name FROM records WHERE published AND generation = ?", (generation,)
            ).fetchall()
        return {SnapshotName(name) for (name,) in rows}

    def record_names(self) -> list[SnapshotName]:
        """Every record that was published or about to be, newest first."""
        with self._lock:
            rows = self._database.execute("SELECT name FROM records ORDER BY place DESC").fetchall()
        return [SnapshotName(name) for (name,) in rows]

    def begin_record(self, name: SnapshotName, generation: GenerationId) -> None:
        """A record is about to be published: whether it was, the store knows."""
        self._write(
            "INSERT OR IGNORE INTO records SELECT ?, ?, coalesce(max(place), 0) + 1, 0 FROM records", name, generation
        )

    def record_published(self, name: SnapshotName) -> None:
        self._write("UPDATE records SET published = 1 WHERE name = ?", name)

    def _row(self, statement: str, *values: object) -> tuple[Any, ...] | None:
        with self._lock:
            row: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
        return row

    def _write(self, statement: str, *values: object) -> None:
        with self._lock:
            self._database.execute(statement, values)


def _guard(tag: bytes, pseudonym: str, public: bytes) -> bytes:
    return hashlib.sha256(tag + pseudonym.encode() + public).digest()[:8]


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary code; 0 for errors that Python's module itself raises."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _code(error) == sqlite3.SQLITE_FULL:
            raise SpoolFullError(
                "the disk of the node's index is full", hint="Make room on the disk that holds node.state_dir."
            ) from None
        if _code(error) in _DAMAGED:
            raise BackupdError(
                "the node's index is damaged", hint="The next run sets it aside and starts a new generation."
            ) from None
        raise BackupdError(
            f"the node's index cannot be used ({type(error).__name__})", hint="Check node.state_dir and its disk."
        ) from None
