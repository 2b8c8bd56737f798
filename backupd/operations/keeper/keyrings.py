"""Replace a keyring under its mark, as a shred and a change of recipients both do."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from typing import NamedTuple

from backupd.errors import DamageError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.operations.keeper.types import Keeper
from backupd.repository.marks import rewrite_marked
from backupd.seal.keyring import Keyring, parse_keyring

Change = Callable[[bytes, "Keyring"], bytes]
"""Returns the new bytes of a keyring from its old bytes and their meaning."""
Check = Callable[["Keyring", "Keyring"], None]
"""Compares the keyring that stands there with the one that is to replace it; raises DamageError."""


class Replaced(NamedTuple):
    """A keyring before and after it was replaced; both are the same where nothing was left to change."""

    before: Keyring
    after: Keyring
    size: int
    """Bytes that it has on the store now."""


def replace_keyring(keeper: Keeper, store: str, where: ObjectName, change: Change, check: Check) -> Replaced:
    """Change one keyring of a store under its mark, unless `change` leaves it as it is.

    A keyring may be large, and there may be many: it is read once before, and once behind, by the store, which compares
    what stands there with what was to stand there. A wrong reading must not replace a sound keyring: its index is
    signed and has the hash of every line, and one that lacks lines is shorter than what the store shows.

    Raises DamageError, BusyError when another keeper holds the mark for too long, the store's errors, and what `change`
    raises; then the store has either the old keyring or the new one.
    """
    repository = keeper.stores[store]
    with rewrite_marked(repository.store, where, keeper.random(16).hex(), keeper.clock) as still_mine:
        data = repository.read(where, "keyring")
        before = repository.checked_keyring(data, where)
        seen = repository.store.stat(where)
        if seen is None or seen.size != len(data):
            raise DamageError(f"'{where}' was not read as long as it is", hint="The next run tries again.")
        changed = change(data, before)
        if changed == data:
            return Replaced(before, before, len(data))
        after = parse_keyring(changed, repository.signers, where)
        check(before, after)
        still_mine()
        sha256 = ObjectHash(hashlib.sha256(changed).hexdigest())
        repository.store.replace(where, io.BytesIO(changed), len(changed), sha256)
        return Replaced(before, after, len(changed))
