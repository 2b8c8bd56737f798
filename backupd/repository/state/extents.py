"""The memory of extents, by which a later backup need not read them: the spans of each, by its identity.

They are those of one snapshot of each database, and are replaced only after the record of the next one was published.
Losing them costs time: what is not remembered is read. They refer to sections of the index, so they are all forgotten
as soon as the index forgets a section.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from backupd.errors import DamageError
from backupd.repository.state.index_file import INDEX, IndexFile
from backupd.seal.zstd import Compressor, decompress

_LARGEST = 256 << 20
"""Bytes of an extent's spans at most."""
_LEVEL = 1
_encode = msgspec.msgpack.Encoder().encode
_Remembered = TypeVar("_Remembered")


class RememberedExtent(msgspec.Struct, frozen=True, array_like=True):
    """The rows that were read of an extent, and their spans by segment."""

    rows: int
    spans: list[tuple[str, bytes]]
    """Pseudonym and packed span of every segment that got rows; an empty pseudonym for rows left out."""

    def __repr__(self) -> str:
        return "RememberedExtent()"


class AuditState(NamedTuple):
    """The outcome of audits of one configured database."""

    audited: float
    """When the last one ended, in seconds since 1970; 0 when there was none."""
    distrusted: bool


class LastUnread(NamedTuple):
    """The outcome of the last backup of one configured database, as far as it is about what was not read."""

    bytes: int
    """Size of the heap blocks that were taken over."""
    reason: str
    """Why everything was read; empty where it was not."""


class RememberedWay(msgspec.Struct, frozen=True, array_like=True):
    """The sums of what rows on the way to a tenant lead to, by cells of so many blocks."""

    blocks: int
    sums: list[tuple[int, int, int]]


class RememberedSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """All that a snapshot needs apart from its structure, for a run that finds none of its extents changed.

    Each extent's rows are in many segments: who has every extent as it was need not look into any of them.
    """

    base: bytes
    """The base that was remembered with it: with another one it is another run's."""
    places: bytes
    """Digest of the identities of all its extents."""
    tallies: list[tuple[int, int, int, int]]
    """Rows and bytes of each extent, in the order of their identities."""
    segments: int
    packs: list[tuple[int, list[int], list[int]]]
    """The index's number of every pack, with the places of manifests and of other sections in it, as ranges."""
    size: int
    """Bytes of these sections."""

    def __repr__(self) -> str:
        return "RememberedSnapshot()"


_decode = msgspec.msgpack.Decoder(RememberedExtent).decode
_decode_way = msgspec.msgpack.Decoder(RememberedWay).decode
_decode_snapshot = msgspec.msgpack.Decoder(RememberedSnapshot).decode


