"""Recomposing an object of a directory store from pieces of itself: the kernel copies, and both are compared."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Iterator, Sequence

from backupd.atomic_file import write_all
from backupd.errors import StoreError
from backupd.model.ids import ObjectName
from backupd.store.base import Kept, Piece, changed_meanwhile, given, kept
from backupd.store.directory.view import BLOCK, CREATE, OPEN_FILE

_CANNOT_COPY = {errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM}
"""Errors of file systems on which the kernel does not copy."""


def check_size(file: int, size: int, name: ObjectName) -> None:
    """Raise StoreError unless an open file is a plain object of this size."""
    seen = os.fstat(file)
    if not modes.S_ISREG(seen.st_mode):
        raise StoreError(f"{name!r} is not a plain object on the store")
    if seen.st_size != size:
        raise changed_meanwhile(name)


def stands(file: int, pieces: Sequence[Piece], size: int) -> bool:
    """Check whether an open file has the size and the given bytes of a recomposition."""
    seen = os.fstat(file)
    return (
        modes.S_ISREG(seen.st_mode)
        and seen.st_size == size
        and all(_read(file, at, len(data)) == data for at, data in given(pieces))
    )


def compose(folder: int, temp: str, old: int, pieces: Sequence[Piece], name: ObjectName) -> None:
    """Write the pieces into a new file in the open `folder`, sync it, and compare it with what it was made from.

    Raises OSError, and StoreError when the file holds something else.
    """
    new = os.open(temp, CREATE, 0o400, dir_fd=folder)
    try:
        for piece in pieces:
            if isinstance(piece, Kept):
                _copy(old, piece, new, name)
            else:
                write_all(new, piece)
        os.fsync(new)
    finally:
        os.close(new)
    written = os.open(temp, OPEN_FILE, dir_fd=folder)
    try:
        size = sum(piece.length if isinstance(piece, Kept) else len(piece) for piece in pieces)
        if not stands(written, pieces, size) or not all(
            _read(written, at + done, length) == _read(old, piece.offset + done, length)
            for at, piece in kept(pieces)
            for done, length in _windows(piece.length)
        ):
            raise StoreError(
                f"the store does not hold the bytes that were written for {name!r}",
                hint="Check the store's disk: nothing was replaced.",
            )
    finally:
        os.close(written)


def _copy(old: int, piece: Kept, new: int, name: ObjectName) -> None:
    """Append a range of one open file to another."""
    done = 0
    while done < piece.length:
        offset, wanted = piece.offset + done, min(BLOCK, piece.length - done)
        try:
            copied = os.copy_file_range(old, new, wanted, offset)
        except OSError as error:
            if error.errno not in _CANNOT_COPY:
                raise
            data = os.pread(old, wanted, offset)
            write_all(new, data)
            copied = len(data)
        if not copied:
            raise changed_meanwhile(name)
        done += copied


def _read(file: int, at: int, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := os.pread(file, length - len(data), at + len(data))):
        data += more
    return data


def _windows(length: int) -> Iterator[tuple[int, int]]:
    for done in range(0, length, BLOCK):
        yield done, min(BLOCK, length - done)
