"""Write files completely: in place of a file that others may read at any time, or through an open descriptor."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

Buffer = bytes | bytearray | memoryview


def write_all(descriptor: int, data: Buffer, at: int | None = None) -> None:
    """Write every byte of `data`, at the position `at` or at the descriptor's own; a single system call may write
    fewer.

    Raises OSError; some of the bytes may then have been written.
    """
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view) if at is None else os.pwrite(descriptor, view, at)
        view, at = view[written:], None if at is None else at + written


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the content of `path` by `data`: every reader, also after a crash, sees the old content or the new.

    Raises OSError; the old content then stays.
    """
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
