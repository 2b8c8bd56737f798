"""The format that writer and reader of sections share, FORMAT.md §6: labels, limits, trailer, padding. Pure."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass, field
from typing import Final

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId
from backupd.seal import suite

BLOCK_LIMIT: Final = 16 << 20
"""Upper limit of a block's content in bytes."""
CIPHERTEXT_LIMIT: Final = BLOCK_LIMIT + (128 << 10)
"""Upper limit of a block's ciphertext in bytes: zstandard's worst case for content it cannot compress, and the tag."""
TRAILER_LIMIT: Final = 24 << 20
"""Upper limit of a trailer in bytes: most of it pads a section of a gibibyte."""
MOST_BLOCKS: Final = 1 << 16
MOST_CHUNKS: Final = 1 << 20
"""The most blocks and chunks of a section: a reader takes many times a block's numbers to list it."""
SECTION_LIMIT: Final = 1 << 30
TRAILER_PLACE: Final = (1 << 32) - 1
"""The trailer's place in nonces: it is known before the trailer is read."""
FOOT: Final = 4
"""Bytes of the trailer's length, with which a section ends."""
SMALLEST_SECTION: Final = FOOT + 4 + suite.TAG_SIZE


@dataclass(frozen=True, slots=True)
class SectionContext:
    """The place of a section: its segment, and its number among that segment's sections."""

    repository: RepositoryId
    generation: GenerationId
    segment: Pseudonym
    number: int

    def label(self) -> bytes:
        """Return the additional data that every block is sealed with."""
        return f"backupd/2 section {self.repository} {self.generation} {self.segment}".encode()


def block_nonce(number: int, index: int) -> bytes:
    """Return the nonce of a section's block; sections of one segment and run share their key, and never a number."""
    return number.to_bytes(4, "big") + bytes(4) + index.to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """The place of one block in its section."""

    offset: int
    length: int
    """Bytes of the ciphertext at `offset`."""
    content: int
    """Bytes of the content: the chunks, and then a piece of the manifest."""
    first_chunk: int
    """Number of this block's first chunk within the section."""
    chunk_lengths: array[int]

    @property
    def data(self) -> int:
        """Bytes of the chunks in the content; the rest belongs to the manifest."""
        return sum(self.chunk_lengths)


@dataclass(slots=True)
class Trailer:
    """The list of a section's blocks, which grows as it is written."""

    lengths: array[int] = field(default_factory=lambda: array("I"))
    """Three numbers for each block: bytes of its ciphertext, bytes of its content, number of its chunks."""
    chunks: array[int] = field(default_factory=lambda: array("I"))
    """Bytes of each chunk of the section."""

    def add(self, ciphertext: int, content: int, chunk_lengths: array[int]) -> None:
        """Add the next block, given by sizes in bytes."""
        self.lengths.extend((ciphertext, content, len(chunk_lengths)))
        self.chunks.extend(chunk_lengths)

    def encode(self) -> bytes:
        """Return the trailer's plain text without padding."""
        return b"".join(map(_little, (array("I", [len(self.lengths) // 3]), self.lengths, self.chunks)))

    @classmethod
    def decode(cls, plain: bytes, where: str) -> Trailer:
        """Parse a trailer's plain text with its padding. Raises DamageError."""
        blocks = int.from_bytes(plain[:4], "little")
        start = 4 + 12 * blocks
        if start > len(plain):
            raise DamageError(f"the trailer of '{where}' cannot be read")
        if blocks > MOST_BLOCKS:
            raise DamageError(f"the trailer of '{where}' lists more than {MOST_BLOCKS} blocks")
        lengths = _numbers(plain[4:start])
        chunks = sum(lengths[2::3])
        if chunks > MOST_CHUNKS:
            raise DamageError(f"the trailer of '{where}' lists more than {MOST_CHUNKS} chunks")
        end = start + 4 * chunks
        if end > len(plain) or plain.count(0, end) != len(plain) - end:
            raise DamageError(f"the trailer of '{where}' cannot be read")
        return cls(lengths, _numbers(plain[start:end]))

    def places(self, end: int, where: str) -> list[BlockPlace]:
        """Return the blocks' places; the last one ends at `end`. Raises DamageError for an impossible block."""
        found: list[BlockPlace] = []
        offset = chunk = 0
        numbers = iter(self.lengths)
        for length, content, count in zip(numbers, numbers, numbers, strict=True):
            block = BlockPlace(offset, length, content, chunk, self.chunks[chunk : chunk + count])
            if not 0 < content <= BLOCK_LIMIT or length > CIPHERTEXT_LIMIT or block.data > content:
                raise DamageError(f"the trailer of '{where}' lists an impossible block")
            found.append(block)
            offset += length
            chunk += count
        if offset != end:
            raise DamageError(f"the blocks of '{where}' are not where its trailer says")
        return found


def _numbers(data: bytes) -> array[int]:
    numbers = array("I")
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def padme(size: int) -> int:
    """Return the smallest size of the Padmé set that is at least `size` (Nikitin et al. 2019); `size` is at least 2."""
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    step = 1 << low_bits
    return (size + step - 1) & -step
