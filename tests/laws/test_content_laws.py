"""Content is read back byte for byte and in order, however it was cut into pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path

from doubles.stores.segments import HandmadeKeys, HandmadeSegment, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.repository.content import Content, ContentReader
from backupd.repository.sections import Sections
from backupd.store.directory import DirectoryStore

CHUNKS = st.binary(min_size=1, max_size=40)
BLOCKS = st.lists(st.lists(CHUNKS, min_size=1, max_size=5), min_size=1, max_size=4)
Blocks = list[list[bytes]]
Run = tuple[int, int, int]


@st.composite
def stored(draw: st.DrawFn) -> tuple[list[list[Blocks]], list[list[Run]]]:
    """Packs of sections of blocks of chunks, and runs over all sections, counted from 1, for several contents."""
    packs = draw(st.lists(st.lists(BLOCKS, min_size=1, max_size=3), min_size=1, max_size=3))
    counts = [sum(map(len, blocks)) for pack in packs for blocks in pack]

    @st.composite
    def run(draw: st.DrawFn) -> Run:
        section = draw(st.integers(1, len(counts)))
        first = draw(st.integers(0, counts[section - 1] - 1))
        return section, first, draw(st.integers(1, counts[section - 1] - first))

    return packs, draw(st.lists(st.lists(run(), max_size=12), min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(stored(), st.integers(1, 400), st.integers(1, 400))
def test_contents_are_what_their_runs_say(
    drawn: tuple[list[list[Blocks]], list[list[Run]]], kept: int, ahead: int
) -> None:
    """Over any packs, sections, runs, and whatever is kept and asked for ahead."""
    packs, wanted = drawn
    chunks = [[chunk for block in blocks for chunk in block] for pack in packs for blocks in pack]
    expected = [
        b"".join(chunk for number, first, n in runs for chunk in chunks[number - 1][first : first + n])
        for runs in wanted
    ]
    with tempfile.TemporaryDirectory() as folder:
        segment = HandmadeSegment(DirectoryStore(Path(folder) / "be"))
        for pack in packs:
            segment.publish(*(segment.sealed(blocks) for blocks in pack))
        contents = [
            Content(segment.segment, [n for run in runs for n in run], [(0, len(data), sha256(data))], counted=False)
            for runs, data in zip(wanted, expected, strict=True)
        ]
        sections = Sections(segment.store, HandmadeKeys.of_segments(segment).of, threads=3, kept=kept)
        try:
            reader = ContentReader(segment.sections, sections, ahead)
            seen = [b"" for _ in contents]
            for place, piece in reader.read(enumerate(contents)):
                assert not any(seen[place + 1 :])
                seen[place] += bytes(piece)
        finally:
            sections.close()
    assert seen == expected
