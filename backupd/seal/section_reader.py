"""Reading sections, FORMAT.md §6: nothing is believed before its tag is checked, or allocated before its size is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backupd.errors import DamageError
from backupd.seal import suite
from backupd.seal.section_format import (
    FOOT,
    SMALLEST_SECTION,
    TRAILER_LIMIT,
    TRAILER_PLACE,
    BlockPlace,
    SectionContext,
    Trailer,
    block_nonce,
)
from backupd.seal.zstd import decompress


class SectionReader:
    """One section, opened with the key of its segment and run.

    `read_at(offset, length)` returns that many of the section's bytes, which the caller has compared with the SHA-256
    in the pack's header, or will before it relies on what was read. The trailer is read and checked on construction.
    Blocks may be opened by several threads when `read_at` allows it.
    """

    __slots__ = ("_aead", "_label", "_read_at", "blocks", "context", "where")

    def __init__(
        self, read_at: Callable[[int, int], bytes], size: int, *, key: bytes, context: SectionContext, where: str
    ) -> None:
        """Open a section of `size` bytes; `where` names it in messages. Raises DamageError."""
        self.where = where
        self.context = context
        self._read_at = read_at
        self._aead = suite.Aead(key)
        self._label = context.label()
        self.blocks = self._read_trailer(size)
        """The places of all blocks, in order."""

    @property
    def chunks(self) -> int:
        """The number of chunks in all blocks."""
        return self.blocks[-1].first_chunk + len(self.blocks[-1].chunk_lengths) if self.blocks else 0

    def open_block(self, index: int, ciphertext: suite.Buffer | None = None) -> bytes:
        """Return the content of one block; `ciphertext` when the caller has read it already.

        Raises DamageError.
        """
        block = self.blocks[index]
        if ciphertext is None:
            ciphertext = self._exactly(block.offset, block.length)
        try:
            frame = self._aead.open(block_nonce(self.context.number, index), ciphertext, self._label)
        except suite.NotAuthenticError as error:
            raise DamageError(f"block {index} of '{self.where}' is not authentic") from error
        try:
            content = decompress(frame, block.content)
        except DamageError as error:
            raise DamageError(f"block {index} of '{self.where}' cannot be read: {error.message}") from error
        if len(content) != block.content:
            raise DamageError(f"block {index} of '{self.where}' is not as long as its trailer says")
        return content

    def manifest(self) -> Iterator[bytes]:
        """Yield the manifest, piece by piece; nothing for a section that has none. Raises DamageError."""
        for index, block in enumerate(self.blocks):
            if block.data < block.content:
                yield self.open_block(index)[block.data :]

    def _read_trailer(self, size: int) -> list[BlockPlace]:
        if size < SMALLEST_SECTION:
            raise DamageError(f"'{self.where}' is cut short")
        length = int.from_bytes(self._exactly(size - FOOT, FOOT), "little")
        start = size - FOOT - length
        if length > TRAILER_LIMIT or start < 0 or length < suite.TAG_SIZE + 4:
            raise DamageError(f"the trailer of '{self.where}' has an impossible length")
        try:
            plain = self._aead.open(
                block_nonce(self.context.number, TRAILER_PLACE), self._exactly(start, length), self._label
            )
        except suite.NotAuthenticError as error:
            raise DamageError(f"the trailer of '{self.where}' is not authentic") from error
        return Trailer.decode(plain, self.where).places(start, self.where)

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read_at(offset, length)
        if len(data) != length:
            raise DamageError(f"'{self.where}' is cut short")
        return data
