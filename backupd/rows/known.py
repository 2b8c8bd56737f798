"""The worker's view of the chunks its generation already holds: SQLite, read only, so that memory stays small."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol

from backupd.seal.layout import CHUNK_ID_SIZE


class KnownChunks(Protocol):
    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        """Container (the index's number of it) and place in it; None when the chunk is new."""
        ...


class NothingKnown:
    """A generation's first snapshot."""

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        del chunk_id
        return None


class IndexedChunks:
    """Look-ups in the node's index, which its parent process may be writing at the same time.

    Rows come in much the same order as last time, so after a known chunk its followers in the same container are
    expected next: they are fetched together, which spares most look-ups (12 µs each, measured, against 1.5).
    """

    AHEAD = 64
    """Chunks fetched after one that was found."""
    EXPECTED = 40_000
    """Most chunks expected at once: some 10 MB."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA cache_size = -8192")
        self._cursor = self._database.cursor()
        self._expected: dict[bytes, tuple[int, int]] = {}

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        place = self._expected.pop(chunk_id, None)
        if place is None:
            place = self._cursor.execute("SELECT container, chunk FROM chunks WHERE id = ?", (chunk_id,)).fetchone()
            if place is not None:
                self._expect(*place)
        return place

    def close(self) -> None:
        self._database.close()

    def _expect(self, container: int, chunk: int) -> None:
        (ids,) = self._cursor.execute(
            "SELECT substr(ids, ?, ?) FROM containers WHERE number = ?",
            (CHUNK_ID_SIZE * (chunk + 1) + 1, CHUNK_ID_SIZE * self.AHEAD, container),
        ).fetchone() or (b"",)
        if len(self._expected) > self.EXPECTED:
            self._expected.clear()
        for place in range(len(ids) // CHUNK_ID_SIZE):
            found = ids[CHUNK_ID_SIZE * place : CHUNK_ID_SIZE * (place + 1)]
            self._expected[found] = (container, chunk + 1 + place)
