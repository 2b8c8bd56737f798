"""Identities: made once, kept elsewhere, and checked against what they are to open."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import KeyRefusedError, RefusedError
from backupd.seal import suite
from backupd.seal.keys.identity import Recipient, write_identity, write_recipient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backupd.catalog.repository import Repository
    from backupd.model.ids import Fingerprint, GenerationId, ObjectName, RunId


@dataclass(frozen=True, slots=True)
class CheckedKeyring:
    """One keyring, and whether the identity opened it."""

    generation: GenerationId
    run: RunId
    opened: bool
    segments: int
    shredded: int
    recipients: tuple[Fingerprint, ...]
    """Who can open it."""


def generate_identity(
    identity: Path, recipient: Path, name: str, passphrase: str, *, random: Callable[[int], bytes] = os.urandom
) -> Recipient:
    """A new pair: the secret half under its passphrase in `identity`, the public half in `recipient`.

    Raises RefusedError when one of the files exists, before anything is written; ConfigError when one cannot be
    written.
    """
    for path in (identity, recipient):
        if path.exists() or path.is_symlink():
            raise RefusedError(f"'{path}' exists", hint="A key file is never overwritten; name another one.")
    pair = suite.generate()
    made = Recipient(name, pair.public)
    # The secret half first: a recipient nobody has the identity of would be sealed to for nothing.
    write_identity(identity, name, pair, passphrase, random=random)
    write_recipient(recipient, made)
    return made


def check_identity(repository: Repository, secret: bytes) -> list[CheckedKeyring]:
    """Which of the repository's keyrings this identity opens, oldest first; every key in those is authenticated.

    An empty list when there are none yet. Raises KeyRefusedError when there are some and it opens none of them,
    DamageError for a keyring that is not what it should be.
    """
    repository.info()
    names = sorted(found.name for found in repository.store.list(layout.KEYRINGS))
    found = [
        _checked(repository, name, secret) for name in names if layout.place_of(name).kind is layout.ObjectKind.KEYRING
    ]
    refusals = [refusal for _, refusal in found if refusal is not None]
    if refusals and len(refusals) == len(found):
        raise refusals[-1]
    return [checked for checked, _ in found]


def _checked(repository: Repository, name: ObjectName, secret: bytes) -> tuple[CheckedKeyring, KeyRefusedError | None]:
    keyring = repository.keyring(name)
    refusal: KeyRefusedError | None = None
    try:
        keyring.open(secret)
    except KeyRefusedError as error:
        refusal = error
    checked = CheckedKeyring(
        generation=keyring.ids.generation,
        run=keyring.ids.run,
        opened=refusal is None,
        segments=len(keyring.index),
        shredded=len(keyring.shredded),
        recipients=tuple(keyring.wraps),
    )
    return checked, refusal
