"""Containers against everything that can happen to a file."""

from __future__ import annotations

import io
import os

import pytest

from backupd.errors import BackupdError, DamageError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId
from backupd.seal import container_writer, suite
from backupd.seal.container_format import DATA, MANIFEST, ContainerContext
from backupd.seal.container_reader import ContainerReader
from backupd.seal.container_writer import ContainerWriter
from backupd.seal.zstd import Compressor

PAIR = suite.generate()
CONTEXT = ContainerContext(RepositoryId("0f" * 16), GenerationId("20300101T000000Z-0a0b0c0d"), Pseudonym("5e" * 16))
ROWS = [b"one\n", b"two and more\n", b"three\n"]


def small() -> bytes:
    out = io.BytesIO()
    writer = ContainerWriter(out, "pack", CONTEXT, PAIR.public, compressor=Compressor(3))
    for row in ROWS:
        writer.add(DATA, row, [len(row)], bytes(16))
    writer.add(MANIFEST, b"{}\n")
    writer.finish()
    return out.getvalue()


def everything(data: bytes) -> list[bytes]:
    reader = ContainerReader(
        lambda o, n: data[o : o + n], len(data), secret=PAIR.secret, context=CONTEXT, where="segments/x"
    )
    return [reader.open_block(at) for at in range(len(reader.blocks))]


def test_every_flipped_bit_is_found() -> None:
    """There is no bit of a container that may change."""
    data = small()
    assert everything(data) == [*ROWS, b"{}\n"]
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        with pytest.raises(BackupdError, match="segments/x"):
            everything(bytes(flipped))


def test_a_key_is_opened_once() -> None:
    """Where keys are kept, a container opens again without its segment's secret, and no other container does."""
    data, other = small(), small()
    keys: dict[bytes, bytes] = {}

    def read(what: bytes, secret: bytes) -> bytes:
        reader = ContainerReader(
            lambda o, n: what[o : o + n],
            len(what),
            secret=secret,
            context=CONTEXT,
            where="segments/x",
            data_keys=keys,
        )
        return reader.open_block(0)

    stranger = suite.generate().secret
    with pytest.raises(DamageError):
        read(data, stranger)
    assert read(data, PAIR.secret) == read(data, stranger) == ROWS[0]
    with pytest.raises(DamageError):
        read(other, stranger)


def test_every_cut_is_found() -> None:
    """A container that ends anywhere but at its end does not read."""
    data = small()
    for length in range(len(data)):
        with pytest.raises(DamageError, match="segments/x"):
            everything(data[:length])


def test_a_reader_asks_for_no_more_than_it_needs() -> None:
    """A large container is opened by its ends, and a block read by its own bytes; no length is believed unchecked."""
    out = io.BytesIO()
    writer = ContainerWriter(out, "pack", CONTEXT, PAIR.public, compressor=Compressor(1))
    content = os.urandom(400_000)
    writer.add(DATA, content, [len(content)], bytes(16))
    writer.add(DATA, content, [len(content)], bytes(16))
    writer.finish()
    data, asked = out.getvalue(), []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        return data[offset : offset + length]

    reader = ContainerReader(read_at, len(data), secret=PAIR.secret, context=CONTEXT, where="x")
    assert sum(asked) < 60_000
    asked.clear()
    assert reader.open_block(1) == content
    assert asked == [reader.blocks[1].length]


def test_a_block_already_read_can_be_opened() -> None:
    """A caller that fetched the ciphertext itself hands it over."""
    data = small()
    reader = ContainerReader(lambda o, n: data[o : o + n], len(data), secret=PAIR.secret, context=CONTEXT, where="x")
    block = reader.blocks[1]
    assert reader.open_block(1, data[block.offset : block.offset + block.length]) == ROWS[1]
    with pytest.raises(DamageError, match="block 0"):
        reader.open_block(0, data[block.offset : block.offset + block.length])


def test_another_segments_key_does_not_open() -> None:
    """The wrong secret half is damage of the object: the right one came from a signed keyring."""
    data = small()
    with pytest.raises(DamageError, match="data key"):
        ContainerReader(
            lambda o, n: data[o : o + n], len(data), secret=suite.generate().secret, context=CONTEXT, where="x"
        )


@pytest.mark.parametrize(
    ("kind", "plain", "lengths", "ids"),
    [
        (DATA, b"", [], b""),
        (DATA, b"abc", [2], bytes(16)),
        (DATA, b"abc", [3], b""),
        (MANIFEST, b"abc", [3], bytes(16)),
        (3, b"abc", [3], bytes(16)),
        (DATA, bytes((16 << 20) + 1), [(16 << 20) + 1], bytes(16)),
    ],
)
def test_the_writer_refuses_blocks_no_reader_would_take(kind: int, plain: bytes, lengths: list, ids: bytes) -> None:
    """Limits and sums are checked before anything is written."""
    out = io.BytesIO()
    writer = ContainerWriter(out, "pack", CONTEXT, PAIR.public, compressor=Compressor(1))
    before = out.getvalue()
    with pytest.raises(ValueError, match=r"block|chunk"):
        writer.add(kind, plain, lengths, ids)
    assert out.getvalue() == before


def test_a_block_of_the_largest_size_passes() -> None:
    """16 MiB that cannot be compressed are written and read."""
    content = os.urandom(16 << 20)
    out = io.BytesIO()
    writer = ContainerWriter(out, "pack", CONTEXT, PAIR.public, compressor=Compressor(1))
    writer.add(DATA, content, [len(content)], bytes(16))
    writer.finish()
    assert everything(out.getvalue()) == [content]


def test_a_block_that_does_not_read_back_is_not_written() -> None:
    """The self-check stops a compressor that lost a bit before the bytes leave memory."""

    class BadMemory(Compressor):
        def compress(self, data: suite.Buffer) -> bytes:
            return super().compress(bytes(data)[:-1] + b"!")

    out = io.BytesIO()
    writer = ContainerWriter(out, "pack", CONTEXT, PAIR.public, compressor=BadMemory(3))
    before = out.getvalue()
    with pytest.raises(DamageError, match="does not read back"):
        writer.add(DATA, b"some rows\n", [10], bytes(16))
    assert out.getvalue() == before


def test_the_header_needs_no_key() -> None:
    """Deletion and verification read which packs a part names without any secret."""
    out = io.BytesIO()
    packs = [("ab" * 32, 17), ("cd" * 32, 4)]
    ContainerWriter(out, "part", CONTEXT, PAIR.public, compressor=Compressor(1), packs=packs).finish()
    header = container_writer.read_header(out.getvalue(), "x")
    assert (header.kind, header.context, header.packs) == ("part", CONTEXT, packs)
    assert container_writer.header_length(out.getvalue()[:12], "x") == len(header.raw)
