"""Sealed things keep their laws for all contents."""

from __future__ import annotations

import base64
import hashlib
import os
from array import array
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import BackupdError, DamageError
from backupd.model.documents import LedgerHead, Record, Totals, decode_body, encode_body
from backupd.model.ids import (
    ClassTag,
    DatabaseTag,
    GenerationId,
    ObjectHash,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SegmentTags,
    TenantTag,
)
from backupd.model.ranges import from_ranges, to_ranges
from backupd.model.tenancy import SegmentName
from backupd.seal import suite
from backupd.seal.documents import Signer, read_document
from backupd.seal.keyring import KeyringIds, KeyringWriter, parse_keyring, with_wraps, without_lines
from backupd.seal.pack import PackContext, PackHeader, PresenceMap, SectionRow, make_header, read_header
from backupd.seal.section_format import SMALLEST_SECTION, SectionContext, padme
from backupd.seal.section_reader import SectionReader
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor, decompress

PAIR, OTHER, SIGNER = suite.generate(), suite.generate(), Signer(os.urandom(32))
RUN = "20300101T000000Z-0a0b0c0d"
REPOSITORY, GENERATION, SEGMENT = RepositoryId("0f" * 16), GenerationId(RUN), Pseudonym("5e" * 16)


class Block(NamedTuple):
    """What one block of a section is made of."""

    chunks: list[bytes]
    manifest: bytes


