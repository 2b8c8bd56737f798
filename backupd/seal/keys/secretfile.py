"""The file of a 32-byte secret that a machine uses without asking: 64 hex digits on one line, its owner's only."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from backupd.errors import ConfigError, RefusedError
from backupd.model.known_keys import is_known_seed

if TYPE_CHECKING:
    from pathlib import Path

SECRET_SIZE: Final = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def write_secret(path: Path, secret: bytes) -> None:
    """Raises RefusedError when `path` exists, ConfigError when it cannot be written."""
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


def read_secret(path: Path, what: str, made_by: str) -> bytes:
    """The secret in a file; `what` it is and the command it is `made_by` are for messages.

    Raises ConfigError when it cannot be read, is open to other users, holds something else or what anybody can guess.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2 * SECRET_SIZE + 2).strip()
    except OSError as error:
        raise ConfigError(f"the {what} '{path}' cannot be read: {error.strerror}") from error
    if mode & _OTHERS:
        raise ConfigError(f"the {what} '{path}' is open to other users", hint="Make it its owner's only: chmod 600.")
    try:
        secret = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_SIZE:
        raise ConfigError(f"'{path}' is not a {what}", hint=f"`{made_by}` writes one.")
    if is_known_seed(secret):
        raise ConfigError(f"the {what} '{path}' is one that anybody can guess", hint=f"`{made_by}` makes a random one.")
    return secret
