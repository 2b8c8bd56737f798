"""Replace a keyring under its mark, as a shred and a change of recipients both do."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

from backupd.model.ids import ObjectHash, ObjectName
from backupd.operations.keeper.types import Keeper
from backupd.repository.marks import rewrite_marked
from backupd.seal.keyring import Keyring, parse_keyring

Change = Callable[[bytes, "Keyring"], bytes]
"""Returns the new bytes of a keyring from its old bytes and their meaning."""
Check = Callable[["Keyring", "Keyring"], None]
"""Compares the keyring that stands there with the one that is to replace it; raises DamageError."""


def replace_keyring(keeper: Keeper, store: str, where: ObjectName, change: Change, check: Check) -> tuple[Keyring, int]:
    """Change one keyring of a store under its mark.

    Returns the keyring as read again afterwards, and its size in bytes. It is read twice before, and compared: a wrong
    reading must not replace a sound keyring. Raises DamageError, BusyError when another keeper holds the mark for too
    long, the store's errors, and what `change` raises; then the store has either the old keyring or the new one.
    """
    repository = keeper.stores[store]
    with rewrite_marked(repository.store, where, keeper.random(16).hex(), keeper.clock) as still_mine:
        keyring = repository.keyring(where)
        data = change(repository.read(where, "keyring"), keyring)
        check(keyring, parse_keyring(data, repository.signers, where))
        still_mine()
        repository.store.replace(where, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
        return repository.keyring(where), len(data)
