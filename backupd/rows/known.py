"""The worker's view of the chunks its generation already holds: SQLite, read only, so that memory stays small."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Protocol


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
    """Look-ups in the node's index, which its parent process may be writing at the same time."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA cache_size = -8192")
        self._cursor = self._database.cursor()

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        place: tuple[int, int] | None = self._cursor.execute(
            "SELECT container, chunk FROM chunks WHERE id = ?", (chunk_id,)
        ).fetchone()
        return place

    def close(self) -> None:
        self._database.close()
