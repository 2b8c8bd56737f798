"""What a plan need not hold in memory: a temporary file without a name, sealed under a key that stays here."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from typing import TYPE_CHECKING, Final

from backupd.atomic_file import write_all
from backupd.errors import BackupdError, DamageError, SpoolFullError
from backupd.seal import suite

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL: Final = 256
"""Bytes that are kept in memory all the same: where they are in the file takes as many."""
_AAD: Final = b"backupd attic"


class SealedTempFile:
    """Bytes put away, and what brings each back. `put` is for one thread, bringing back for many."""

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._file = tempfile.TemporaryFile(prefix="backupd-", buffering=0)  # noqa: SIM115  # closed by `close`
        self._aead = suite.Aead(random(suite.KEY_SIZE))
        self._size = 0

    def put(self, data: bytes) -> Callable[[], bytes]:
        """Raises SpoolFullError."""
        if len(data) <= _SMALL:
            return partial(bytes, data)
        at = self._size
        sealed = self._aead.seal(suite.nonce(at), data, _AAD)
        self._size += len(sealed)  # before writing: a place, and with it a nonce, is never used twice
        try:
            write_all(self._file.fileno(), sealed, at)
        except OSError as error:
            raise SpoolFullError(
                f"the folder for temporary files cannot be written: {os.strerror(error.errno or 0)}",
                hint="Make room there, or name another one with the environment variable TMPDIR.",
            ) from error
        return partial(self._bring, at, len(sealed))

    def close(self) -> None:
        """What was put away is gone."""
        self._file.close()

    def _bring(self, at: int, size: int) -> bytes:
        try:
            sealed = os.pread(self._file.fileno(), size, at)
            return self._aead.open(suite.nonce(at), sealed, _AAD)
        except OSError as error:
            raise BackupdError(f"a temporary file cannot be read: {os.strerror(error.errno or 0)}") from error
        except suite.NotAuthenticError as error:
            raise DamageError("a temporary file was altered while it was in use", hint="Check its disk.") from error
