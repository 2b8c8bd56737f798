"""Checks of containers: their clear headers, all their bytes against their names, and, with a key, every block."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import IO

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, Pseudonym, RepositoryId
from backupd.planning.verify import ContainerKey, Stored
from backupd.seal import suite
from backupd.seal.container_format import (
    CHUNK_ID_SIZE,
    CLEAR_START,
    DATA,
    ContainerContext,
    Header,
    header_length,
    read_header,
)
from backupd.seal.container_reader import ContainerReader
from backupd.store.base import Store

_FIRST = 64 << 10
"""Bytes read of every part and orphan: all of most parts, and the header of the others."""
_PIECE = 4 << 20


class ContainerChecker:
    """A checker of one generation's containers. For several threads at once."""

    def __init__(self, store: Store, repository: RepositoryId, generation: GenerationId) -> None:
        self._store = store
        self._repository = repository
        self._generation = generation

    def header(self, key: ContainerKey, stored: Stored) -> tuple[Header, bool]:
        """Return the clear header, and whether the object was small enough to be read and checked as a whole.

        Raises DamageError when kind, place or hash differ from what the name says, RefusedError, ObjectMissingError.
        """
        data = self._store.get(stored.name, 0, _FIRST)
        whole = stored.size <= _FIRST
        if whole and (len(data) != stored.size or hashlib.sha256(data).hexdigest() != key.sha256):
            raise DamageError(f"'{stored.name}' does not have the hash its name says")
        length = header_length(data[:CLEAR_START], stored.name)
        if length > stored.size:
            raise DamageError(f"the header of '{stored.name}' is larger than allowed")
        if length > len(data):
            data = self._store.get(stored.name, 0, length)
        header = read_header(data, stored.name)
        self._check_place(header, key, stored)
        return header, whole

    def check(self, key: ContainerKey, stored: Stored) -> None:
        """Read the whole object and compare its hash with its name; no key is needed.

        Raises DamageError, RefusedError, ObjectMissingError.
        """
        self._fetch(key, stored, sink=None)

    def open(self, key: ContainerKey, stored: Stored, secret: bytes, chunk_key: bytes, scratch: Path) -> None:
        """Read and hash the whole object as `check` does, then open every block and compare every chunk with its id.

        `secret` is the segment's secret key; larger objects are kept in `scratch` meanwhile. Raises DamageError,
        RefusedError, ObjectMissingError.
        """
        with contextlib.ExitStack() as stack:
            file: IO[bytes] = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_PIECE, dir=str(scratch)))
            self._fetch(key, stored, sink=file)

            def read_at(offset: int, length: int) -> bytes:
                file.seek(offset)
                return file.read(length)

            context = ContainerContext(self._repository, self._generation, key.segment)
            reader = ContainerReader(read_at, stored.size, secret=secret, context=context, where=stored.name)
            for index in range(len(reader.blocks)):
                _check_chunks(reader, index, chunk_key, key.segment)

    def _fetch(self, key: ContainerKey, stored: Stored, sink: IO[bytes] | None) -> None:
        digest, offset = hashlib.sha256(), 0
        while offset < stored.size:
            piece = self._store.get(stored.name, offset, min(_PIECE, stored.size - offset))
            if not piece:
                raise DamageError(f"'{stored.name}' is cut short")
            digest.update(piece)
            offset += len(piece)
            if sink is not None:
                sink.write(piece)
        if digest.hexdigest() != key.sha256:
            raise DamageError(f"'{stored.name}' does not have the hash its name says")

    def _check_place(self, header: Header, key: ContainerKey, stored: Stored) -> None:
        if header.context != ContainerContext(self._repository, self._generation, key.segment):
            raise DamageError(f"'{stored.name}' belongs to another segment, generation or repository")
        if header.kind != stored.kind:
            raise DamageError(f"'{stored.name}' is not a {stored.kind}")


def _check_chunks(reader: ContainerReader, index: int, chunk_key: bytes, segment: Pseudonym) -> None:
    block = reader.blocks[index]
    content = memoryview(reader.open_block(index))
    if block.kind != DATA:
        return
    offset = 0
    for number, length in enumerate(block.chunk_lengths, block.first_chunk):
        chunk = content[offset : offset + length]
        expected = reader.ids[CHUNK_ID_SIZE * number : CHUNK_ID_SIZE * (number + 1)]
        if suite.chunk_id(chunk_key, segment.encode(), chunk) != expected:
            raise DamageError(f"chunk {number} of '{reader.where}' is not the one its id names")
        offset += length
