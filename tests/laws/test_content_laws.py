"""Content is read back byte for byte and in order, however it was cut into pieces."""

from __future__ import annotations

import tempfile
from pathlib import Path

from doubles.stores.segments import HandmadeSegment, sha256
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.repository.blocks import Blocks
from backupd.repository.containers import ContainerCache
from backupd.repository.content import Content, ContentReader, ExpectedBytes
from backupd.store.directory import DirectoryStore

CHUNKS = st.binary(min_size=1, max_size=40)
BLOCKS = st.lists(st.lists(CHUNKS, min_size=1, max_size=5), min_size=1, max_size=4)


@st.composite
def stored(draw: st.DrawFn) -> tuple[list[list[list[bytes]]], list[list[tuple[int, int, int]]]]:
    """Containers of blocks of chunks, the first being the part's own, and runs over them for several contents."""
    containers = draw(st.lists(BLOCKS, min_size=1, max_size=4))
    counts = [sum(map(len, blocks)) for blocks in containers]

    @st.composite
    def run(draw: st.DrawFn) -> tuple[int, int, int]:
        container = draw(st.integers(0, len(containers) - 1))
        first = draw(st.integers(0, counts[container] - 1))
        return container, first, draw(st.integers(1, counts[container] - first))

    return containers, draw(st.lists(st.lists(run(), max_size=12), min_size=1, max_size=5))


@settings(max_examples=60, deadline=None)
@given(stored(), st.integers(1, 400), st.integers(1, 400), st.integers(1, 300), st.booleans())
def test_contents_are_what_their_runs_say(
    drawn: tuple[list[list[list[bytes]]], list[list[tuple[int, int, int]]]],
    kept: int,
    ahead: int,
    limit: int,
    named: bool,
) -> None:
    """Over any containers, runs, cache sizes and look-ahead; with the part's list given beforehand or not."""
    containers, wanted = drawn
    chunks = [[chunk for block in blocks for chunk in block] for blocks in containers]
    expected = [b"".join(chunk for c, first, n in runs for chunk in chunks[c][first : first + n]) for runs in wanted]
    with tempfile.TemporaryDirectory() as folder:
        segment = HandmadeSegment(DirectoryStore(Path(folder) / "be"))
        packs = [segment.pack(*blocks) for blocks in containers[1:]]
        part = segment.part([], packs, containers[0])
        listed = [(pack.sha256, pack.size) for pack in packs] if named else None
        contents = [
            Content(
                part, [number for run in runs for number in run], [ExpectedBytes(None, len(data), sha256(data))], listed
            )
            for runs, data in zip(wanted, expected, strict=True)
        ]
        blocks = Blocks(threads=3, kept=kept)
        try:
            reader = ContentReader(ContainerCache(segment.store, lambda _: segment.pair.secret, limit), blocks, ahead)
            seen = [b"" for _ in contents]
            for place, piece in reader.read(enumerate(contents)):
                assert not any(seen[place + 1 :])
                seen[place] += bytes(piece)
        finally:
            blocks.close()
    assert seen == expected
