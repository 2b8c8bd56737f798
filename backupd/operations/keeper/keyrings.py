"""Put a keyring anew, alone: what a shred and a change of recipients have in common."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

from backupd.model.ids import ObjectHash, ObjectName
from backupd.operations.keeper.types import Keeper
from backupd.repository.marks import keyring_marked
from backupd.seal.keyring import Keyring, parse_keyring

Change = Callable[[bytes, "Keyring"], bytes]
"""From a keyring's bytes, and what they say, to those that take their place."""
Check = Callable[["Keyring", "Keyring"], None]
"""Of what stands there and what is to; raises DamageError."""


def replace_keyring(keeper: Keeper, store: str, where: ObjectName, change: Change, check: Check) -> tuple[Keyring, int]:
    """Change one keyring of a store under its mark; the keyring as it was read again afterwards, and its size.

    It is read twice before, and compared: what was read wrongly must not take a sound one's place. Raises DamageError,
    BusyError when another keeper puts it anew and does not end, the store's errors, and what `change` raises; then the
    old keyring stands there, or the new one.
    """
    repository = keeper.stores[store]
    with keyring_marked(repository.store, where, keeper.random(16).hex(), keeper.clock) as still_mine:
        keyring = repository.keyring(where)
        data = change(repository.read(where, "keyring"), keyring)
        check(keyring, parse_keyring(data, repository.signers, where))
        still_mine()
        repository.store.replace(where, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
        return repository.keyring(where), len(data)
