"""The node's index of a generation on one store: the chunks and segments it has put there, in an SQLite file.

The index is a cache with one rule: a row about an object is committed only after the object was published, so every
object it names did exist. Losing the file costs a new generation, nothing else. It holds no name, and no key of a
segment: segments are called by their pseudonyms.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backupd.model.ids import Fingerprint, GenerationId, ObjectHash, Pseudonym, RepositoryId, RunId
from backupd.repository.state.extents import ExtentMemory
from backupd.repository.state.index_file import (
    INDEX,
    IndexFile,
    is_damage,
    locked_folder,
    set_aside,
    translated_errors,
)
from backupd.repository.state.run_state import RunState
from backupd.trace import NoTrace, Trace

_OF_SECTIONS = ("readings", "snapshots", "extents", "extents_read")
"""Tables whose rows rely on sections of the generation."""


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


class IndexedPack(NamedTuple):
    """A pack that was published."""

    id: int
    """The number by which the index refers to it."""
    sha256: ObjectHash
    size: int
    """Bytes of the pack when it was last looked at: a keeper may take sections out."""


class IndexedSection(NamedTuple):
    """A section of a published pack."""

    number: int
    """The section's number among those of its segment."""
    pack: int
    place: int
    """The section's place in the pack's header."""
    length: int


class NewSection(NamedTuple):
    """A section of a pack that was just published."""

    segment: Pseudonym
    number: int
    length: int
    ids: bytes
    """16 bytes for each chunk, in order."""
    digest: bytes
    """Keyed digest of its manifest; empty for a section without one."""


