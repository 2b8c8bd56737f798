"""Reading what runs stand for, whole and damaged."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from doubles.stores.segments import (
    HandmadeKeys,
    HandmadeSegment,
    SealedSection,
    file_entry,
    rows_entry,
    seal_section,
    sha256,
    take_out,
)

from backupd.errors import BackupdError, DamageError
from backupd.model.ids import ObjectHash
from backupd.model.manifest import Span
from backupd.repository import sections as sections_module
from backupd.repository.content import Content, ContentReader, file_content, rows_content
from backupd.repository.packs import Section
from backupd.repository.sections import Sections
from backupd.seal.keyring import SegmentKey
from backupd.seal.section_format import SectionContext
from backupd.store.directory import DirectoryStore


@pytest.fixture
def segment(directory_store: DirectoryStore) -> HandmadeSegment:
    return HandmadeSegment(directory_store)


@pytest.fixture
def reader_of() -> Iterator[Callable[..., ContentReader]]:
    """A reader of one or several segments of the same store, which keeps and asks ahead as little as wanted."""
    made: list[Sections] = []

    def make(*segments: HandmadeSegment, kept: int = 16 << 20, ahead: int = 8 << 20) -> ContentReader:
        opened = Sections(segments[0].store, HandmadeKeys.of_segments(*segments).of, threads=4, kept=kept)
        made.append(opened)
        listed = {place: section for segment in segments for place, section in segment.sections.items()}
        return ContentReader(listed, opened, ahead)

    yield make
    for opened in made:
        opened.close()


def chunk(number: int, rows: int = 50) -> bytes:
    return b"".join(b"%d\t%d\n" % (number, row) for row in range(rows))


def asked_of(segment: HandmadeSegment) -> list[tuple[int, int]]:
    """Offset and length of every read of a pack from now on."""
    asked: list[tuple[int, int]] = []
    get = segment.store.get

    def counting(name: str, offset: int = 0, length: int | None = None) -> bytes:
        data: bytes = get(name, offset, length)
        asked.append((offset, len(data)))
        return data

    segment.store.get = counting
    return asked


def test_runs_over_sections_are_read_in_their_order(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """A run names a section by its number, and the bytes come in the order of the runs, over blocks of any cut."""
    old = segment.data([chunk(0), chunk(1), chunk(2)], [chunk(3), chunk(4)])
    new = segment.data([chunk(5)], [chunk(6), chunk(7)])
    last = segment.data([chunk(8)])
    order = [0, 1, 5, 3, 4, 8, 6, 7, 2, 3]
    rows = b"".join(chunk(number) for number in order)
    runs = [old, 0, 2, new, 0, 1, old, 3, 2, last, 0, 1, new, 1, 2, old, 2, 2]
    content = rows_content(segment.segment, rows_entry(rows, runs, cut=60))
    assert reader_of(segment).whole(content) == rows


@pytest.mark.parametrize(("kept", "ahead", "chunks"), [(16 << 20, 8 << 20, 600), (1, 1, 40)], ids=["roomy", "tight"])
def test_alternating_sections_are_read_whatever_is_kept(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], kept: int, ahead: int, chunks: int
) -> None:
    """A table whose chunks alternate between many sections, in more runs than are looked up at once, reads the same."""
    numbers = [segment.data(*([chunk(one * 1000 + at, 2)] for at in range(chunks))) for one in range(8)]
    order = [(one, at) for at in range(chunks) for one in range(8)]
    rows = b"".join(chunk(one * 1000 + at, 2) for one, at in order)
    runs = [number for one, at in order for number in (numbers[one], at, 1)]
    entry = rows_entry(rows, runs, cut=777)
    assert reader_of(segment, kept=kept, ahead=ahead).whole(rows_content(segment.segment, entry)) == rows


def test_contents_come_one_after_another_with_their_tags(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Several segments' contents are read in the order asked for; one without bytes yields nothing."""
    other = HandmadeSegment(segment.store)
    wanted, expected = [], []
    for place in range(60):
        owner = (segment, other)[place % 2]
        rows = chunk(place) if place % 7 else b""
        entry = rows_entry(rows, [owner.data([rows]), 0, 1] if rows else [])
        wanted.append((place, rows_content(owner.segment, entry)))
        expected.append((place, rows))
    seen: dict[int, bytes] = {}
    for tag, piece in reader_of(segment, other).read(wanted):
        seen[tag] = seen.get(tag, b"") + bytes(piece)
    assert list(seen.items()) == [(place, rows) for place, rows in expected if rows]


