"""The keyrings that one command needs, in bounded memory: a generation of many tenants and runs has hundreds of MB."""

from __future__ import annotations

import os
import tempfile
import weakref
from typing import TYPE_CHECKING, Final

from backupd.atomic_file import write_all
from backupd.errors import BackupdError

if TYPE_CHECKING:
    from backupd.seal.keyring import Keyring

_IN_MEMORY: Final = 16 << 20
"""Bytes of keyrings' indexes and lines that stay in memory."""


class KeyringShelf:
    """A place for the lines of keyrings, as sealed as they are on the store: beyond `in_memory` bytes, a file.

    The file has no name, and is gone with the last keyring that lies in it. Where there is no room for it, everything
    stays in memory.
    """

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._room = in_memory
        self._file: _File | None = None

    def take(self, keyring: Keyring) -> Keyring:
        """Return the same keyring, kept here."""
        size = keyring.size
        if size <= self._room:
            self._room -= size
            return keyring
        try:
            if self._file is None:
                self._file = _File()
            return keyring.moved(self._file.keep)
        except OSError:
            return keyring


class _File:
    """A file without a name; it is closed when nothing refers to it any more."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="backupd-") as file:
            self.number = os.dup(file.fileno())
        weakref.finalize(self, os.close, self.number)
        self._end = 0

    def keep(self, data: bytes) -> _Part:
        write_all(self.number, data, self._end)
        self._end += len(data)
        return _Part(self, self._end - len(data), len(data))


class _Part:
    """Bytes in the file."""

    __slots__ = ("_file", "_size", "_start")

    def __init__(self, file: _File, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, _ = part.indices(self._size)
        try:
            return os.pread(self._file.number, stop - start, self._start + start)
        except OSError as error:
            raise BackupdError(
                f"a temporary file cannot be read: {os.strerror(error.errno or 0)}",
                hint="Look at the disk of the folder for temporary files, or name another one with TMPDIR.",
            ) from error
