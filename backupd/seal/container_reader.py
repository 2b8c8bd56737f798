"""Reading containers, FORMAT.md §6: nothing is believed before its tag is checked, or allocated before its size is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import ObjectHash
from backupd.model.text import UnreadableError, from_json
from backupd.seal import suite
from backupd.seal.container_format import (
    BLOCK_LIMIT,
    CHUNK_ID_SIZE,
    CIPHERTEXT_LIMIT,
    CLEAR_START,
    CONTAINER_LIMIT,
    DATA,
    DATA_KEY_INFO,
    END,
    MANIFEST,
    SEALED_KEY_SIZE,
    SMALLEST,
    TRAILER,
    TRAILER_INDEX,
    TRAILER_LIMIT,
    ContainerContext,
    Header,
    block_aad,
    header_length,
    read_header,
)
from backupd.seal.documents import decode_base64
from backupd.seal.zstd import decompress

_FIRST_READ = 16 << 10
"""Bytes read first: one round trip fetches header and data key of all but parts with very many packs."""
_WHOLE = 256 << 10
"""Bytes up to which a container is read in one go: a round trip costs more than the bytes."""

_Length = Annotated[int, msgspec.Meta(ge=0, le=CIPHERTEXT_LIMIT)]


class _Listing(msgspec.Struct, frozen=True):
    blocks: list[tuple[int, _Length, _Length, list[_Length]]]
    ids: str


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """The place of one block in its container."""

    kind: int
    """The kind of block: DATA or MANIFEST."""
    offset: int
    length: int
    """Bytes of the ciphertext at `offset`."""
    plain_length: int
    first_chunk: int
    """Number of this block's first chunk within the container."""
    chunk_lengths: list[int]