blocks = st.lists(
    st.builds(Block, st.lists(st.binary(max_size=3000), max_size=6), st.binary(max_size=300)).filter(
        lambda block: any(block.chunks) or block.manifest
    ),
    max_size=8,
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers(1, (1 << 32) - 1)


def written(content: list[Block], number: int, key: bytes) -> bytes:
    writer = SectionWriter(SectionContext(REPOSITORY, GENERATION, SEGMENT, number), key)
    compressor = Compressor(3)
    data = b""
    for block in content:
        data += writer.add(block.chunks, compressor, block.manifest)
        assert writer.size == len(data)
    assert writer.chunks == sum(len(block.chunks) for block in content)
    data += writer.finish()
    assert (writer.size, writer.sha256()) == (len(data), hashlib.sha256(data).digest())
    return data


def reader_of(data: bytes, number: int, key: bytes) -> SectionReader:
    context = SectionContext(REPOSITORY, GENERATION, SEGMENT, number)
    return SectionReader(lambda o, n: data[o : o + n], len(data), key=key, context=context, where="it")


@settings(max_examples=60, deadline=None)
@given(blocks, numbers, st.binary(min_size=32, max_size=32))
def test_a_section_gives_back_its_blocks(content: list[Block], number: int, key: bytes) -> None:
    """Whatever is put in comes out, in order, from bytes whose size is padded."""
    data = written(content, number, key)
    assert padme(len(data)) == len(data)
    reader = reader_of(data, number, key)
    assert [reader.open_block(at) for at in range(len(reader.blocks))] == [
        b"".join(block.chunks) + block.manifest for block in content
    ]
    assert b"".join(reader.manifest()) == b"".join(block.manifest for block in content)
    first = 0
    for place, block in zip(reader.blocks, content, strict=True):
        assert place.first_chunk == first
        assert place.chunk_lengths == array("I", map(len, block.chunks))
        assert place.data == sum(map(len, block.chunks))
        first += len(block.chunks)
    assert reader.chunks == first


@settings(max_examples=60, deadline=None)
@given(blocks, numbers, st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_of_a_section_is_noticed(content: list[Block], number: int, at: int, bit: int) -> None:
    """By the tags alone, without any hash."""
    data = bytearray(written(content, number, bytes(32)))
    data[at % len(data)] ^= 1 << bit
    with pytest.raises(DamageError, match="'it'"):
        everything(bytes(data), number)


def everything(data: bytes, number: int) -> list[bytes]:
    reader = reader_of(data, number, bytes(32))
    return [reader.open_block(at) for at in range(len(reader.blocks))]


@st.composite
def packs(draw: st.DrawFn) -> tuple[PackHeader, list[bytes]]:
    """A header, and sections of any bytes in its order."""
    places = draw(st.lists(st.tuples(st.integers(0, 5), numbers), min_size=1, max_size=30, unique=True))
    listed = []
    for segment, number in places:
        data = draw(st.binary(min_size=SMALLEST_SECTION, max_size=60))
        keyring = RunId(f"20300101T000000Z-{draw(st.integers(0, 3)):08x}")
        row = SectionRow(
            Pseudonym(f"{segment:032x}"),
            keyring,
            draw(st.integers(0, (1 << 32) - 1)),
            number,
            len(data),
            hashlib.sha256(data).digest(),
        )
        listed.append((row, data))
    ordered = sorted(listed, key=lambda pair: (pair[0].segment, pair[0].number))
    header = make_header(PackContext(REPOSITORY, GENERATION), [row for row, _ in draw(st.permutations(listed))])
    assert list(header.rows) == [row for row, _ in ordered]
    return header, [data for _, data in ordered]


def pack_of(header: PackHeader, there: PresenceMap, sections: list[bytes]) -> bytes:
    data = b"".join((header.raw, there.raw, *(sections[at] for at in there.there)))
    assert len(data) == there.pack_size
    return data


@settings(max_examples=60, deadline=None)
@given(packs(), st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
def test_taking_sections_out_changes_no_other_byte(
    made: tuple[PackHeader, list[bytes]], first: set[int], second: set[int]
) -> None:
    """In one step or in two: header and name stay, and every section left is found where the map says, as it was."""
    header, sections = made
    full = PresenceMap.full(header)
    assert pack_of(header, full, sections) == header.raw + full.raw + b"".join(sections)
    less = full.without(first).without(second)
    assert less.raw == full.without(first | second).raw
    data = pack_of(header, less, sections)
    again = read_header(data, "it")
    assert (again.sha256, list(again.rows), again.raw) == (header.sha256, list(header.rows), header.raw)
    there = PresenceMap.read(again, data[len(again.raw) : len(again.raw) + again.map_size], "it")
    assert there.there == [at for at in range(len(sections)) if at not in first | second]
    for at in there.there:
        found = data[there.offsets[at] : there.offsets[at + 1]]
        assert found == sections[at]
        assert hashlib.sha256(found).digest() == again.rows[at].sha256


@settings(max_examples=60, deadline=None)
@given(packs(), st.sets(st.integers(0, 29)), st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_of_a_pack_is_noticed(
    made: tuple[PackHeader, list[bytes]], gone: set[int], at: int, bit: int
) -> None:
    """By the name, the map, the size, or the hash of a section."""
    header, sections = made
    data = bytearray(pack_of(header, PresenceMap.full(header).without(gone), sections))
    data[at % len(data)] ^= 1 << bit
    assert not is_sound(bytes(data), header.sha256)


def is_sound(data: bytes, name: str) -> bool:
    try:
        header = read_header(data, "it")
        there = PresenceMap.read(header, data[len(header.raw) : len(header.raw) + header.map_size], "it")
    except BackupdError:
        return False
    return (
        header.sha256 == name
        and there.pack_size == len(data)
        and all(
            hashlib.sha256(data[there.offsets[at] : there.offsets[at + 1]]).digest() == header.rows[at].sha256
            for at in there.there
        )
    )


@given(st.sets(st.integers(0, 300)))
def test_ranges_give_back_their_numbers(chosen: set[int]) -> None:
    """In order, and in as few ranges as there can be."""
    ranges = to_ranges(chosen)
    assert from_ranges(ranges, 301) == sorted(chosen)
    assert len(ranges) // 2 == sum(number - 1 not in chosen for number in chosen)


@given(st.integers(2, 1 << 40))
def test_padme_rounds_up_by_little(size: int) -> None:
    """A padded size is not smaller, at most 12 % larger, and padded already."""
    padded = padme(size)
    assert size <= padded <= size * 1.12 + 1
    assert padme(padded) == padded


@given(st.integers(2, 1 << 20))
def test_padme_is_monotonous(size: int) -> None:
    """A larger object is never padded to a smaller size."""
    assert padme(size) <= padme(size + 1)


@given(st.binary(max_size=100_000))
def test_a_frame_gives_back_its_content(data: bytes) -> None:
    """Decompressing what was compressed is the identity, with a limit that just fits."""
    assert decompress(Compressor(3).compress(data), len(data)) == data


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_unseal_opens_seal(info: bytes, message: bytes) -> None:
    """The message comes out with the same key and info, whatever they are."""
    sealed = suite.seal(PAIR.public, info, message)
    assert len(sealed) == len(message) + suite.SEAL_OVERHEAD
    assert suite.unseal(PAIR.secret, info, sealed) == message


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(names, names, st.none() | names), max_size=6), st.sets(st.integers(0, 5)), st.booleans())
def test_a_keyring_gives_back_its_keys(segments: list, shredded: set[int], rekeyed: bool) -> None:
    """Every recipient gets every key and name but those of removed lines, which read as shredded; rekeyed or not."""
    ids = KeyringIds(REPOSITORY, RegionName("be"), GENERATION, RunId(RUN))
    recipients = [PAIR.public] if rekeyed else [PAIR.public, OTHER.public]
    writer = KeyringWriter(ids, recipients)
    made = {}
    for at, name in enumerate(segments):
        tags = SegmentTags(TenantTag(os.urandom(16).hex()), ClassTag(f"{at % 2:016x}"), DatabaseTag(f"{at % 3:016x}"))
        key, pseudonym = os.urandom(32), Pseudonym(os.urandom(16).hex())
        assert writer.add(pseudonym, key, SegmentName(*name), tags) == at
        made[pseudonym] = key, SegmentName(*name), tags
    data = writer.render("2030-01-01T00:00:00.000000Z", SIGNER)
    if rekeyed:
        data = with_wraps(data, parse_keyring(data, [SIGNER.public], "it"), PAIR.secret, [PAIR.public, OTHER.public])
    gone = {list(made)[place] for place in shredded if place < len(made)}
    left = without_lines(data, parse_keyring(data, [SIGNER.public], "it"), gone)
    kept = [line for line in data.split(b"\n") if line in set(left.split(b"\n"))]
    assert kept == left.split(b"\n")
    assert len(data.split(b"\n")) - len(kept) == len(gone)
    keyring = parse_keyring(left, [SIGNER.public], "it")
    assert (keyring.ids, keyring.shredded) == (ids, gone)
    assert keyring.index == [(pseudonym, tags) for pseudonym, (_, _, tags) in made.items()]
    for identity in (PAIR, OTHER):
        opened = keyring.open(identity.secret)
        opened.check()
        for place, (pseudonym, (key, name, _)) in enumerate(made.items()):
            if pseudonym not in gone:
                found = opened.key(place)
                assert (found.key, found.name) == (key, name)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(names, st.dictionaries(names, json_values, max_size=4), st.integers(0, 2**63 - 1))
def test_a_document_is_its_value(label: str, unknown: dict, count: int) -> None:
    """Encoding and decoding keep every field, unknown ones too, and signing keeps the line as it is."""
    fields = set(Record.__struct_fields__)
    record = Record(
        repository=REPOSITORY,
        region=RegionName("be"),
        generation=GENERATION,
        run=RunId(RUN),
        database=label,
        exported="2030-01-01T00:00:00.000000Z",
        published="2030-01-01T00:00:00.000000Z",
        server=count % 1000000,
        ledger=LedgerHead(seq=count),
        packs=[(ObjectHash("ab" * 32), to_ranges([count]), [])],
        totals=Totals(tables=1, rows=count, bytes=count, stored=count, added=count),
        extra={name: value for name, value in unknown.items() if name not in fields},
    )
    body = encode_body(record)
    assert b"\n" not in body
    assert body == msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    assert decode_body(body, Record, "it") == record
    assert read_document(SIGNER.sign(body, "snapshot"), "snapshot", [SIGNER.public], "it") == body


@given(st.binary(max_size=50))
def test_base64_has_one_text(data: bytes) -> None:
    """The text written is the text read."""
    from backupd.seal.documents import decode_base64

    assert decode_base64(base64.b64encode(data).decode(), "it") == data