class Index:
    """One generation's index. Safe for several threads; worker processes read the file at the same time."""

    def __init__(self, path: Path) -> None:
        """Open the index file, or create an empty one. Raises sqlite3.Error, IndexDamagedError among them."""
        self.path = path
        self._file = IndexFile(path)
        self.runs = RunState(self._file)
        self.extents = ExtentMemory(self._file)

    @classmethod
    @contextmanager
    def locked(cls, folder: Path, trace: Trace | None = None) -> Iterator[Index]:
        """Open the index in `folder` for this process alone; set a damaged one aside and begin an empty one.

        Raises BusyError while another backup holds it, ConfigError when the folder cannot be used, SpoolFullError when
        its disk is full. SQLite's errors inside the block leave it as BackupdErrors.
        """
        with locked_folder(folder), translated_errors():
            index = cls._opened(folder / INDEX, trace or NoTrace())
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
        """Close the file; the index cannot be used afterwards."""
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
        tables = [
            "generation",
            "segments",
            "packs",
            "sections",
            "chunks",
            "keyrings",
            "tables",
            "definitions",
            "numberings",
            "recipients",
            "tenant_keys",
            "grids",
            *_OF_SECTIONS,
        ]
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
        """Check whether runs can rely on nothing yet: nothing was published."""
        return self._file.row("SELECT 1 FROM keyrings UNION ALL SELECT 1 FROM packs LIMIT 1") is None

    def abandon(self) -> None:
        """Add nothing more to the generation: the next run has to begin a new one."""
        self._file.write("DELETE FROM generation")

    def manifests(self, first: Pseudonym, number: int) -> dict[Pseudonym, tuple[int, bytes]]:
        """Return the newest manifests of at most so many segments, in order from one on, whether that has one or not.

        Each is the number of its section and the manifest's keyed digest.
        """
        rows = self._file.rows(
            "SELECT pseudonym, number, digest FROM segments WHERE pseudonym >= ? ORDER BY pseudonym LIMIT ?",
            first,
            number,
        )
        return {segment: (section, digest) for segment, section, digest in rows}

    def add_pack(
        self, sha256: ObjectHash, size: int, keyrings: Iterable[RunId], sections: Sequence[NewSection]
    ) -> None:
        """Remember a published pack, its sections in the header's order, and the keyrings with their keys."""
        with self.transaction():
            self._file.database.executemany(
                "INSERT OR IGNORE INTO keyrings VALUES (?)", ((keyring,) for keyring in keyrings)
            )
            self._file.write("INSERT INTO packs (sha256, size) VALUES (?, ?)", sha256, size)
            (pack,) = self._file.row("SELECT last_insert_rowid()") or (0,)
            (first,) = self._file.row("SELECT coalesce(max(id), 0) + 1 FROM sections") or (1,)
            self._file.database.executemany(
                "INSERT INTO sections VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (first + place, pack, place, one.segment, one.number, one.length, one.ids)
                    for place, one in enumerate(sections)
                ),
            )
            self._file.database.executemany(
                "INSERT OR IGNORE INTO chunks VALUES (?, ?, ?)",
                (
                    (one.ids[at : at + 16], first + place, at // 16)
                    for place, one in enumerate(sections)
                    for at in range(0, len(one.ids), 16)
                ),
            )
            self._file.database.executemany(
                "INSERT OR REPLACE INTO segments VALUES (?, ?, ?)",
                ((one.segment, one.number, one.digest) for one in sections if one.digest),
            )

    def last_number(self) -> int:
        """Return the highest number of a section in the generation; 0 when there is none."""
        row = self._file.row("SELECT coalesce(max(number), 0) FROM sections")
        return int(row[0]) if row else 0

    def sections(self, first: Pseudonym, last: Pseudonym) -> dict[Pseudonym, dict[int, IndexedSection]]:
        """Return the sections of all segments from one to another, both included, by their numbers."""
        found: dict[Pseudonym, dict[int, IndexedSection]] = {}
        for segment, *row in self._file.rows(
            "SELECT pseudonym, number, pack, place, length FROM sections WHERE pseudonym BETWEEN ? AND ?", first, last
        ):
            found.setdefault(segment, {})[row[0]] = IndexedSection(*row)
        return found

    def packs(self) -> dict[int, IndexedPack]:
        """Return every pack of the generation, by the index's number."""
        return {row[0]: IndexedPack(*row) for row in self._file.rows("SELECT id, sha256, size FROM packs")}

    def places(self, pack: int) -> list[int]:
        """Return the places of a pack's sections on which runs rely, in order."""
        return [place for (place,) in self._file.rows("SELECT place FROM sections WHERE pack = ? ORDER BY place", pack)]

    def forget_pack(self, pack: int) -> None:
        """Forget a pack that the store no longer has: the chunks of its sections are new again."""
        with self.transaction():
            self._forget_sections("pack = ?", pack)
            self._file.write("DELETE FROM packs WHERE id = ?", pack)

    def forget_sections(self, pack: int, places: Iterable[int], size: int) -> None:
        """Forget sections that were taken out of a pack, which has `size` bytes now."""
        with self.transaction():
            for place in places:
                self._forget_sections("pack = ? AND place = ?", pack, place)
            self._file.write("UPDATE packs SET size = ? WHERE id = ?", size, pack)

    def forget_segments(self, pseudonyms: Iterable[Pseudonym]) -> None:
        """Forget segments that were purged: their tenants get new segments if they come back."""
        with self.transaction():
            for pseudonym in pseudonyms:
                self._forget_sections("pseudonym = ?", pseudonym)

    def _forget_sections(self, where: str, *values: object) -> None:
        rows = self._file.rows(f"SELECT id, pseudonym, number, ids FROM sections WHERE {where}", *values)  # noqa: S608 - no input in it
        if rows:
            # Extents refer to sections by numbers, which may be given anew.
            for table in _OF_SECTIONS:
                self._file.write(f"DELETE FROM {table}")  # noqa: S608 - one of four constants
        for section, pseudonym, number, ids in rows:
            self._file.write("DELETE FROM segments WHERE pseudonym = ? AND number = ?", pseudonym, number)
            self._file.database.executemany(
                "DELETE FROM chunks WHERE id = ? AND section = ?",
                ((ids[at : at + 16], section) for at in range(0, len(ids), 16)),
            )
            self._file.write("DELETE FROM sections WHERE id = ?", section)

    def definition(self, tag: bytes) -> int:
        """Return the number of a table's definition, by its keyed tag; a new one gets the next number."""
        with self.transaction():
            row = self._file.row("SELECT number FROM definitions WHERE tag = ?", tag)
            if row is None:
                self._file.write("INSERT INTO definitions SELECT ?, coalesce(max(number), 0) + 1 FROM definitions", tag)
                row = self._file.row("SELECT number FROM definitions WHERE tag = ?", tag)
        return int(row[0]) if row else 0

    def numbering(self, tag: bytes) -> bytes:
        """Return how a list was numbered, by its keyed tag; nothing before its first run."""
        row = self._file.row("SELECT numbers FROM numberings WHERE list = ?", tag)
        return b"" if row is None else bytes(row[0])

    def set_numbering(self, tag: bytes, numbers: bytes) -> None:
        """Remember how a list was numbered, so that what is added to it changes the numbers of nothing else."""
        self._file.write("INSERT OR REPLACE INTO numberings VALUES (?, ?)", tag, numbers)

    def mask(self, tag: bytes) -> int | None:
        """Return the mask that cuts a table's rows into chunks, by the table's keyed tag; None before its first run."""
        row = self._file.row("SELECT mask FROM tables WHERE tag = ?", tag)
        return None if row is None else int(row[0])

    def set_mask(self, tag: bytes, mask: int) -> None:
        """Remember a table's mask, so that later runs cut its rows at the same places."""
        self._file.write("INSERT OR REPLACE INTO tables VALUES (?, ?)", tag, mask)
