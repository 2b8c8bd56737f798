"""The node's index of a generation on one store: the chunks and segments it has put there, in an SQLite file.

The index is a cache with one rule: a row about an object is committed only after the object was published, so every
object it names did exist. Losing the file costs a new generation, nothing else. It holds no name and no secret half:
segments are found by a keyed tag, private halves are stored sealed only.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from backupd.model.ids import Fingerprint, GenerationId, ObjectHash, Pseudonym, RepositoryId, RunId
from backupd.repository.state.index_file import (
    IndexDamagedError,
    IndexFile,
    is_damage,
    locked_folder,
    set_aside,
    translated_errors,
)
from backupd.repository.state.run_state import RunState
from backupd.trace import NoTrace, Trace

_TOGETHER = 256
"""New segments written in one transaction: ending a transaction takes most of its time."""


@dataclass(frozen=True, slots=True)
class Generation:
    """The generation that a node adds to: its ids, its chunk key, and who can read its keyrings."""

    id: GenerationId
    repository: RepositoryId
    chunk_key: bytes
    started: str
    recipients: frozenset[Fingerprint]
    """Recipients that its keyrings are sealed to."""

    def __repr__(self) -> str:
        return f"Generation({self.id})"


@dataclass(frozen=True, slots=True)
class KnownSegment:
    """One segment that the index knows, with its newest part."""

    pseudonym: Pseudonym
    part: int | None
    """Container number of its newest part; None while it has none."""
    part_digest: bytes | None
    """Keyed digest of that part's manifest."""


@dataclass(frozen=True, slots=True)
class KeyringPlace:
    """A segment's entry in the keyring of the run that made it."""

    run: RunId
    entry: bytes


@dataclass(frozen=True, slots=True)
class IndexedContainer:
    """A published container, and the number by which the index refers to it."""

    number: int
    pseudonym: Pseudonym
    sha256: ObjectHash
    size: int


