"""Writing sections, FORMAT.md §6: all that one run adds of one segment, block by block."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from backupd.errors import DamageError
from backupd.seal import suite
from backupd.seal.section_format import (
    BLOCK_LIMIT,
    FOOT,
    MOST_BLOCKS,
    MOST_CHUNKS,
    SECTION_LIMIT,
    TRAILER_LIMIT,
    TRAILER_PLACE,
    SectionContext,
    Trailer,
    block_nonce,
    padme,
)
from backupd.seal.zstd import Compressor, decompress


class SectionWriter:
    """The writer of one section under the key of its segment and run; the caller keeps the bytes it returns, in order.

    It is for one thread at a time, and must not be used after `finish`. Every block is opened, decompressed and
    compared before it is returned: memory that flipped a bit must not cause a backup that cannot be read. Thousands of
    writers may be open at once.
    """

    __slots__ = ("_aead", "_digest", "_label", "_trailer", "context", "size")

    def __init__(self, context: SectionContext, key: bytes) -> None:
        self.context = context
        self._aead = suite.Aead(key)
        self._label = context.label()
        self._digest = hashlib.sha256()
        self._trailer = Trailer()
        self.size = 0
        """Bytes of the section so far."""

    @property
    def chunks(self) -> int:
        """The number of chunks so far, which is the number of the next one."""
        return len(self._trailer.chunks)

    def add(self, chunks: Sequence[suite.Buffer], compressor: Compressor, manifest: bytes = b"") -> bytes:
        """Compress, seal and check one block of these chunks and a piece of the manifest; return it sealed.

        Raises ValueError when the content is empty or over the limit, DamageError when the sealed block does not read
        back.
        """
        plain = b"".join((*chunks, manifest)) if len(chunks) != 1 or manifest else chunks[0]
        if not 0 < len(plain) <= BLOCK_LIMIT:
            raise ValueError("a block holds 1 byte to 16 MiB")
        nonce = block_nonce(self.context.number, len(self._trailer.lengths) // 3)
        sealed = self._aead.seal(nonce, compressor.compress(plain), self._label)
        if decompress(self._aead.open(nonce, sealed, self._label), len(plain)) != plain:
            raise DamageError("a block just sealed does not read back", hint="Check this machine's memory.")
        self._trailer.add(len(sealed), len(plain), array("I", map(len, chunks)))
        return self._wrote(sealed)

    def finish(self) -> bytes:
        """Return the trailer, padded so that the section's size is one of the Padmé set.

        Raises ValueError when the trailer or the section exceeds its limit.
        """
        listing = self._trailer.encode()
        bare = self.size + len(listing) + suite.TAG_SIZE + FOOT
        padded = padme(bare)
        plain = listing + bytes(padded - bare)
        many = self.chunks > MOST_CHUNKS or len(self._trailer.lengths) > 3 * MOST_BLOCKS
        if many or len(plain) + suite.TAG_SIZE > TRAILER_LIMIT or padded > SECTION_LIMIT:
            raise ValueError("a section is too large")
        sealed = self._aead.seal(block_nonce(self.context.number, TRAILER_PLACE), plain, self._label)
        return self._wrote(sealed + len(sealed).to_bytes(FOOT, "little"))

    def sha256(self) -> bytes:
        """Return the SHA-256 of all bytes returned so far, 32 bytes."""
        return self._digest.digest()

    def _wrote(self, data: bytes) -> bytes:
        self._digest.update(data)
        self.size += len(data)
        return data
