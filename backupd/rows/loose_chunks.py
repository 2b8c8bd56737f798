"""Loose chunks: what came for a section and is too little for a block, sealed in the spool until there is enough.

With thousands of tenants the worker's memory holds a few kilobytes of each. Compressed by itself, so little takes half
as much space again, and more time than compressing it costs later. So it is kept as it came, under a key that only
this process has, and compressed once, with what follows.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backupd.errors import DamageError
from backupd.rows.block_spool import BlockSpool, Extent
from backupd.seal import suite

_AAD = b"backupd loose"


@dataclass(slots=True)
class Loose:
    """The loose chunks of one section, in order."""

    extents: array[int] = field(default_factory=lambda: array("q"))
    """Of each piece that was added: the three numbers of its extent, and the number it is sealed under."""
    lengths: array[int] = field(default_factory=lambda: array("I"))
    """Bytes of each chunk."""
    size: int = 0
    """Plain bytes of all of them."""


class LooseChunks:
    """The loose chunks of one worker's sections. For one thread. Its methods raise SpoolFullError."""

    def __init__(self, folder: Path, prefix: str, random: Callable[[int], bytes] = os.urandom) -> None:
        self._spool = BlockSpool(folder, prefix)
        self._aead = suite.Aead(random(suite.KEY_SIZE))
        self._written = 0
        """Pieces so far: each is sealed under its number."""

    def add(self, loose: Loose, chunks: Sequence[suite.Buffer], size: int) -> None:
        """Add chunks of `size` bytes together to a section's loose ones."""
        self._written += 1
        plain = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        extent = self._spool.append(self._aead.seal(suite.nonce(self._written), plain, _AAD))
        loose.extents.extend((*extent, self._written))
        loose.lengths.extend(map(len, chunks))
        loose.size += size

    def take(self, loose: Loose) -> list[suite.Buffer]:
        """Return a section's loose chunks, and give their room back. Raises DamageError when they were altered."""
        numbers = iter(loose.extents)
        try:
            pieces = [
                self._aead.open(suite.nonce(number), self._spool.take(Extent(file, offset, length)), _AAD)
                for file, offset, length, number in zip(numbers, numbers, numbers, numbers, strict=True)
            ]
        except suite.NotAuthenticError as error:
            raise DamageError("the spool was altered while it was in use", hint="Check the spool's disk.") from error
        chunks: list[suite.Buffer] = []
        plain, at = memoryview(b"".join(pieces)), 0
        for length in loose.lengths:
            chunks.append(plain[at : at + length])
            at += length
        return chunks

    def close(self) -> None:
        """Remove what is left."""
        self._spool.close()
