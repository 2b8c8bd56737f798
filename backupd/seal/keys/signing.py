"""The file of a writer's or a keeper's signing key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from backupd.seal.documents import Signer
from backupd.seal.keys.secretfile import SECRET_SIZE, read_secret, write_secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_signer(path: Path, random: Callable[[int], bytes] = os.urandom) -> Signer:
    """A new key in a new file.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    secret = random(SECRET_SIZE)
    write_secret(path, secret)
    return Signer(secret)


def read_signer(path: Path) -> Signer:
    """The key in a file.

    Raises ConfigError when it cannot be read, is open to other users or holds something else.
    """
    return Signer(read_secret(path, "signing key", "backupd key generate --signer FILE"))