def test_neighbours_come_in_one_request_and_nothing_twice(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Sections side by side in a pack are read together; one that lies apart, and one nobody wants, are not."""
    rows = [os.urandom(5000).hex().encode() + b"\n" for _ in range(12)]
    segment.publish(*(_numbered(segment, place, data) for place, data in enumerate(rows, 1)))
    checks = [[(1, len(data), sha256(data))] for data in rows]
    order = (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 3)
    wanted = [(place, Content(segment.segment, [place, 0, 1], checks[place - 1])) for place in order]
    asked = asked_of(segment)
    found = list(reader_of(segment).read(wanted))
    assert [bytes(piece) for _, piece in found] == [rows[place - 1] for place, _ in wanted]
    sections = {place: segment.sections[segment.segment, place] for place in order}
    assert sorted(offset for offset, _ in asked) == [sections[1].offset, sections[5].offset]
    assert sum(length for _, length in asked) == sum(section.row.length for section in sections.values())


def test_a_section_that_a_keeper_moved_is_found(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """The pack was put anew without another section since its header was read."""
    made = [_numbered(segment, place, chunk(place)) for place in (1, 2, 3)]
    segment.publish(*made)
    pack = segment.sections[segment.segment, 1].pack
    take_out(segment.store, pack, [0])
    rows = chunk(2) + chunk(3)
    content = rows_content(segment.segment, rows_entry(rows, [2, 0, 1, 3, 0, 1]))
    assert reader_of(segment).whole(content) == rows


def test_a_section_that_was_taken_out_is_missing(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Since its header was read; the message names it."""
    made = [_numbered(segment, place, chunk(place)) for place in (1, 2)]
    segment.publish(*made)
    pack = segment.sections[segment.segment, 1].pack
    take_out(segment.store, pack, [1])
    with pytest.raises(DamageError, match=f"'{pack.name}, section 1' is missing"):
        reader_of(segment).whole(rows_content(segment.segment, rows_entry(chunk(2), [2, 0, 1])))


def test_large_sections_lie_in_files(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read piece by piece and compared first, so that memory need not hold them."""
    monkeypatch.setattr(sections_module, "_LARGE", 50_000)
    blocks = [[os.urandom(10_000).hex().encode() + b"\n"] for _ in range(12)]
    number = segment.data(*blocks)
    rows = b"".join(block[0] for block in blocks)
    content = Content(segment.segment, [number, 0, 12], [(12, len(rows), sha256(rows))])
    reader = reader_of(segment, kept=1)
    before = open_files()
    assert reader.whole(content) == rows
    assert reader.whole(content) == rows
    section = segment.sections[segment.segment, number]
    replaced(segment, section, bytes(section.row.length))
    with pytest.raises(DamageError, match="does not have the hash its header says") as caught:
        reader_of(segment).whole(content)
    del caught
    assert open_files() == before


def open_files() -> int:
    """How many files of no name this process has open."""
    found = 0
    for file in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):
            found += "(deleted)" in str(file.readlink())
    return found


def _numbered(segment: HandmadeSegment, number: int, data: bytes) -> SealedSection:
    context = SectionContext(segment.context.repository, segment.context.generation, segment.segment, number)
    return seal_section(context, segment.key, segment.place, [[data]])


def wrong_contents() -> dict[str, Callable[[bytes], list[Span]]]:
    return {
        "another digest": lambda rows: [(50, len(rows), sha256(b""))],
        "fewer rows": lambda rows: [(51, len(rows), sha256(rows))],
        "longer": lambda rows: [(50, len(rows) - 1, sha256(rows[:-1]))],
        "shorter": lambda rows: [(50, len(rows), sha256(rows)), (1, 1, sha256(b"\n"))],
        "cut": lambda rows: [(50, len(rows) + 1, sha256(rows + b"\n"))],
    }


@pytest.mark.parametrize("case", wrong_contents())
def test_content_that_differs_from_its_manifest_is_damage(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], case: str
) -> None:
    """Bytes that are authentic but not what the manifest says are refused, naming the segment."""
    rows = chunk(1)
    number = segment.data([rows])
    with pytest.raises(DamageError, match=segment.segment):
        reader_of(segment).whole(Content(segment.segment, [number, 0, 1], wrong_contents()[case](rows)))


def replaced(segment: HandmadeSegment, section: Section, content: bytes) -> None:
    """Put the pack anew with other bytes in the section's place."""
    data = segment.store.get(section.pack.name)
    fresh = data[: section.offset] + content + data[section.offset + section.row.length :]
    segment.store.replace(section.pack.name, io.BytesIO(fresh), len(fresh), ObjectHash(sha256(fresh).hex()))


def damages() -> dict[str, Callable[[Path, Path, int], object]]:
    def flipped(at: float) -> Callable[[Path, Path, int], None]:
        def change(path: Path, _: Path, start: int) -> None:
            data = bytearray(path.read_bytes())
            data[start + int((len(data) - start - 1) * at)] ^= 1
            path.write_bytes(data)

        return change

    return {
        "flipped first": flipped(0.0),
        "flipped block": flipped(0.5),
        "flipped trailer": flipped(0.9999),
        "flipped end": flipped(1.0),
        "cut": lambda path, _, __: path.write_bytes(path.read_bytes()[:-100]),
        "emptied": lambda path, _, __: path.write_bytes(b""),
        "swapped": lambda path, other, _: path.write_bytes(other.read_bytes()),
        "gone": lambda path, _, __: path.unlink(),
    }


@pytest.mark.parametrize("size", [3, 3000], ids=["small", "large"])
@pytest.mark.parametrize("case", damages())
def test_a_damaged_section_stops_the_reader(
    segment: HandmadeSegment,
    reader_of: Callable[..., ContentReader],
    root_of: Callable[..., Path],
    case: str,
    size: int,
) -> None:
    """Whatever happens to a section since its pack's header was read is damage that names the pack."""
    noise = random.Random(5)
    rows = [b"%s\n" % noise.randbytes(300).hex().encode() for _ in range(size)]
    blocks = [[b"".join(rows[at : at + 100])] for at in range(0, size, 100)]
    section, other = segment.section(blocks=blocks), segment.section(blocks=[*reversed(blocks), [b"x\n"]])
    everything = b"".join(rows)
    root = root_of(segment.store)
    damages()[case](root / section.pack.name, root / other.pack.name, section.offset)
    content = Content(
        segment.segment,
        [section.row.number, 0, len(blocks)],
        [(size, len(everything), sha256(everything))],
    )
    with pytest.raises(DamageError) as caught:
        reader_of(segment).whole(content)
    assert section.pack.name in caught.value.message


def test_nothing_is_believed_because_of_a_key_alone(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """A section under the right key, number and place that its header does not list is not read: the hash decides."""
    section = segment.section(blocks=[[b"true\n"]])
    forged = _numbered(segment, section.row.number, b"lies\n")
    assert len(forged.data) == section.row.length
    replaced(segment, section, forged.data)
    content = Content(segment.segment, [section.row.number, 0, 1], [(1, 5, sha256(b"lies\n"))])
    with pytest.raises(DamageError, match="does not have the hash its header says"):
        reader_of(segment).whole(content)


def test_a_section_under_another_key_is_refused(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """The key that the keyring has in the place that the header names must open it."""
    section = segment.section(blocks=[[b"1\n"]])
    segment.key = SegmentKey(os.urandom(32), segment.name)
    content = Content(segment.segment, [section.row.number, 0, 1], [(1, 2, sha256(b"1\n"))])
    with pytest.raises(DamageError, match="is not authentic"):
        reader_of(segment).whole(content)


def test_a_section_of_another_segment_or_number_is_refused(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """A header that lists it under another pseudonym or number does not make it that one's."""
    other = HandmadeSegment(segment.store)
    other.key = segment.key
    sealed = _numbered(other, 1, b"1\n")
    for row in (sealed.row._replace(segment=segment.segment), sealed.row._replace(segment=segment.segment, number=2)):
        moved = segment.publish(SealedSection(row, sealed.data))
        content = Content(segment.segment, [moved.row.number, 0, 1], [(1, 2, sha256(b"1\n"))])
        with pytest.raises(DamageError, match="is not authentic"):
            reader_of(segment).whole(content)


def test_a_section_that_the_record_does_not_name_is_damage(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader]
) -> None:
    """Even one that exists: only what the signed record names is read. Another segment's of that number counts not."""
    other = HandmadeSegment(segment.store)
    number, hidden = segment.data([b"1\n"]), segment.data([b"2\n"])
    other.data([b"1\n"]), other.data([b"2\n"])
    del segment.sections[segment.segment, hidden]
    reader = reader_of(segment, other)
    assert reader.whole(Content(segment.segment, [number, 0, 1], [(1, 2, sha256(b"1\n"))])) == b"1\n"
    with pytest.raises(DamageError, match=f"{segment.segment} speaks of section 2, which the snapshot's record does"):
        reader.whole(Content(segment.segment, [hidden, 0, 1], [(1, 2, sha256(b"2\n"))]))


@pytest.mark.parametrize("run", [(1, 1), (0, 2), (7, 1)], ids=["no chunk", "too many chunks", "far"])
def test_runs_beyond_what_there_is_are_damage(
    segment: HandmadeSegment, reader_of: Callable[..., ContentReader], run: tuple[int, int]
) -> None:
    """A run that points outside its section is refused, not wrapped around."""
    section = segment.section(blocks=[[b"1\n"]])
    with pytest.raises(DamageError, match=section.pack.name):
        reader_of(segment).whole(Content(segment.segment, [1, *run], [(1, 2, sha256(b"1\n"))]))


def test_a_store_that_fails_is_heard(segment: HandmadeSegment, reader_of: Callable[..., ContentReader]) -> None:
    """An error of the store in a fetching thread reaches the reader as it is."""
    number = segment.data([b"1\n"])

    def failing(*_: object, **__: object) -> bytes:
        raise BackupdError("no more")

    segment.store.get = failing
    with pytest.raises(BackupdError, match="no more"):
        reader_of(segment).whole(file_content(segment.segment, file_entry("globals", b"1\n", [number, 0, 1])))