class ExtentMemory:
    """The remembered extents of an index. Safe for several threads."""

    def __init__(self, file: IndexFile) -> None:
        self._file = file
        self._compressor = Compressor(_LEVEL)

    def base(self, database: bytes) -> bytes | None:
        """Return what was remembered with a database's extents; None when none are."""
        row = self._file.row("SELECT base FROM readings WHERE database = ?", database)
        return None if row is None else bytes(row[0])

    def has(self, place: bytes) -> bool:
        """Check whether an extent is remembered by its identity's digest; `find` may yet be unable to read it."""
        return self._file.row("SELECT 1 FROM extents WHERE place = ?", place) is not None

    def find(self, place: bytes) -> RememberedExtent | None:
        """Return a remembered extent by its identity's digest; None when it is not remembered, or cannot be read."""
        return self._found(place, _decode)

    def find_way(self, place: bytes) -> RememberedWay | None:
        """Return what rows on the way to a tenant led to, as `find` does."""
        return self._found(place, _decode_way)

    def _found(self, place: bytes, decode: Callable[[bytes], _Remembered]) -> _Remembered | None:
        return _decoded(self._file.row("SELECT spans FROM extents WHERE place = ?", place), decode)

    def snapshot(self, database: bytes) -> RememberedSnapshot | None:
        """Return what the snapshot needs whose extents are remembered; None when that is not remembered."""
        found = _decoded(self._file.row("SELECT state FROM snapshots WHERE database = ?", database), _decode_snapshot)
        return found if found is not None and found.base == self.base(database) else None

    def begin(self, database: bytes) -> None:
        """Forget what a run of the database that did not end has noted."""
        self._file.write("DELETE FROM extents_read WHERE database = ?", database)

    def keep(self, database: bytes, place: bytes) -> None:
        """Note that this run took an extent over, which is to stay remembered."""
        self._file.write("INSERT OR REPLACE INTO extents_read VALUES (?, ?, NULL)", place, database)

    def note(self, database: bytes, place: bytes, rows: int, spans: Sequence[tuple[str, bytes]]) -> None:
        """Note what this run read of an extent, to be remembered once the snapshot is published."""
        self._note(database, place, RememberedExtent(rows, list(spans)))

    def note_way(self, database: bytes, place: bytes, way: RememberedWay) -> None:
        """Note what rows on the way to a tenant lead to, as `note` does."""
        self._note(database, place, way)

    def _note(self, database: bytes, place: bytes, found: RememberedExtent | RememberedWay) -> None:
        data = self._compressor.compress(_encode(found))
        self._file.write("INSERT OR REPLACE INTO extents_read VALUES (?, ?, ?)", place, database, data)

    def remember(self, database: bytes, base: bytes, snapshot: RememberedSnapshot | None = None) -> None:
        """Remember exactly the extents that this run has kept and noted; its snapshot is published."""
        with self._file.transaction():
            self._file.write(
                "DELETE FROM extents WHERE database = ? AND place NOT IN (SELECT place FROM extents_read "
                "WHERE spans IS NULL)",
                database,
            )
            self._remember(database, base, snapshot)

    def remember_all(self, database: bytes, base: bytes, snapshot: RememberedSnapshot) -> None:
        """Remember what this run has noted beside the extents of the run before, all of which it took over."""
        with self._file.transaction():
            self._remember(database, base, snapshot)

    def _remember(self, database: bytes, base: bytes, snapshot: RememberedSnapshot | None) -> None:
        self._file.write(
            "INSERT OR REPLACE INTO extents SELECT place, database, spans FROM extents_read "
            "WHERE database = ? AND spans IS NOT NULL",
            database,
        )
        self._file.write("INSERT OR REPLACE INTO readings VALUES (?, ?)", database, base)
        self._file.write("DELETE FROM extents_read WHERE database = ?", database)
        self._file.write("DELETE FROM snapshots WHERE database = ?", database)
        if snapshot is not None:
            data = self._compressor.compress(_encode(snapshot))
            self._file.write("INSERT INTO snapshots VALUES (?, ?)", database, data)

    def forget(self, database: bytes) -> None:
        """Forget a database's extents: its next backup reads everything."""
        with self._file.transaction():
            for table in ("extents", "extents_read", "readings", "snapshots"):
                self._file.write(f"DELETE FROM {table} WHERE database = ?", database)  # noqa: S608  # of four constants

    def audit(self, label: str) -> AuditState:
        """Return what audits found for a database, by its configured label."""
        row = self._file.row("SELECT audited, distrusted FROM audits WHERE label = ?", label)
        return AuditState(0.0, distrusted=False) if row is None else AuditState(row[0], bool(row[1]))

    def set_audit(self, label: str, state: AuditState) -> None:
        """Note what an audit found."""
        self._file.write("INSERT OR REPLACE INTO audits VALUES (?, ?, ?)", label, state.audited, int(state.distrusted))

    def last(self, label: str) -> LastUnread | None:
        """Return what the last backup of a configured database took over; None before one that might have."""
        row = self._file.row("SELECT bytes, reason FROM last_unread WHERE label = ?", label)
        return None if row is None else LastUnread(*row)

    def set_last(self, label: str, state: LastUnread | None) -> None:
        """Note what a backup took over; None where nothing is to be."""
        if state is None:
            self._file.write("DELETE FROM last_unread WHERE label = ?", label)
        else:
            self._file.write("INSERT OR REPLACE INTO last_unread VALUES (?, ?, ?)", label, *state)

    def extent_blocks(self, tag: bytes) -> int | None:
        """Return the blocks of a table's extents, by the table's keyed tag; None before its first run."""
        row = self._file.row("SELECT blocks FROM grids WHERE tag = ?", tag)
        return None if row is None else int(row[0])

    def set_extent_blocks(self, tag: bytes, blocks: int) -> None:
        """Remember the blocks of a table's extents, so that later runs divide it at the same places."""
        self._file.write("INSERT OR REPLACE INTO grids VALUES (?, ?)", tag, blocks)


def _decoded(row: tuple[bytes] | None, decode: Callable[[bytes], _Remembered]) -> _Remembered | None:
    """Return a row's one value as `decode` reads it; None where there is none, or it is damaged."""
    try:
        return None if row is None else decode(decompress(row[0], _LARGEST))
    except (DamageError, msgspec.MsgspecError):
        return None


def unread_states(folder: Path) -> dict[str, tuple[LastUnread, AuditState]]:
    """Return what the index of a state folder says of its databases, by label, also while a backup is using it.

    Empty where there is no index, as on a machine that makes no backups, or where it cannot be read.
    """
    index = folder / INDEX
    if not index.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as opened:
            rows = opened.execute(
                "SELECT label, bytes, reason, COALESCE(audited, 0.0), COALESCE(distrusted, 0) "
                "FROM last_unread LEFT JOIN audits USING (label)"
            ).fetchall()
    except sqlite3.Error:
        return {}
    return {
        label: (LastUnread(size, reason), AuditState(audited, bool(distrusted)))
        for label, size, reason, audited, distrusted in rows
    }
