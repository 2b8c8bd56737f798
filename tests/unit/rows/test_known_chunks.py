"""A worker's look-ups of known chunks: right wherever they come from, and few."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from backupd.model.ids import ObjectHash, Pseudonym
from backupd.repository.state.index import Index, NewSection
from backupd.rows.known_chunks import IndexedChunks

SECTIONS, CHUNKS = 60, 100


def chunk_id(section: int, chunk: int) -> bytes:
    return section.to_bytes(8, "big") + chunk.to_bytes(8, "big")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index with some sections, each of a segment of its own."""
    index = Index(tmp_path / "index.sqlite")
    sections = [
        NewSection(Pseudonym(f"{number:032x}"), number, 1, b"".join(chunk_id(number, n) for n in range(CHUNKS)), b"")
        for number in range(1, SECTIONS + 1)
    ]
    index.add_pack(ObjectHash("0" * 64), 1, [], sections[:20])
    index.add_pack(ObjectHash("1" * 64), 1, [], sections[20:])
    index.close()
    return tmp_path / "index.sqlite"


def statements(known: IndexedChunks, wanted: Iterable[tuple[int, int]]) -> int:
    """How many it took to find all of these."""
    seen: list[str] = []
    known._database.set_trace_callback(seen.append)
    for place in wanted:
        assert known.find(chunk_id(*place)) == place
    return len(seen)


def test_chunks_that_follow_each_other_are_fetched_together(path: Path) -> None:
    """One section after the other: two statements for a chunk and the 64 after it."""
    known = IndexedChunks(path)
    took = statements(known, ((number, chunk) for number in range(1, SECTIONS + 1) for chunk in range(CHUNKS)))
    assert took <= 4 * SECTIONS
    assert known.find(bytes(16)) is None
    known.close()


def test_many_sections_by_turns_are_not_fetched_in_vain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for few of what comes next, as much is expected as stays until it comes."""
    monkeypatch.setattr(IndexedChunks, "EXPECTED", 8 * SECTIONS)
    known = IndexedChunks(path)
    by_turns = [(number, chunk) for chunk in range(CHUNKS) for number in range(1, SECTIONS + 1)]
    assert statements(known, by_turns) < len(by_turns)
    assert len(known._expected) <= 8 * SECTIONS + IndexedChunks.AHEAD
    known.close()
