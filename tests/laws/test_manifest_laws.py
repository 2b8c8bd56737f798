"""Manifests: what was written is what is read, whatever the sizes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
from doubles.stores.segments import HandmadeKeys, HandmadeSegment
from doubles.stores.snapshots import open_section
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.manifest import (
    LINE_LIMIT,
    Entry,
    FactsEntry,
    FileEntry,
    RowsEntry,
    SequencesEntry,
    TableEntry,
)
from backupd.repository.manifests import encode_entries, read_entries
from backupd.store.directory import DirectoryStore

NAMES = st.text(min_size=1, max_size=63)
COUNTS = st.integers(0, 2**63 - 1)
DIGESTS = st.binary(min_size=32, max_size=32)
RUNS = st.tuples(
    st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(0, 2**31), st.integers(1, 2**31)), max_size=20),
    st.integers(1, 4000),
).map(lambda drawn: [number for run in drawn[0] for number in run] * drawn[1])
"""Sometimes many more than stand on one line."""
SPANS = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), DIGESTS), max_size=5)
TABLES = st.builds(TableEntry, COUNTS, NAMES, NAMES, st.lists(NAMES, max_size=10))
ROWS = st.builds(RowsEntry, COUNTS, SPANS, RUNS)
FILES = st.builds(FileEntry, NAMES, COUNTS, DIGESTS, RUNS)
SEQUENCES = st.lists(st.tuples(NAMES, NAMES, st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1, max_size=9)
FACTS = st.dictionaries(NAMES, st.integers() | NAMES | st.lists(NAMES), max_size=5)
ENTRIES = st.lists(TABLES | ROWS | FILES, max_size=4)


@settings(max_examples=40, deadline=None)
@given(ENTRIES, SEQUENCES, st.integers(1, 5000), FACTS.map(FactsEntry), st.integers(1000, 1 << 20))
def test_entries_come_back(
    entries: list[Entry], sequences: list[tuple[str, str, int, bool]], times: int, facts: FactsEntry, block: int
) -> None:
    """Every entry comes back as it was, through lines below the limit and blocks cut anywhere; long lists joined."""
    with tempfile.TemporaryDirectory() as folder:
        segment = HandmadeSegment(DirectoryStore(Path(folder) / "be"))
        section = segment.section([*entries, SequencesEntry(sequences * times), facts], manifest_block=block)
        read = list(read_entries(open_section(segment.store, section, HandmadeKeys.of_segments(segment))))
    assert read[: len(entries)] == entries
    values = [value for entry in read if isinstance(entry, SequencesEntry) for value in entry.values]
    assert values == sequences * times
    assert read[-1] == facts


@given(st.lists(NAMES, min_size=1, max_size=3), st.integers(1, 40_000))
@settings(max_examples=20, deadline=None)
def test_long_facts_are_cut_into_lines_that_add_up(names: list[str], times: int) -> None:
    """Facts too long for a line become several; their lists joined are what was written."""
    facts = {"server_version": 1, "refresh": [["s", name] for name in names * times]}
    lines = list(encode_entries([FactsEntry(facts)]))
    assert all(len(line) < LINE_LIMIT for line in lines)
    decoded = [msgspec.json.decode(line) for line in lines]
    assert {kind for kind, _ in decoded} == {"facts"}
    assert [item for _, line in decoded for item in line.get("refresh", [])] == facts["refresh"]
    assert decoded[0][1]["server_version"] == 1
