"""Pieces of bytes by segment, on disk until they are read segment by segment: sorted runs in one file.

A run is a sequence of blocks, each `length (4) ‖ ciphertext` of compressed pieces in the order of their pseudonyms;
merging the runs gives every segment's pieces together. The file is sealed under a key that is drawn for it and stays
in memory, so nobody can read the file that a killed run leaves behind.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

import msgspec

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError
from backupd.rows.block_spool import spool_full
from backupd.seal import suite
from backupd.seal.section_format import BLOCK_LIMIT
from backupd.seal.zstd import Compressor, decompress

_BLOCK = 16 << 10
"""Plain bytes sealed together. Merging holds one block of each run, and a run is a few megabytes of a database."""
_LEVEL = 1
_AAD = b"backupd spill"
_HEAD = 4


class Residue(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A piece of one segment's bytes."""

    pseudonym: str
    piece: bytes


@dataclass(frozen=True, slots=True)
class Spilled:
    """A file of pieces as far as it is written."""

    path: Path
    key: bytes = field(repr=False)
    """Key that the file is sealed under."""
    runs: Sequence[tuple[int, int]]
    """Where each run begins and ends in the file, in bytes."""


class Spill:
    """The writer of one spill file. For one thread."""

    def __init__(self, path: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self._path = path
        self._compressor = Compressor(_LEVEL)
        self._encode = msgspec.msgpack.Encoder().encode
        self.size = 0
        """Bytes in the file."""
        self._key = random(suite.KEY_SIZE)
        self._aead = suite.Aead(self._key)
        self._runs: list[tuple[int, int]] = []

    def add_run(self, residues: Iterable[Residue]) -> None:
        """Append residues in the order of their pseudonyms; a segment's residues follow those of earlier runs.

        Raises SpoolFullError.
        """
        start = self.size
        held: list[Residue] = []
        size = 0
        for residue in residues:
            held.append(residue)
            size += len(residue.piece)
            if size >= _BLOCK:
                self._write(held)
                held, size = [], 0
        if held:
            self._write(held)
        if self.size > start:
            self._runs.append((start, self.size))

    @property
    def runs(self) -> int:
        """Return the number of runs in the file."""
        return len(self._runs)

    def written(self) -> Spilled:
        """Return the file, its key and its runs as written so far."""
        return Spilled(self._path, self._key, list(self._runs))

    def _write(self, residues: list[Residue]) -> None:
        frame = self._compressor.compress(self._encode(residues))
        sealed = self._aead.seal(suite.nonce(self.size), frame, _AAD)
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                write_all(descriptor, len(sealed).to_bytes(_HEAD, "little") + sealed, self.size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise spool_full(error) from error
        self.size += _HEAD + len(sealed)


def merged(spills: Sequence[Spilled]) -> Iterator[Residue]:
    """Yield all residues in the order of their pseudonyms, a segment's in the order in which they were added.

    Raises BackupdError when a file cannot be read, DamageError when it was altered.
    """
    runs = [_run(spill, *run) for spill in spills for run in spill.runs]
    return heapq.merge(*runs, key=attrgetter("pseudonym"))


class ResiduesBySegment:
    """A reader of spills that gives the residues of one segment after another."""

    def __init__(self, spills: Sequence[Spilled]) -> None:
        self._coming = merged(spills)
        self._next = next(self._coming, None)

    def of(self, pseudonym: str) -> list[Residue]:
        """Return a segment's residues; call it in the order of pseudonyms, for every segment that has any.

        Raises the errors of `merged`.
        """
        found = []
        while self._next is not None and self._next.pseudonym == pseudonym:
            found.append(self._next)
            self._next = next(self._coming, None)
        return found


_decode = msgspec.msgpack.Decoder(list[Residue]).decode


def _run(spill: Spilled, start: int, end: int) -> Iterator[Residue]:
    aead = suite.Aead(spill.key)
    while start < end:
        residues, start = _block(spill.path, aead, start)
        residues.reverse()
        while residues:
            yield residues.pop()


def _block(path: Path, aead: suite.Aead, at: int) -> tuple[list[Residue], int]:
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(at)
            length = int.from_bytes(file.read(_HEAD), "little")
            sealed = file.read(length)
    except OSError as error:
        raise BackupdError(
            f"the spool cannot be read: {os.strerror(error.errno or 0)}", hint="Check the spool's disk."
        ) from error
    try:
        return _decode(decompress(aead.open(suite.nonce(at), sealed, _AAD), 2 * BLOCK_LIMIT)), at + _HEAD + length
    except suite.NotAuthenticError as error:
        raise DamageError("the spool was altered while it was in use", hint="Check the spool's disk.") from error
