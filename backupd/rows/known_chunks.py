"""The worker's view of the chunks its generation already holds: SQLite, read only, so that memory stays small."""

from __future__ import annotations

import sqlite3
from itertools import islice
from pathlib import Path
from typing import Protocol

_ID_SIZE = 16
"""Bytes of a chunk's id."""


class KnownChunks(Protocol):
    """The look-up of chunks that the generation already holds."""

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        """Return the number of the section that has the chunk, and its place there; None when the chunk is new."""
        ...


class NothingKnown:
    """The look-up of a generation's first snapshot, to which every chunk is new."""

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        del chunk_id
        return None


class IndexedChunks:
    """Look-ups in the node's index, which the parent process may be writing at the same time.

    Rows come in much the same order as last time, so after a known chunk its followers in the same section are
    expected next: they are fetched with it, which saves most look-ups (measured: 4.5 µs each, and 1.2 for each of
    chunks in order). Where rows of thousands of segments alternate, fewer chunks of each are expected, so that they are
    still there when they come.
    """

    AHEAD = 64
    """Chunks fetched at most after one that was found."""
    EXPECTED = 20_000
    """Chunks expected at once at most, about 4 MB."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(
            f"file:{path}?mode=ro", uri=True, check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA cache_size = -4096")
        self._cursor = self._database.cursor()
        self._ahead = self.AHEAD
        self._fetched = 0
        self._used = 0
        self._expected: dict[bytes, int] = {}

    def find(self, chunk_id: bytes) -> tuple[int, int] | None:
        place = self._expected.pop(chunk_id, None)
        if place is not None:
            self._used += 1
            return place >> 32, place & 0xFFFFFFFF
        found = self._cursor.execute(
            "SELECT number, chunk, substr(ids, ? * (chunk + 1) + 1, ?) FROM chunks "
            "JOIN sections ON sections.id = section WHERE chunks.id = ?",
            (_ID_SIZE, _ID_SIZE * self._ahead, chunk_id),
        ).fetchone()
        if found is None:
            return None
        number, chunk, followers = found
        self._expect(followers, number << 32 | chunk)
        return number, chunk

    def close(self) -> None:
        self._database.close()

    def _expect(self, ids: bytes, place: int) -> None:
        """Expect the chunks that follow this place."""
        if len(self._expected) > self.EXPECTED:
            self._drop_older_half()
        for start in range(0, len(ids), _ID_SIZE):
            place += 1
            self._expected[ids[start : start + _ID_SIZE]] = place
        self._fetched += len(ids) // _ID_SIZE

    def _drop_older_half(self) -> None:
        """Drop the older half of the expected chunks. Where most were dropped unused, expect fewer from now on."""
        few = self._used < self._fetched // 2
        self._ahead = max(self._ahead // 2, 1) if few else min(self._ahead * 2, self.AHEAD)
        self._used = self._fetched = 0
        for chunk_id in list(islice(self._expected, self.EXPECTED // 2)):
            del self._expected[chunk_id]