class ContainerReader:
    """One container of the segment that `context` names, opened with that segment's secret half.

    `read_at(offset, length)` returns that many bytes of the object, fewer only at its end. Header, data key and trailer
    are read and checked on construction. Blocks may be opened by several threads when `read_at` allows it.
    """

    def __init__(  # noqa: PLR0913 - what it is read from, opened with and called are different things
        self,
        read_at: Callable[[int, int], bytes],
        size: int,
        *,
        secret: bytes,
        context: ContainerContext,
        where: str,
        data_keys: MutableMapping[bytes, bytes] | None = None,
    ) -> None:
        """Open a container of `size` bytes; `where` names it in messages.

        `data_keys` is a cache of data keys by the digest of the clear part, which spares unsealing the data key a
        second time. Raises DamageError, and RefusedError for an unknown format.
        """
        self.where = where
        if not SMALLEST <= size <= CONTAINER_LIMIT:
            raise DamageError(f"'{where}' is cut short or too large to be a container")
        self._read_at = read_at
        if size <= _WHOLE:
            whole = read_at(0, size)
            self._read_at = lambda offset, length: whole[offset : offset + length]
        self.header = self._read_header(size)
        if self.header.context != context:
            raise DamageError(f"'{where}' belongs to another segment, generation or repository")
        self._bound = hashlib.sha256(self.header.raw).digest()
        key = None if data_keys is None else data_keys.get(self._bound)
        if key is None:
            key = self._open_data_key(secret)
            if data_keys is not None:
                data_keys[self._bound] = key
        self._aead = suite.Aead(key)
        start = len(self.header.raw) + SEALED_KEY_SIZE
        self.blocks, self.ids = self._read_trailer(start, size)

    @property
    def packs(self) -> list[tuple[ObjectHash, int]]:
        """The other containers of a part, with their sizes in bytes."""
        return self.header.packs

    @property
    def chunks(self) -> int:
        """The number of chunks in all data blocks."""
        return sum(len(block.chunk_lengths) for block in self.blocks)

    def open_block(self, index: int, ciphertext: bytes | None = None) -> bytes:
        """Return the content of one block; `ciphertext` when the caller has read it already.

        Raises DamageError.
        """
        block = self.blocks[index]
        if ciphertext is None:
            ciphertext = self._exactly(block.offset, block.length)
        try:
            frame = self._aead.open(suite.nonce(index), ciphertext, block_aad(self._bound, index, block.kind))
        except suite.NotAuthenticError as error:
            raise DamageError(f"block {index} of '{self.where}' is not authentic") from error
        return self._content(frame, block.plain_length, f"block {index}")

    def _read_header(self, size: int) -> Header:
        prefix = self._read_at(0, min(size, _FIRST_READ))
        length = header_length(prefix, self.where)
        if length + SMALLEST - CLEAR_START > size:
            raise DamageError(f"the header of '{self.where}' is larger than allowed")
        if length > len(prefix):
            prefix = self._exactly(0, length)
        return read_header(prefix, self.where)

    def _open_data_key(self, secret: bytes) -> bytes:
        sealed = self._exactly(len(self.header.raw), SEALED_KEY_SIZE)
        try:
            return suite.unseal(secret, DATA_KEY_INFO + self._bound, sealed)
        except suite.NotAuthenticError as error:
            # The secret half came from a signed keyring, so it is the object that is wrong.
            raise DamageError(f"the data key of '{self.where}' is not authentic") from error

    def _read_trailer(self, start: int, size: int) -> tuple[list[BlockPlace], bytes]:
        foot = self._exactly(size - 4 - len(END), 4 + len(END))
        length = int.from_bytes(foot[:4], "little")
        if foot[4:] != END:
            raise DamageError(f"'{self.where}' is cut short or has bytes after its end")
        offset = size - 4 - len(END) - length
        if length > TRAILER_LIMIT or offset < start or length < suite.TAG_SIZE + 4:
            raise DamageError(f"the trailer of '{self.where}' has an impossible length")
        aad = block_aad(self._bound, TRAILER_INDEX, TRAILER)
        try:
            plain = self._aead.open(suite.nonce(TRAILER_INDEX), self._exactly(offset, length), aad)
        except suite.NotAuthenticError as error:
            raise DamageError(f"the trailer of '{self.where}' is not authentic") from error
        return self._blocks(self._listing(plain), start, offset)

    def _listing(self, plain: bytes) -> _Listing:
        length = int.from_bytes(plain[:4], "little")
        if length > len(plain) - 4 or plain.count(0, 4 + length) != len(plain) - 4 - length:
            raise DamageError(f"the trailer of '{self.where}' is not padded with zeros")
        listing = self._content(plain[4 : 4 + length], TRAILER_LIMIT, "the trailer", exact=False)
        try:
            return from_json(listing, _Listing)
        except UnreadableError as error:
            raise DamageError(f"the trailer of '{self.where}' cannot be read") from error

    def _blocks(self, listing: _Listing, start: int, end: int) -> tuple[list[BlockPlace], bytes]:
        blocks: list[BlockPlace] = []
        offset, chunk = start, 0
        for kind, length, plain_length, chunk_lengths in listing.blocks:
            whole = plain_length if kind == DATA else 0
            if kind not in (DATA, MANIFEST) or sum(chunk_lengths) != whole or not 0 < plain_length <= BLOCK_LIMIT:
                raise DamageError(f"the trailer of '{self.where}' lists an impossible block")
            blocks.append(BlockPlace(kind, offset, length, plain_length, chunk, chunk_lengths))
            offset += length
            chunk += len(chunk_lengths)
        if offset != end:
            raise DamageError(f"the blocks of '{self.where}' are not where its trailer says")
        ids = decode_base64(listing.ids, self.where)
        if len(ids) != CHUNK_ID_SIZE * chunk:
            raise DamageError(f"the trailer of '{self.where}' does not name every chunk")
        return blocks, ids

    def _content(self, frame: bytes, limit: int, what: str, *, exact: bool = True) -> bytes:
        try:
            content = decompress(frame, limit)
        except DamageError as error:
            raise DamageError(f"{what} of '{self.where}' cannot be read: {error.message}") from error
        if exact and len(content) != limit:
            raise DamageError(f"{what} of '{self.where}' is not as long as its trailer says")
        return content

    def _exactly(self, offset: int, length: int) -> bytes:
        data = self._read_at(offset, length)
        if len(data) != length:
            raise DamageError(f"'{self.where}' is cut short")
        return data
