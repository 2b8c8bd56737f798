"""The file of a writer's signing key: 64 hex digits on one line, readable by its owner only."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from backupd.errors import ConfigError, RefusedError
from backupd.seal.documents import Signer

_SECRET_SIZE = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_signer(path: Path, random: Callable[[int], bytes] = os.urandom) -> Signer:
    """A new key in a new file.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    secret = random(_SECRET_SIZE)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret.hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise RefusedError(f"'{path}' exists", hint="A key file is never overwritten; name another one.") from error
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror}") from error
    return Signer(secret)


def read_signer(path: Path) -> Signer:
    """The key in a file.

    Raises ConfigError when it cannot be read, is open to other users or holds something else.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2 * _SECRET_SIZE + 2).strip()
    except OSError as error:
        raise ConfigError(f"the signing key '{path}' cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise ConfigError(
            f"the signing key '{path}' is open to other users", hint="Make it its owner's only: chmod 600."
        )
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != _SECRET_SIZE:
        raise ConfigError(f"'{path}' is not a signing key", hint="`backupd key generate --signer FILE` writes one.")
    return Signer(secret)
