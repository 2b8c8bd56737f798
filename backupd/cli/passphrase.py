"""Where a passphrase comes from: a file, a systemd credential, or the terminal without echo; never an argument."""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from backupd.seal.suite import KeyPair

MIN_LENGTH = 10
"""Characters of a new passphrase. scrypt makes a guess cost 0.2 s, not ten characters' worth of search."""
_MAX_BYTES = 4096


def read_passphrase(file: str | None, purpose: str) -> str:
    """The passphrase of an existing identity.

    Raises UsageError when there is neither a file nor a terminal, ConfigError when the file cannot be read.
    """
    return _from_file(file) if file is not None else _ask(f"Passphrase of {purpose}: ")


def open_identity(file: Path | None, passphrase_file: str | None) -> KeyPair:
    """The key pair in an identity file, its passphrase asked for where it has to be.

    Raises UsageError without a file, ConfigError, KeyRefusedError.
    """
    from backupd.seal.keys.identity import read_identity

    if file is None:
        raise UsageError("this needs an identity", hint="Name the identity file with --identity FILE.")
    if not file.is_file():
        raise ConfigError(f'there is no identity file "{file}"', hint="Bring it from where it is kept, for this once.")
    return read_identity(file, read_passphrase(passphrase_file, str(file)))


def new_passphrase(file: str | None, purpose: str) -> str:
    """The passphrase for a new identity; on a terminal it is asked for twice.

    Raises UsageError when it is too short or the two differ.
    """
    if file is not None:
        passphrase = _from_file(file)
    else:
        passphrase = _ask(f"New passphrase of {purpose}: ")
        if passphrase != _ask("The same again: "):
            raise UsageError("the two passphrases differ", hint="Nothing was written; try again.")
    if len(passphrase) < MIN_LENGTH:
        raise UsageError(
            f"the passphrase is shorter than {MIN_LENGTH} characters", hint="Six random words are a good one."
        )
    return passphrase


def _ask(prompt: str) -> str:
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to ask for the passphrase on", hint="Give --passphrase-file FILE or credential:NAME."
        )
    return getpass.getpass(prompt)


def _from_file(name: str) -> str:
    from backupd.config.text.secrets import parse_file_ref

    path = parse_file_ref(name).resolve(os.environ) if name.startswith("credential:") else Path(name)
    try:
        with path.open("rb") as file:
            first = file.readline(_MAX_BYTES)
        text = first.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f'the passphrase file "{name}" cannot be read: {error.strerror}') from None
    except UnicodeDecodeError:
        raise ConfigError(f'the passphrase file "{name}" is not UTF-8 text') from None
    if not text:
        raise ConfigError(f'the first line of the passphrase file "{name}" is empty')
    return text
