"""Read, write and countersign attestations that are files of this machine, and read the copy of a ledger beside
them.
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
"""Permissions of an attestation: it names nobody, and is made to be handed on."""


def read_file(path: Path) -> bytes:
    """Return the file's bytes, at most one more than an attestation may have.

    Raises UsageError when it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(LIMITS[KIND] + 1)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read: {error.strerror}") from error


def claims(document: bytes, where: str) -> Attestation:
    """Decode what a document says, without checking any signature or claim. Raises DamageError for no attestation."""
    return decode_attestation(two_lines(document, where)[0], where)


def check_new(path: Path) -> None:
    """Check that a file can be made: raises RefusedError when `path` exists, UsageError when its folder does not."""
    if path.exists() or path.is_symlink():
        raise RefusedError(f"'{path}' exists", hint="Nothing is overwritten; name another file.")
    if not path.parent.is_dir():
        raise UsageError(f"'{path.parent}' is not a folder")


def write_new(path: Path, data: bytes) -> None:
    """Write a new file, flushed to the disk. Raises what `check_new` does, and UsageError when it cannot be written."""
    check_new(path)
    try:
        _write(path, data)
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error


def replace_file(path: Path, data: bytes) -> None:
    """Replace the file's content by `data` atomically; raises UsageError when it cannot be written."""
    beside = path.with_name(f".{path.name}.new")
    try:
        _write(beside, data)
        beside.replace(path)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise UsageError(f"'{path}' cannot be written: {error.strerror}") from error


def read_ledger(folder: Path, one: Attestation, trusted: Collection[str]) -> Chain:
    """Read the ledger in a copy of a region's folder, or in its folder `ledger`, and check it from its first entry.

    Raises UsageError when there is none, DamageError when an entry is damaged or not signed by a `trusted` key.
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
    """Return the document with one more signature; its body stays as it is, and a signer signs once.

    Raises DamageError when it is no attestation, or when its performer's signature is missing or wrong, and
    RefusedError when another signature is wrong.
    """
    body, _ = two_lines(document, where)
    read_document(document, KIND, {decode_attestation(body, where).performer}, where)
    return with_signature(document, signer, KIND, where)
