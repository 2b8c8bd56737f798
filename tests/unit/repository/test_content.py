"""Reading what runs stand for, whole and damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.stores.segments import HandmadeSegment, file_entry, sha256, table_entry

from backupd.errors import BackupdError, DamageError
from backupd.repository.blocks import Blocks
from backupd.repository.containers import ContainerCache, ContainerRef
from backupd.repository.content import Content, ContentReader, ExpectedBytes, file_content, table_content
from backupd.store.directory import DirectoryStore


@pytest.fixture
def segment(directory_store: DirectoryStore) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


@pytest.fixture
def reader_of() -> Iterator[Callable[..., ContentReader]]:
    """A reader of one or several segments of the same store, its caches as small as wanted."""
    made: list[Blocks] = []

    def make(*segments: HandmadeSegment, limit: int = 24 << 20, kept: int = 32 << 20) -> ContentReader:
        secrets = {segment.context.segment: segment.pair.secret for segment in segments}
        blocks = Blocks(threads=4, kept=kept)
        made.append(blocks)
        return ContentReader(ContainerCache(segments[0].store, secrets.__getitem__, limit), blocks)

    yield make
    for blocks in made:
        blocks.close()


def chunk(number: int, rows: int = 50) -> bytes:
    return b"".join(b"%d\t%d\n" % (number, row) for row in range(rows))


def test_runs_over_parts_and_packs_are_read_in_their_order(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Container 0 is the part itself, k is its k-th pack, and the bytes come in the order of the runs."""
    old = segment.pack([chunk(0), chunk(1), chunk(2)], [chunk(3), chunk(4)])
    new = segment.pack([chunk(5)], [chunk(6), chunk(7)])
    order = [0, 1, 5, 3, 4, 8, 6, 7]
    rows = b"".join(chunk(number) for number in order)
    runs = [1, 0, 2, 2, 0, 1, 1, 3, 2, 0, 0, 1, 2, 1, 2]
    part = segment.part([table_entry(rows, runs)], [old, new], [[chunk(8)]])
    content = table_content(part, table_entry(rows, runs, cut=60))
    assert reader_of(segment).whole(content) == rows


@pytest.mark.parametrize(("limit", "kept"), [(24 << 20, 32 << 20), (1, 1)], ids=["roomy", "tight"])
def test_alternating_packs_are_read_whatever_the_caches_hold(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], limit: int, kept: int
) -> None:
    """A table whose chunks alternate between many packs, in more runs than are looked up at once, reads the same."""
    packs = [segment.pack(*([chunk(pack * 100 + at)] for at in range(40))) for pack in range(8)]
    order = [(pack, at) for at in range(40) for pack in range(8)]
    rows = b"".join(chunk(pack * 100 + at) for pack, at in order)
    runs = [number for pack, at in order for number in (pack + 1, at, 1)]
    entry = table_entry(rows, runs, cut=777)
    part = segment.part([entry], packs)
    assert reader_of(segment, limit=limit, kept=kept).whole(table_content(part, entry)) == rows


