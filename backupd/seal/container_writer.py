"""Writing containers, FORMAT.md §6: packs and parts, which hold the sealed blocks of exactly one segment.

The reader is in `container_reader`, what both share in `container_format`; callers import all of it from here.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from backupd.errors import DamageError
from backupd.model.ids import ObjectHash
from backupd.seal import suite
from backupd.seal.container_format import (
    BLOCK_LIMIT,
    CHUNK_ID_SIZE,
    CONTAINER_LIMIT,
    DATA,
    DATA_KEY_INFO,
    END,
    HEADER_LIMIT,
    MAGIC,
    MANIFEST,
    TRAILER,
    TRAILER_INDEX,
    TRAILER_LIMIT,
    ContainerContext,
    Header,
    block_aad,
    header_length,
    padme,
    read_header,
)
from backupd.seal.container_reader import BlockPlace, ContainerReader
from backupd.seal.zstd import Compressor, decompress

__all__ = [
    "DATA",
    "MANIFEST",
    "BlockPlace",
    "ContainerContext",
    "ContainerReader",
    "ContainerWriter",
    "FinishedContainer",
    "Header",
    "Writable",
    "header_length",
    "read_header",
]


class Writable(Protocol):
    """The output of a container: takes bytes in order."""

    def write(self, data: bytes, /) -> object: ...


@dataclass(frozen=True, slots=True)
class FinishedContainer:
    """A container that was written completely: its hash, and its size in bytes."""

    sha256: ObjectHash
    size: int


class ContainerWriter:
    """Writer of one container to `out`, sealed to the public key `public`.

    It is for one thread at a time, and must not be used after `finish`. Every block is opened, decompressed and
    compared before it is written: memory that flipped a bit must not cause a backup that cannot be read. Thousands of
    writers may be open at once, so they keep only the trailer's line of each block.
    """

    __slots__ = ("_aead", "_blocks", "_bound", "_compressor", "_digest", "_out", "chunks", "context", "ids", "size")

    def __init__(  # noqa: PLR0913 - where it goes, what it is, for whom and how are different things
        self,
        out: Writable,
        kind: str,
        context: ContainerContext,
        public: bytes,
        *,
        compressor: Compressor,
        packs: Sequence[tuple[ObjectHash, int]] = (),
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Write the header and the sealed data key; `kind` is `pack` or `part`, `packs` are a part's other containers.

        Raises ValueError when a part names too many packs.
        """
        self.context = context
        self._out = out
        self._compressor = compressor
        self._digest = hashlib.sha256()
        self.ids = bytearray()
        """Ids of all chunks so far, 16 bytes each."""
        self._blocks: list[msgspec.Raw] = []
        self.size = 0
        """Number of bytes written so far."""
        self.chunks = 0
        """Number of chunks so far, which is the number of the next one."""
        clear = _clear_header(kind, context, random(16).hex(), packs)
        self._bound = hashlib.sha256(clear).digest()
        key = random(suite.KEY_SIZE)
        self._aead = suite.Aead(key)
        self._write(clear + suite.seal(public, DATA_KEY_INFO + self._bound, key))

    def add(self, kind: int, plain: suite.Buffer, chunk_lengths: Sequence[int] = (), ids: bytes = b"") -> None:
        """Compress, seal, check and write one block; `kind` is DATA or MANIFEST.

        The chunks of a data block have the lengths and ids given, 16 bytes each. Raises ValueError when they disagree
        with the content, or when the content is empty or over the limit, DamageError when the sealed block does not
        read back.
        """
        _check_block(kind, plain, chunk_lengths, ids)
        place = suite.nonce(len(self._blocks))
        aad = block_aad(self._bound, len(self._blocks), kind)
        sealed = self._aead.seal(place, self._compressor.compress(plain), aad)
        if decompress(self._aead.open(place, sealed, aad), len(plain)) != plain:
            raise DamageError("a block just sealed does not read back", hint="Check this machine's memory.")
        self._blocks.append(msgspec.Raw(msgspec.json.encode((kind, len(sealed), len(plain), chunk_lengths))))
        self.ids += ids
        self.chunks += len(chunk_lengths)
        self._write(sealed)

    def finish(self) -> FinishedContainer:
        """Write the trailer, padded to a size of the Padmé set.

        Raises ValueError when the trailer or the container exceeds its limit.
        """
        listing = msgspec.json.encode({"blocks": self._blocks, "ids": base64.b64encode(self.ids).decode()})
        frame = self._compressor.compress(listing)
        bare = self.size + 4 + len(frame) + suite.TAG_SIZE + 4 + len(END)
        padded = padme(bare)
        plain = len(frame).to_bytes(4, "little") + frame + bytes(padded - bare)
        if len(plain) + suite.TAG_SIZE > TRAILER_LIMIT or len(listing) > TRAILER_LIMIT or padded > CONTAINER_LIMIT:
            raise ValueError("a container is too large")
        aad = block_aad(self._bound, TRAILER_INDEX, TRAILER)
        sealed = self._aead.seal(suite.nonce(TRAILER_INDEX), plain, aad)
        self._write(sealed + len(sealed).to_bytes(4, "little") + END)
        return FinishedContainer(ObjectHash(self._digest.hexdigest()), self.size)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._out.write(data)
        self.size += len(data)


def _clear_header(
    kind: str, context: ContainerContext, container: str, packs: Sequence[tuple[ObjectHash, int]]
) -> bytes:
    fields: dict[str, object] = {
        "format": 1,
        "repository": context.repository,
        "generation": context.generation,
        "segment": context.segment,
        "id": container,
    }
    if kind == "part":
        fields["packs"] = packs
    header = msgspec.json.encode(fields, order="sorted")
    if len(header) > HEADER_LIMIT:
        raise ValueError("a part names too many packs")
    return MAGIC[kind] + len(header).to_bytes(4, "little") + header


def _check_block(kind: int, plain: suite.Buffer, chunk_lengths: Sequence[int], ids: bytes) -> None:
    if not 0 < len(plain) <= BLOCK_LIMIT:
        raise ValueError("a block holds 1 byte to 16 MiB")
    if len(ids) != CHUNK_ID_SIZE * len(chunk_lengths):
        raise ValueError("every chunk has one id")
    if sum(chunk_lengths) != (len(plain) if kind == DATA else 0) or kind not in (DATA, MANIFEST):
        raise ValueError("a data block is its chunks, a manifest block has none")
