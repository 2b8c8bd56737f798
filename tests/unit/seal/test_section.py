"""Sections against everything that can happen to their bytes."""

from __future__ import annotations

import hashlib
import os
import sys
from array import array
from collections.abc import Sequence
from dataclasses import replace

import pytest

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId
from backupd.seal import section_writer, suite, zstd
from backupd.seal.section_format import BLOCK_LIMIT, SectionContext, Trailer
from backupd.seal.section_reader import SectionReader
from backupd.seal.section_writer import SectionWriter
from backupd.seal.zstd import Compressor

KEY = bytes(range(32))
CONTEXT = SectionContext(RepositoryId("0f" * 16), GenerationId("20300101T000000Z-0a0b0c0d"), Pseudonym("5e" * 16), 7)
ROWS = [b"one\n", b"two and more\n", b"three\n"]


def section(*blocks: Sequence[bytes], manifest: bytes = b"") -> bytes:
    """A section of these blocks of chunks; the last one takes the manifest, too."""
    writer, compressor = SectionWriter(CONTEXT, KEY), Compressor(3)
    parts = [writer.add(chunks, compressor) for chunks in blocks]
    if manifest:
        parts.append(writer.add((), compressor, manifest))
    return b"".join((*parts, writer.finish()))


def small() -> bytes:
    return section(*([row] for row in ROWS), manifest=b"{}\n")


def reader_of(data: bytes, *, key: bytes = KEY, context: SectionContext = CONTEXT) -> SectionReader:
    return SectionReader(lambda o, n: data[o : o + n], len(data), key=key, context=context, where="packs/x, section 3")


def everything(data: bytes) -> list[bytes]:
    reader = reader_of(data)
    return [reader.open_block(at) for at in range(len(reader.blocks))]


def test_every_flipped_bit_is_found() -> None:
    """There is no bit of a section that may change, even without the hash in its pack's header."""
    data = small()
    assert everything(data) == [*ROWS, b"{}\n"]
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(DamageError, match="packs/x, section 3"):
            everything(bytes(flipped))


def test_every_cut_is_found() -> None:
    """A section that ends anywhere but at its end does not read; nor does one with a byte more."""
    data = small()
    for length in range(len(data)):
        with pytest.raises(DamageError, match="packs/x, section 3"):
            everything(data[:length])
    with pytest.raises(DamageError, match="packs/x, section 3"):
        everything(data + b"\0")


def test_a_section_that_shrank_since_its_size_was_seen_is_found() -> None:
    """Whatever is left of it."""
    data = small()
    for left in range(len(data)):
        with pytest.raises(DamageError, match="'packs/x, section 3' is cut short"):
            SectionReader(
                lambda o, n, left=left: data[:left][o : o + n], len(data), key=KEY, context=CONTEXT,
                where="packs/x, section 3",
            )  # fmt: skip


@pytest.mark.parametrize(
    "context",
    [
        replace(CONTEXT, number=8),
        replace(CONTEXT, segment=Pseudonym("5f" * 16)),
        replace(CONTEXT, generation=GenerationId("20300101T000000Z-0a0b0c0e")),
        replace(CONTEXT, repository=RepositoryId("0e" * 16)),
    ],
    ids=["number", "segment", "generation", "repository"],
)
def test_a_section_opens_in_its_own_place_only(context: SectionContext) -> None:
    """The same bytes and the same key under another name are not authentic."""
    with pytest.raises(DamageError, match="not authentic"):
        reader_of(small(), context=context)


