"""Sealed blocks of unfinished sections, on the spool's disk: in files of bounded size, each removed when all of it was
taken back.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from backupd.atomic_file import write_all
from backupd.errors import SpoolFullError

FILE_SIZE = 32 << 20
"""Bytes after which another file is begun."""


class Extent(NamedTuple):
    """The place of some bytes in the spool."""

    file: int
    offset: int
    length: int


class BlockSpool:
    """The unfinished sections' bytes of one worker. For one thread. Its methods raise SpoolFullError."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._files: dict[int, int] = {}
        """Descriptors of the files that hold something."""
        self._live: dict[int, int] = {}
        self._newest = 0
        self._end = FILE_SIZE

    def append(self, data: bytes) -> Extent:
        """Write bytes, and return where they are."""
        if self._end >= FILE_SIZE:
            self._begin()
        extent = Extent(self._newest, self._end, len(data))
        try:
            write_all(self._files[self._newest], data, self._end)
        except OSError as error:
            raise spool_full(error) from error
        self._end += len(data)
        self._live[self._newest] += len(data)
        return extent

    def take(self, extent: Extent) -> bytes:
        """Return the bytes of an extent and give its room back. Raises SpoolFullError when they are not there."""
        try:
            data = os.pread(self._files[extent.file], extent.length, extent.offset)
        except OSError as error:
            raise spool_full(error) from error
        if len(data) != extent.length:
            raise SpoolFullError("the spool was cut short while it was in use", hint="Check the spool's disk.")
        self._live[extent.file] -= extent.length
        if not self._live[extent.file] and extent.file != self._newest:
            self._remove(extent.file)
        return data

    def close(self) -> None:
        """Remove every file that is left."""
        for file in list(self._files):
            self._remove(file)

    def _begin(self) -> None:
        if self._newest in self._live and not self._live[self._newest]:
            self._remove(self._newest)
        self._newest += 1
        self._end = 0
        try:
            self._files[self._newest] = os.open(self._path(self._newest), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise spool_full(error) from error
        self._live[self._newest] = 0

    def _remove(self, file: int) -> None:
        os.close(self._files.pop(file))
        del self._live[file]
        self._path(file).unlink(missing_ok=True)

    def _path(self, file: int) -> Path:
        return self._folder / f"{self._prefix}-{file}.blocks"


def spool_full(error: OSError) -> SpoolFullError:
    """Make the error for a spool that cannot be used."""
    return SpoolFullError(
        f"the spool cannot be written: {os.strerror(error.errno or 0)}",
        hint="Make room on the spool's disk, or set node.spool_dir to a larger one; then run the backup again.",
    )
