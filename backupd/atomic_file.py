"""Files written to the last byte: in the place of others that are read at any time, or through a descriptor."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

Buffer = bytes | bytearray | memoryview


def write_all(descriptor: int, data: Buffer, at: int | None = None) -> None:
    """Write every byte of `data`, at the position `at` or where the descriptor stands; one call may write fewer.

    Raises OSError; then some of the bytes may be written.
    """
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view) if at is None else os.pwrite(descriptor, view, at)
        view, at = view[written:], None if at is None else at + written


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put `data` at `path`: whoever reads it, also after a crash, sees the old content or the new.

    Raises OSError; then the old content stands.
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