class Index:
    """One generation's index. Safe for several threads; worker processes read the file at the same time."""

    def __init__(self, path: Path) -> None:
        """Open the index file, or create an empty one. Raises sqlite3.Error, IndexDamagedError among them."""
        self.path = path
        self._file = IndexFile(path)
        self._pending: dict[Pseudonym, tuple[bytes, bytes, KeyringPlace]] = {}
        self.runs = RunState(self._file, self._write_pending)

    @classmethod
    @contextmanager
    def locked(cls, folder: Path, trace: Trace | None = None) -> Iterator[Index]:
        """Open the index in `folder` for this process alone; set a damaged one aside and begin an empty one.

        Raises BusyError while another backup holds it, ConfigError when the folder cannot be used, SpoolFullError when
        its disk is full. SQLite's errors inside the block leave it as BackupdErrors.
        """
        with locked_folder(folder), translated_errors():
            index = cls._opened(folder / "index.sqlite", trace or NoTrace())
            try:
                yield index
            finally:
                index.close()

    @classmethod
    def _opened(cls, path: Path, trace: Trace) -> Index:
        try:
            return cls(path)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
        set_aside(path, trace)
        return cls(path)

    def close(self) -> None:
        """Close the file; segments that were added and not written yet are lost with their keys."""
        self._file.close()

    def transaction(self) -> AbstractContextManager[None]:
        """Commit everything that the block changes together, or nothing of it when the block raises."""
        return self._file.transaction()

    def generation(self) -> Generation | None:
        """Return the generation that runs add to; None before the first one and after `abandon`."""
        row = self._file.row("SELECT id, repository, chunk_key, started FROM generation")
        if row is None:
            return None
        rows = self._file.rows("SELECT fingerprint FROM recipients")
        recipients = frozenset(Fingerprint(fingerprint) for (fingerprint,) in rows)
        return Generation(row[0], row[1], row[2], row[3], recipients)

    def begin(self, generation: Generation) -> None:
        """Start a generation and forget everything else, except the names of records of the same repository."""
        known = self.generation()
        tables = ["generation", "segments", "containers", "chunks", "keyrings", "entries", "tables", "recipients"]
        if known is None or known.repository != generation.repository:
            tables.append("records")
        with self.transaction():
            for table in tables:
                self._file.write(f"DELETE FROM {table}")  # noqa: S608 - names from the lines above
            self._file.write(
                "INSERT INTO generation VALUES (?, ?, ?, ?)",
                generation.id,
                generation.repository,
                generation.chunk_key,
                generation.started,
            )
            self._file.database.executemany(
                "INSERT INTO recipients VALUES (?)", ((one,) for one in generation.recipients)
            )

    def has_chunks(self) -> bool:
        """Check whether the index knows any chunk."""
        return self._file.row("SELECT 1 FROM chunks LIMIT 1") is not None

    def is_fresh(self) -> bool:
        """Check whether runs can rely on nothing yet: nothing was published, and no interrupted run made keys."""
        relied = (
            "SELECT 1 FROM keyrings WHERE published UNION ALL SELECT 1 FROM entries UNION ALL SELECT 1 FROM containers"
        )
        return self._file.row(f"{relied} LIMIT 1") is None

    def abandon(self) -> None:
        """Add nothing more to the generation: the next run has to begin a new one."""
        self._file.write("DELETE FROM generation")

    def segment(self, tag: bytes) -> KnownSegment | None:
        """Return the segment of a keyed tag; None when it is new, or added and not written yet."""
        row = self._file.row("SELECT pseudonym, part, part_digest FROM segments WHERE tag = ?", tag)
        return None if row is None else KnownSegment(*row)

    def public(self, pseudonym: Pseudonym) -> bytes:
        """Return the public half of a segment's key.

        Raises IndexDamagedError when it is not the one that was stored: nobody could open what it seals.
        """
        with self._file.lock:
            if pseudonym in self._pending:
                self._write_pending()
            row = self._file.row("SELECT public, tag, guard FROM segments WHERE pseudonym = ?", pseudonym)
        if row is None or row[2] != _guard(row[1], pseudonym, row[0]):
            raise IndexDamagedError("a key was altered")
        return bytes(row[0])

    def add_segment(self, tag: bytes, pseudonym: Pseudonym, public: bytes, place: KeyringPlace) -> None:
        """Remember a new segment together with its keyring entry, so that its key cannot be lost without it.

        Up to 256 segments are written together, at the latest before `public` answers: before anything can be sealed
        with their keys. Until then `segment` does not return them.
        """
        with self._file.lock:
            self._pending[pseudonym] = (tag, public, place)
            if len(self._pending) >= _TOGETHER:
                self._write_pending()

    def _write_pending(self) -> None:
        """Write the segments that were added since the last call, with their keyring entries."""
        if not self._pending:
            return
        with self.transaction():
            for pseudonym, (tag, public, place) in self._pending.items():
                (number,) = self._file.row(
                    "SELECT coalesce(max(place) + 1, 0) FROM entries WHERE run = ?", place.run
                ) or (0,)
                self._file.write(
                    "INSERT INTO segments (tag, pseudonym, public, guard, run) VALUES (?, ?, ?, ?, ?)",
                    tag,
                    pseudonym,
                    public,
                    _guard(tag, pseudonym, public),
                    place.run,
                )
                self._file.write("INSERT INTO entries VALUES (?, ?, ?)", place.run, number, place.entry)
            self._pending.clear()

    def add_part(self, tag: bytes, part: IndexedContainer, ids: bytes, digest: bytes) -> None:
        """Remember a published part as its segment's newest; `digest` is the keyed digest of its manifest."""
        with self.transaction():
            self._insert(part, ids)
            self._file.write("UPDATE segments SET part = ?, part_digest = ? WHERE tag = ?", part.number, digest, tag)

    def add_container(self, container: IndexedContainer, ids: bytes) -> None:
        """Remember a published container and the 16-byte ids of its chunks, in order."""
        with self.transaction():
            self._insert(container, ids)

    def _insert(self, container: IndexedContainer, ids: bytes) -> None:
        rows = ((ids[i : i + 16], container.number, i // 16) for i in range(0, len(ids), 16))
        self._file.write(
            "INSERT OR IGNORE INTO containers VALUES (?, ?, ?, ?, ?)",
            container.number,
            container.pseudonym,
            container.sha256,
            container.size,
            ids,
        )
        self._file.database.executemany("INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)", rows)

    def last_number(self) -> int:
        """Return the highest container number ever given; 0 when there is none."""
        row = self._file.row("SELECT coalesce(max(number), 0) FROM containers")
        return int(row[0]) if row else 0

    def containers(self, numbers: Sequence[int]) -> dict[int, IndexedContainer]:
        """Return the containers with these numbers, by number; unknown numbers are left out."""
        found: dict[int, IndexedContainer] = {}
        for start in range(0, len(numbers), 500):
            some = numbers[start : start + 500]
            marks = ",".join("?" * len(some))
            rows = self._file.rows(
                f"SELECT number, pseudonym, sha256, size FROM containers WHERE number IN ({marks})",  # noqa: S608 - marks only
                *some,
            )
            found.update((row[0], IndexedContainer(*row)) for row in rows)
        return found

    def all_containers(self) -> Iterator[IndexedContainer]:
        """Yield every container of the generation, in no promised order."""
        with self._file.lock:
            yield from (
                IndexedContainer(*row)
                for row in self._file.database.execute("SELECT number, pseudonym, sha256, size FROM containers")
            )

    def forget(self, numbers: Iterable[int]) -> None:
        """Forget containers that the store no longer has: their chunks are new again."""
        with self.transaction():
            self._file.write("CREATE TEMP TABLE lost (number INTEGER PRIMARY KEY)")
            self._file.database.executemany("INSERT INTO lost VALUES (?)", ((number,) for number in numbers))
            self._file.write("DELETE FROM chunks WHERE container IN (SELECT number FROM lost)")
            self._file.write("DELETE FROM containers WHERE number IN (SELECT number FROM lost)")
            self._file.write(
                "UPDATE segments SET part = NULL, part_digest = NULL WHERE part IN (SELECT number FROM lost)"
            )
            self._file.write("DROP TABLE lost")

    def forget_segments(self, pseudonyms: Iterable[Pseudonym]) -> None:
        """Forget segments that were purged: their tenants get new segments if they come back."""
        with self.transaction():
            for pseudonym in pseudonyms:
                of_it = "(SELECT number FROM containers WHERE pseudonym = ?)"
                self._file.write(f"DELETE FROM chunks WHERE container IN {of_it}", pseudonym)  # noqa: S608 - no input in it
                self._file.write("DELETE FROM segments WHERE pseudonym = ?", pseudonym)
                self._file.write("DELETE FROM containers WHERE pseudonym = ?", pseudonym)

    def drop_keyring(self, run: RunId) -> None:
        """Forget a keyring that must not be published any more, with the segments whose keys only it has."""
        rows = self._file.rows("SELECT pseudonym FROM segments WHERE run = ?", run)
        self.forget_segments(Pseudonym(pseudonym) for (pseudonym,) in rows)
        with self.transaction():
            self._file.write("DELETE FROM entries WHERE run = ?", run)
            self._file.write("DELETE FROM keyrings WHERE run = ?", run)

    def mask(self, tag: bytes) -> int | None:
        """Return the mask that cuts a table's rows into chunks, by the table's keyed tag; None before its first run."""
        row = self._file.row("SELECT mask FROM tables WHERE tag = ?", tag)
        return None if row is None else int(row[0])

    def set_mask(self, tag: bytes, mask: int) -> None:
        """Remember a table's mask, so that later runs cut its rows at the same places."""
        self._file.write("INSERT OR REPLACE INTO tables VALUES (?, ?)", tag, mask)


def _guard(tag: bytes, pseudonym: str, public: bytes) -> bytes:
    """Return 8 bytes of a digest that shows when a stored public half was altered."""
    return hashlib.sha256(tag + pseudonym.encode() + public).digest()[:8]
