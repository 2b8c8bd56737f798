"""The files of keys, FORMAT.md §5: identities, recipients, and secrets that a machine uses without asking.

An identity file holds the secret half under a passphrase, a recipient file the public half in clear. The file of a
32-byte secret, such as a signing key or the tenant key, holds 64 hex digits on one line and is readable by its owner
only.

`backupd manual trust`, row *keys and passphrases*, says who can write this, and what is checked.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from backupd.errors import ConfigError, DamageError, KeyRefusedError, RefusedError
from backupd.model.ids import Fingerprint
from backupd.model.known_keys import is_known, is_known_seed
from backupd.model.text import from_json
from backupd.seal import suite
from backupd.seal.documents import Signer, decode_base64
from backupd.secret_files import is_open_to_others

_FILE_LIMIT = 64 << 10
_SALT_SIZE = 16
_N, _R, _P = 65536, 8, 1
_LARGEST_N = 1 << 20  # 1 GiB of memory; a file asking for more is refused, not tried
_LABEL = b"backupd/1 identity "


class _Kdf(msgspec.Struct, frozen=True):
    name: str
    n: int
    r: int
    p: int
    salt: str


class _IdentityFile(msgspec.Struct, frozen=True):
    backupd: str
    version: int
    name: str
    public: str
    kdf: _Kdf
    sealed: str


class _RecipientFile(msgspec.Struct, frozen=True):
    backupd: str
    version: int
    name: str
    public: str


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person or machine that backups are sealed to."""

    name: str
    public: bytes

    @property
    def fingerprint(self) -> Fingerprint:
        return suite.fingerprint(self.public)


def write_identity(
    path: Path, name: str, pair: suite.KeyPair, passphrase: str, *, random: Callable[[int], bytes] = os.urandom
) -> None:
    """Write an identity to a new file that only its owner can read.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    salt, nonce = random(_SALT_SIZE), random(suite.NONCE_SIZE)
    key = suite.stretch(passphrase.encode(), salt, n=_N, r=_R, p=_P)
    sealed = nonce + suite.Aead(key).seal(nonce, pair.secret, _LABEL + pair.public)
    fields = {
        "backupd": "identity",
        "version": 1,
        "name": name,
        "public": _text(pair.public),
        "kdf": {"name": "scrypt", "n": _N, "r": _R, "p": _P, "salt": _text(salt)},
        "sealed": _text(sealed),
    }
    _write_new(path, fields, 0o600)


def write_recipient(path: Path, recipient: Recipient) -> None:
    """Write a recipient to a new file that everybody can read.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    public = _text(recipient.public)
    _write_new(path, {"backupd": "recipient", "version": 1, "name": recipient.name, "public": public}, 0o644)


def read_identity(path: Path, passphrase: str) -> suite.KeyPair:
    """Read the key pair in an identity file.

    Raises ConfigError when it is not a readable identity file, KeyRefusedError when the passphrase is not its own.
    """
    data = _read(path)
    try:
        file = from_json(data, _IdentityFile)
        public, sealed = decode_base64(file.public, str(path)), decode_base64(file.sealed, str(path))
        salt = decode_base64(file.kdf.salt, str(path))
        _check_kind(file.backupd, file.version, "identity", path)
        key = _stretched(file.kdf, passphrase, salt)
    except (DamageError, ValueError) as error:
        raise ConfigError(f"'{path}' is not a readable identity file") from error
    try:
        secret = suite.Aead(key).open(sealed[: suite.NONCE_SIZE], sealed[suite.NONCE_SIZE :], _LABEL + public)
    except suite.NotAuthenticError as error:
        raise KeyRefusedError(
            f"the passphrase does not open the identity '{path}'",
            hint="Give the passphrase it was generated with; a damaged file says the same.",
        ) from error
    if suite.public_of(secret) != public:
        raise ConfigError(f"'{path}' is not a readable identity file")
    _refuse_known(public, path)
    return suite.KeyPair(secret, public)


def read_recipient(path: Path) -> Recipient:
    """Read the public half in a recipient file or, for convenience, an identity file.

    Raises ConfigError.
    """
    data = _read(path)
    try:
        file = from_json(data, _RecipientFile)
        _check_kind(file.backupd, file.version, file.backupd if file.backupd == "identity" else "recipient", path)
        public = decode_base64(file.public, str(path))
        suite.seal(public, b"", b"")
    except (DamageError, ValueError) as error:
        raise ConfigError(f"'{path}' is not a readable recipient file") from error
    _refuse_known(public, path)
    return Recipient(file.name, public)


def holds_identity(path: Path) -> bool:
    """Say whether a file is an identity; False for one that cannot be read."""
    try:
        return from_json(_read(path), _RecipientFile).backupd == "identity"
    except (ConfigError, ValueError):
        return False


def _stretched(kdf: _Kdf, passphrase: str, salt: bytes) -> bytes:
    if kdf.name != "scrypt" or not 1 < kdf.n <= _LARGEST_N or not 0 < kdf.r <= _R or not 0 < kdf.p <= 4:
        raise ValueError("not a kdf this program runs")
    return suite.stretch(passphrase.encode(), salt, n=kdf.n, r=kdf.r, p=kdf.p)


def _refuse_known(public: bytes, path: Path) -> None:
    if is_known(public):
        raise ConfigError(
            f"'{path}' holds a key that anybody can read with", hint="`backupd key generate NAME` makes your own."
        )


def _check_kind(kind: str, version: int, expected: str, path: Path) -> None:
    if kind != expected:
        raise ConfigError(f"'{path}' is not a {expected} file", hint=f"It calls itself '{kind[:40]}'.")
    if version != 1:
        raise ConfigError(f"'{path}' is version {version}, this program reads version 1")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror}") from error
    if len(data) > _FILE_LIMIT:
        raise ConfigError(f"'{path}' is too large to be a key file")
    return data


def _write_new(path: Path, fields: dict[str, object], mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(fields) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise RefusedError(f"'{path}' exists", hint="A key file is never overwritten; name another one.") from error
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be written: {error.strerror}") from error


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


SECRET_SIZE: Final = 32


def write_secret(path: Path, secret: bytes) -> None:
    """Write a secret of 32 bytes to a new file that only its owner can read.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
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
    """Read the secret of 32 bytes in a file; `what` it is, and the command that it is `made_by`, are for messages.

    Raises ConfigError when the file cannot be read, is open to other users, or holds something else or a secret that
    anybody can guess.
    """
    try:
        with path.open("rb") as file:
            is_open = is_open_to_others(os.fstat(file.fileno()))
            text = file.read(2 * SECRET_SIZE + 2).strip()
    except OSError as error:
        raise ConfigError(f"the {what} '{path}' cannot be read: {error.strerror}") from error
    if is_open:
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


def write_signer(path: Path, random: Callable[[int], bytes] = os.urandom) -> Signer:
    """Make a signing key, and write it to a new file.

    Raises RefusedError when `path` exists, ConfigError when it cannot be written.
    """
    secret = random(SECRET_SIZE)
    write_secret(path, secret)
    return Signer(secret)


def read_signer(path: Path) -> Signer:
    """Read the signing key in a file.

    Raises ConfigError when it cannot be read, is open to other users or holds something else.
    """
    return Signer(read_secret(path, "signing key", "backupd key generate --signer FILE"))