def test_a_frame_that_gives_less_than_it_says_is_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library would have to be wrong: a manifest cut short would hide rows."""

    class Short:
        def decompress(self, *_: object, **__: object) -> bytes:
            return b"on"

    monkeypatch.setattr(zstd, "_decompressor", Short)
    with pytest.raises(DamageError, match="a compressed frame cannot be read"):
        zstd.decompress(Compressor(3).compress(b"one\n"), 10)


def test_another_key_does_not_open() -> None:
    """The wrong key is damage of the object: the right one came from a signed keyring."""
    with pytest.raises(DamageError, match=r"trailer .* is not authentic"):
        reader_of(small(), key=bytes(32))


def test_a_reader_asks_for_no_more_than_it_needs() -> None:
    """A large section is opened by its end, and a block read by its own bytes; no length is believed unchecked."""
    content = os.urandom(400_000)
    data, asked = section([content], [content]), []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    reader = SectionReader(read_at, len(data), key=KEY, context=CONTEXT, where="x")
    assert sum(asked) < 60_000
    asked.clear()
    assert reader.open_block(1) == content
    assert asked == [reader.blocks[1].length]


def test_a_block_already_read_can_be_opened() -> None:
    """A caller that fetched the ciphertext itself hands it over; no block passes for another."""
    data = small()
    reader = reader_of(data)
    block = reader.blocks[1]
    assert reader.open_block(1, data[block.offset : block.offset + block.length]) == ROWS[1]
    with pytest.raises(DamageError, match="block 0"):
        reader.open_block(0, data[block.offset : block.offset + block.length])


def test_chunks_and_manifest_may_share_a_block() -> None:
    """The chunks come first; what is behind them is the manifest, and a later block continues it."""
    writer, compressor = SectionWriter(CONTEXT, KEY), Compressor(3)
    first = writer.add([b"ab", b"cde"], compressor, b"begin ")
    assert writer.chunks == 2
    data = b"".join((first, writer.add((), compressor, b"end\n"), writer.finish()))
    reader = reader_of(data)
    assert b"".join(reader.manifest()) == b"begin end\n"
    assert [(block.data, list(block.chunk_lengths)) for block in reader.blocks] == [(5, [2, 3]), (0, [])]
    assert reader.chunks == 2


def test_a_section_knows_its_size_and_hash() -> None:
    """What the header is to say of a section is there when its last byte is."""
    writer = SectionWriter(CONTEXT, KEY)
    data = writer.add([b"rows\n"], Compressor(3)) + writer.finish()
    assert (writer.size, writer.sha256()) == (len(data), hashlib.sha256(data).digest())


@pytest.mark.parametrize("chunks", [[], [b""], [bytes(BLOCK_LIMIT), b"x"]], ids=["none", "empty", "large"])
def test_the_writer_refuses_blocks_no_reader_would_take(chunks: list[bytes]) -> None:
    """Limits are checked before anything is sealed."""
    writer = SectionWriter(CONTEXT, KEY)
    with pytest.raises(ValueError, match="block"):
        writer.add(chunks, Compressor(1))
    assert writer.size == 0


def test_a_block_of_the_largest_size_passes() -> None:
    """16 MiB that cannot be compressed are written and read."""
    content = os.urandom(BLOCK_LIMIT)
    assert everything(section([content])) == [content]


def test_a_block_that_does_not_read_back_is_not_written() -> None:
    """The self-check stops a compressor that lost a bit before the bytes leave memory."""

    class BadMemory(Compressor):
        def compress(self, data: suite.Buffer) -> bytes:
            return super().compress(bytes(data)[:-1] + b"!")

    writer = SectionWriter(CONTEXT, KEY)
    with pytest.raises(DamageError, match="does not read back"):
        writer.add([b"some rows\n"], BadMemory(3))
    assert writer.size == 0


def test_a_section_over_its_limit_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer is told at once what no reader would take."""
    monkeypatch.setattr(section_writer, "SECTION_LIMIT", 10_000)
    writer = SectionWriter(CONTEXT, KEY)
    writer.add([os.urandom(10_000)], Compressor(1))
    with pytest.raises(ValueError, match="too large"):
        writer.finish()


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\1\0\0\0",
        b"\1\0\0\0" + bytes(12) + b"\1",
        b"\xff\xff\xff\xff" + bytes(100),
        b"\1\0\0\0" + (9).to_bytes(4, "little") + (9).to_bytes(4, "little") + b"\xff\xff\xff\xff" + bytes(64),
    ],
    ids=["empty", "cut", "padding", "blocks", "chunks"],
)
def test_a_trailer_is_believed_in_nothing(plain: bytes) -> None:
    """Counts beyond the bytes there, and padding that is not zero, are damage."""
    with pytest.raises(DamageError, match="trailer"):
        Trailer.decode(plain, "x").places(0, "x")


def test_a_trailer_is_the_same_bytes_on_a_machine_of_the_other_byte_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are little-endian wherever they are written; here the other order's bytes come out swapped."""
    trailer = Trailer()
    trailer.add(40, 5, array("I", [2, 3]))
    usual = trailer.encode()
    other = "big" if sys.byteorder == "little" else "little"
    monkeypatch.setattr(sys, "byteorder", other)
    swapped = trailer.encode()
    assert swapped == b"".join(usual[at : at + 4][::-1] for at in range(0, len(usual), 4))
    again = Trailer.decode(usual[:4] + swapped[4:], "it")
    monkeypatch.undo()
    assert again.encode() == usual
