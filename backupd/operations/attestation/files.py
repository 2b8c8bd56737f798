"""Attestations and copies of ledgers as files of this machine.

The validator's signature, beside the keeper's.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from backupd.errors import RefusedError, UsageError
from backupd.model.attestation import KIND, Attestation, decode_attestation
from backupd.repository import layout
from backupd.repository.ledger import Chain, read_chain
from backupd.seal.documents import LIMITS, Signer, read_document, two_lines, with_signature
from backupd.store.directory import DirectoryStore

_MODE: Final = 0o644
"""It names nobody, and is made to be handed on."""


def read_file(path: Path) -> bytes:
    """The file's bytes, one more at most than an attestation may have.

    Raises UsageError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(LIMITS[KIND] + 1)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}") from error


def claims(document: bytes, where: str) -> Attestation:
    """What a document says, before anybody asked whether it is true."""
    return decode_attestation(two_lines(document, where)[0], where)


def check_new(path: Path) -> None:
    """Raises RefusedError when `path` exists, UsageError when its folder does not."""
    if path.exists() or path.is_symlink():
        raise RefusedError(f"'{path}' exists", hint="Nothing is overwritten; name another file.")
    if not path.parent.is_dir():
        raise UsageError(f"'{path.parent}' is not a folder")


def write_new(path: Path, data: bytes) -> None:
    """A new file; raises what `check_new` does, UsageError when it cannot be written."""
    check_new(path)
    try:
        _write(path, data)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error


def replace_file(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file at once; raises UsageError when that cannot be done."""
    beside = path.with_name(f".{path.name}.new")
    try:
        _write(beside, data)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error


def read_ledger(folder: Path, one: Attestation, trusted: Collection[str]) -> Chain:
    """The ledger in a copy of a region's folder, or of the folder `ledger` in it, checked from its first entry.

    Raises UsageError when there is none, DamageError when it is not sound.
    """
    root = folder if (folder / layout.LEDGER).is_dir() else folder.absolute().parent
    if root != folder and folder.name != layout.LEDGER:
        raise UsageError(f"'{folder}' holds no ledger", hint="Name a copy of the region's folder on a store.")
    chain, length = read_chain(DirectoryStore(root), Chain(one.region, one.repository), trusted)
    if not length:
        raise UsageError(f"'{folder}' holds no ledger", hint="Name a copy of the region's folder on a store.")
    return chain


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def countersign(document: bytes, signer: Signer, where: str) -> bytes:
    """The document with one signature more; its body stays as it is, and a signer signs once.

    Raises DamageError when it is no attestation, or its performer's signature is missing or wrong, and RefusedError
    when another one's is.
    """
    body, _ = two_lines(document, where)
    read_document(document, KIND, {decode_attestation(body, where).performer}, where)
    return with_signature(document, signer, KIND, where)