def test_contents_come_one_after_another_with_their_tags(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Several segments' contents are read in the order asked for; one without bytes yields nothing."""
    other = HandmadeSegment(segment.store)
    wanted, expected = [], []
    for place in range(60):
        owner = (segment, other)[place % 2]
        rows = chunk(place) if place % 7 else b""
        entry = table_entry(rows, [0, 0, 1] if rows else [])
        part = owner.part([entry], blocks=[[rows]] if rows else [])
        wanted.append((place, table_content(part, entry)))
        expected.append((place, rows))
    seen: dict[int, bytes] = {}
    for tag, piece in reader_of(segment, other).read(wanted):
        seen[tag] = seen.get(tag, b"") + bytes(piece)
    assert list(seen.items()) == [(place, rows) for place, rows in expected if rows]


def test_a_large_container_is_not_read_twice(segment: HandmadeSegment, reader_of: Callable[..., ContentReader]) -> None:
    """Every block of a large pack is asked for once, neighbours together, and nothing is read that no run wants."""
    import os

    blocks = [[os.urandom(200_000) + b"\n"] for _ in range(12)]
    pack = segment.pack(*blocks)
    rows = b"".join(block[0] for block in blocks[3:])
    part = segment.part([], [pack])
    asked: list[int] = []
    get = segment.store.get

    def counting(name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = get(name, offset, length)
        asked.append(len(data))
        return data

    segment.store.get = counting
    content = Content(part, [1, 3, 9], [ExpectedBytes(None, len(rows), sha256(rows))])
    assert reader_of(segment).whole(content) == rows
    assert sum(asked) < len(rows) + 200_000
    assert len(asked) <= 6


def wrong_contents() -> dict[str, Callable[[bytes], list[ExpectedBytes]]]:
    return {
        "another digest": lambda rows: [ExpectedBytes(50, len(rows), sha256(b""))],
        "fewer rows": lambda rows: [ExpectedBytes(51, len(rows), sha256(rows))],
        "longer": lambda rows: [ExpectedBytes(50, len(rows) - 1, sha256(rows[:-1]))],
        "shorter": lambda rows: [ExpectedBytes(50, len(rows), sha256(rows)), ExpectedBytes(1, 1, sha256(b"\n"))],
        "cut": lambda rows: [ExpectedBytes(50, len(rows) + 1, sha256(rows + b"\n"))],
    }


@pytest.mark.parametrize("case", wrong_contents())
def test_content_that_differs_from_its_manifest_is_damage(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], case: str
) -> None:
    """Bytes that are authentic but not what the manifest says are refused, naming part and segment."""
    rows = chunk(1)
    part = segment.part([], blocks=[[rows]])
    with pytest.raises(DamageError) as caught:
        reader_of(segment).whole(Content(part, [0, 0, 1], wrong_contents()[case](rows)))
    assert part.sha256 in caught.value.message
    assert segment.context.segment in caught.value.message


def damages() -> dict[str, Callable[[Path, Path], None]]:
    def flip(at: float) -> Callable[[Path, Path], None]:
        def change(path: Path, _: Path) -> None:
            data = bytearray(path.read_bytes())
            data[min(int(len(data) * at), len(data) - 1)] ^= 1
            path.write_bytes(data)

        return change

    return {
        "flipped magic": flip(0.0),
        "flipped header": flip(0.0001),
        "flipped data key": flip(0.0008),
        "flipped block": flip(0.5),
        "flipped trailer": flip(0.9999),
        "flipped end": flip(1.0),
        "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-100]) and None,
        "emptied": lambda path, _: path.write_bytes(b"") and None,
        "swapped": lambda path, other: path.write_bytes(other.read_bytes()) and None,
        "gone": lambda path, _: path.unlink(),
    }


@pytest.mark.parametrize("size", [3, 3000], ids=["small", "large"])
@pytest.mark.parametrize("case", damages())
def test_a_damaged_pack_stops_the_reader(
    segment: HandmadeSegment,
    reader_of: Callable[..., ContentReader],
    root_of: Callable[..., Path],
    case: str,
    size: int,
) -> None:
    """Whatever happens to a pack, small or large, is damage that names it and its segment."""
    import random

    noise = random.Random(5)
    rows = [b"%s\n" % noise.randbytes(300).hex().encode() for _ in range(size)]
    blocks = [[b"".join(rows[at : at + 100])] for at in range(0, size, 100)]
    pack, other = segment.pack(*blocks), segment.pack(*reversed(blocks), [b"x\n"])
    everything = b"".join(rows)
    part = segment.part([], [pack])
    root = root_of(segment.store)
    damages()[case](root / segment.object_name(pack, "pack"), root / segment.object_name(other, "pack"))
    content = Content(part, [1, 0, len(blocks)], [ExpectedBytes(size, len(everything), sha256(everything))])
    with pytest.raises(DamageError) as caught:
        reader_of(segment).whole(content)
    named = caught.value.message
    assert pack.sha256 in named or part.sha256 in named
    assert segment.context.segment in named


def test_a_container_of_another_segment_is_refused(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], root_of: Callable[..., Path]
) -> None:
    """An object moved into another segment's folder is damage."""
    other = HandmadeSegment(segment.store)
    foreign = other.part([], blocks=[[b"1\n"]])
    moved = ContainerRef(segment.context, foreign.sha256, foreign.size)
    target = root_of(segment.store) / segment.object_name(moved, "part")
    target.parent.mkdir(parents=True)
    target.write_bytes((root_of(segment.store) / other.object_name(foreign, "part")).read_bytes())
    with pytest.raises(DamageError, match="belongs to another segment"):
        reader_of(segment).whole(Content(moved, [0, 0, 1], [ExpectedBytes(1, 2, sha256(b"1\n"))]))


@pytest.mark.parametrize("runs", [[0, 1, 1], [0, 0, 2]], ids=["no chunk", "too many chunks"])
def test_runs_beyond_what_there_is_are_damage(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], runs: list[int]
) -> None:
    """A run that points outside its container is refused, not wrapped around."""
    part = segment.part([], blocks=[[b"1\n"]])
    with pytest.raises(DamageError, match=segment.context.segment):
        reader_of(segment).whole(Content(part, runs, [ExpectedBytes(1, 2, sha256(b"1\n"))]))


def test_a_store_that_fails_is_heard(segment: HandmadeSegment, reader_of: Callable[..., ContentReader]) -> None:
    """An error of the store in a fetching thread reaches the reader as it is."""
    part = segment.part([], blocks=[[b"1\n"]])

    def failing(*_: object, **__: object) -> bytes:
        raise BackupdError("no more")

    segment.store.get = failing
    with pytest.raises(BackupdError, match="no more"):
        reader_of(segment).whole(file_content(part, file_entry("globals", b"1\n", [0, 0, 1])))
