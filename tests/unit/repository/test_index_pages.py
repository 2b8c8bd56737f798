"""Segments are asked for page by page, in the order of their pseudonyms."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.model.ids import ObjectHash, Pseudonym
from backupd.operations.backup import closing
from backupd.operations.backup.closing import _KnownManifests
from backupd.repository.state.index import Index, NewSection

SEGMENTS = [Pseudonym(f"{number:032x}") for number in range(0, 40, 2)]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """Every other segment has a manifest in its second section; there is one pack."""
    with Index.locked(tmp_path) as index:
        sections = [
            NewSection(segment, number, 100 + number, bytes([number]) * 16, b"digest" if number == 2 else b"")
            for segment in SEGMENTS
            for number in (1, 2)
        ]
        index.add_pack(ObjectHash("a" * 64), 5000, [], sections)
        yield index


@pytest.mark.parametrize("page", [1, 3, len(SEGMENTS), 1000])
def test_manifests_are_found_whatever_the_page(index: Index, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of segments that have none, before, between and behind those that have."""
    monkeypatch.setattr(closing, "_PAGE", page)
    known = _KnownManifests(index)
    asked = [Pseudonym(f"{number:032x}") for number in range(45)] + [Pseudonym("f" * 32)]
    assert {one: known.of(one) for one in asked} == {one: (2, b"digest") if one in SEGMENTS else None for one in asked}


def test_sections_between_two_segments_include_both(index: Index) -> None:
    found = index.sections(SEGMENTS[3], SEGMENTS[5])
    assert list(found) == SEGMENTS[3:6]
    assert {number: row.length for number, row in found[SEGMENTS[4]].items()} == {1: 101, 2: 102}
    assert index.sections(Pseudonym("f" * 31), Pseudonym("f" * 32)) == {}
