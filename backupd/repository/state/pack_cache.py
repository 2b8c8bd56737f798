"""A keeper's cache of one store's pack headers: which packs list a segment, and what each of them lists."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from backupd.errors import BackupdError, DamageError, ObjectMissingError, RefusedError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.seal.pack import PackHeader, read_header

if TYPE_CHECKING:
    from backupd.repository.repository import Repository
    from backupd.store.base import ObjectInfo

PACK_TABLES: Final = """
CREATE TABLE IF NOT EXISTS packs (
  number INTEGER PRIMARY KEY, generation TEXT NOT NULL, sha256 TEXT NOT NULL, header BLOB NOT NULL, modified REAL,
  UNIQUE (generation, sha256));
CREATE TABLE IF NOT EXISTS listed (segment BLOB NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (segment, pack))
  WITHOUT ROWID;
"""
_REMEMBERED: Final = 16
"""Generations whose packs are remembered after they left the store: its own snapshots may still show them."""


class StoredPack(NamedTuple):
    """A pack as the store lists it."""

    name: ObjectName
    sha256: ObjectHash
    size: int
    modified: datetime
    """The earliest time that the store showed for it: to take a section out makes a pack no younger."""


class PackCache:
    """Headers of packs by name, in the database of a `KeyringCache`. A header never changes under its name."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def refresh(
        self,
        repository: Repository,
        generation: GenerationId,
        threads: int,
        unsound: dict[ObjectName, BackupdError],
        listed: Mapping[ObjectHash, ObjectInfo] | None = None,
    ) -> list[StoredPack]:
        """List the packs of a generation, or take `listed`, and read the headers that are not known yet.

        A pack whose header cannot be believed is put into `unsound`, and is not among the result.
        """
        known = self._known(generation)
        listed = dict(repository.list_packs(generation) if listed is None else listed)
        fresh = sorted(listed.keys() - known.keys())
        for sha256, opened in in_parallel(lambda one: repository.pack(generation, one).header, fresh, threads):
            try:
                self._insert(opened.result())
            except ObjectMissingError:
                del listed[sha256]  # removed meanwhile
            except (DamageError, RefusedError) as error:
                unsound[listed.pop(sha256).name] = error
        found = [
            StoredPack(info.name, sha256, info.size, min(info.modified, known.get(sha256) or info.modified))
            for sha256, info in listed.items()
        ]
        self._note_listed(generation, found)
        return found

    def note(self, header: PackHeader) -> None:
        """Store a header, of a pack on the store or in one of its snapshots."""
        with self._database:
            self._insert(header)

    def header(self, generation: GenerationId, sha256: ObjectHash) -> PackHeader | None:
        """Return the header of a pack that is or was on the store; None for one that was never read."""
        row = self._database.execute(
            "SELECT header FROM packs WHERE generation = ? AND sha256 = ?", (generation, sha256)
        ).fetchone()
        return None if row is None else read_header(row[0], layout.pack_name(generation, sha256))

    def known(self, generation: GenerationId) -> set[ObjectHash]:
        """Return the packs of a generation whose headers are known, on the store or not."""
        return set(self._known(generation))

    def listing(self, generation: GenerationId, segments: Iterable[Pseudonym]) -> set[ObjectHash]:
        """Return the known packs whose headers list one of the segments, on the store or not."""
        return {
            ObjectHash(sha256)
            for segment in segments
            for (sha256,) in self._database.execute(
                "SELECT sha256 FROM listed JOIN packs ON number = pack WHERE segment = ? AND generation = ?",
                (bytes.fromhex(segment), generation),
            )
        }

    def forget_but(self, generations: Collection[GenerationId]) -> None:
        """Forget the packs of all but these generations and the newest others."""
        rows = self._database.execute("SELECT DISTINCT generation FROM packs ORDER BY generation DESC")
        others = [row[0] for row in rows if row[0] not in generations]
        with self._database:
            for generation in others[_REMEMBERED:]:
                self._database.execute(
                    "DELETE FROM listed WHERE pack IN (SELECT number FROM packs WHERE generation = ?)", (generation,)
                )
                self._database.execute("DELETE FROM packs WHERE generation = ?", (generation,))

    def _insert(self, header: PackHeader) -> None:
        """Store a header in the transaction that the next commit ends: there may be ten thousand."""
        cursor = self._database.execute(
            "INSERT INTO packs (generation, sha256, header) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (header.context.generation, header.sha256, header.raw),
        )
        if cursor.rowcount == 1:
            segments = {row.segment for row in header.rows}
            self._database.executemany(
                "INSERT INTO listed VALUES (?, ?)", ((bytes.fromhex(segment), cursor.lastrowid) for segment in segments)
            )

    def _known(self, generation: GenerationId) -> dict[ObjectHash, datetime | None]:
        rows = self._database.execute("SELECT sha256, modified FROM packs WHERE generation = ?", (generation,))
        return {
            ObjectHash(sha256): None if modified is None else datetime.fromtimestamp(modified, UTC)
            for sha256, modified in rows
        }

    def _note_listed(self, generation: GenerationId, found: Iterable[StoredPack]) -> None:
        with self._database:
            self._database.executemany(
                "UPDATE packs SET modified = ? WHERE generation = ? AND sha256 = ? AND modified IS NOT ?",
                ((pack.modified.timestamp(), generation, pack.sha256, pack.modified.timestamp()) for pack in found),
            )


def segments_by_generation(refs: Iterable[tuple[GenerationId, Pseudonym]]) -> dict[GenerationId, set[Pseudonym]]:
    """Return segments by their generation."""
    found: dict[GenerationId, set[Pseudonym]] = defaultdict(set)
    for generation, segment in refs:
        found[generation].add(segment)
    return dict(found)
