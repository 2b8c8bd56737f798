"""Manifests: what was written is what is read, whatever the sizes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from doubles.stores.segments import HandmadeSegment
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.model.manifest import LINE_LIMIT, Entry, FactsEntry, FileEntry, SequencesEntry, TableEntry
from backupd.repository.containers import ContainerCache
from backupd.repository.parts import encode_entries, read_entries
from backupd.store.directory import DirectoryStore

NAMES = st.text(min_size=1, max_size=63)
COUNTS = st.integers(0, 2**63 - 1)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
RUNS = st.tuples(
    st.lists(st.tuples(st.just(0), st.integers(0, 2**31), st.integers(1, 2**31)), max_size=20), st.integers(1, 4000)
).map(lambda drawn: [number for run in drawn[0] for number in run] * drawn[1])
"""Sometimes many more than stand on one line."""


@st.composite
def tables(draw: st.DrawFn) -> TableEntry:
    spans = draw(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40), DIGESTS), max_size=5))
    rows, size = sum(span[0] for span in spans), sum(span[1] for span in spans)
    columns = draw(st.lists(NAMES, max_size=10))
    return TableEntry(draw(NAMES), draw(NAMES), columns, rows, size, spans, draw(RUNS))


FILES = st.builds(FileEntry, NAMES, COUNTS, DIGESTS, RUNS)
SEQUENCES = st.lists(st.tuples(NAMES, NAMES, st.integers(-(2**63), 2**63 - 1), st.booleans()), min_size=1, max_size=9)
FACTS = st.dictionaries(NAMES.filter(lambda key: key != "entry"), st.integers() | NAMES | st.lists(NAMES), max_size=5)
ENTRIES = st.lists(tables() | FILES, max_size=4)


@settings(max_examples=40, deadline=None)
@given(ENTRIES, SEQUENCES, st.integers(1, 5000), FACTS.map(FactsEntry), st.integers(1000, 1 << 20))
def test_entries_come_back(
    entries: list[Entry], sequences: list[tuple[str, str, int, bool]], times: int, facts: FactsEntry, block: int
) -> None:
    """Every entry comes back as it was, through lines below the limit and blocks cut anywhere; long lists joined."""
    written = [*entries, SequencesEntry(sequences * times), facts]
    with tempfile.TemporaryDirectory() as folder:
        segment = HandmadeSegment(DirectoryStore(Path(folder) / "be"))
        part = ContainerCache(segment.store, lambda _: segment.pair.secret).open(
            segment.part(written, manifest_block=block)
        )
        read = list(read_entries(part.reader))
    assert read[1 : 1 + len(entries)] == entries
    values = [value for entry in read if isinstance(entry, SequencesEntry) for value in entry.values]
    assert values == sequences * times
    assert read[-1] == facts


@given(st.lists(NAMES, min_size=1, max_size=3), st.integers(1, 40_000))
@settings(max_examples=20, deadline=None)
def test_long_facts_are_cut_into_lines_that_add_up(names: list[str], times: int) -> None:
    """Facts too long for a line become several; their lists joined are what was written."""
    import msgspec

    facts = {"server_version": 1, "refresh": [["s", name] for name in names * times]}
    lines = list(encode_entries([FactsEntry(facts)]))
    assert all(len(line) < LINE_LIMIT for line in lines)
    decoded = [msgspec.json.decode(line) for line in lines]
    assert [item for line in decoded for item in line.get("refresh", [])] == facts["refresh"]
    assert decoded[0]["server_version"] == 1
