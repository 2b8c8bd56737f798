"""Remove a record that nobody of ours made from one store, and say so in the ledger, so that nothing misses it.

Who stole a node's key signs records that no program can distinguish from true ones. People can, and what they remove
by hand would be missing for ever: expiry and `verify` take a record that is gone without an entry for a hidden one.
"""

from __future__ import annotations

from backupd.errors import StoreError, UsageError
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.ledger import Expired, ExpiryBegan
from backupd.operations.keeper.guards import check_clock
from backupd.operations.keeper.types import Keeper
from backupd.planning.ledger_facts import expired_on, proven_on
from backupd.repository import layout
from backupd.repository.state.keyring_cache import KeyringCache


def find_false(keeper: Keeper, store: str, name: SnapshotName, cache: KeyringCache) -> Expired:
    """Return what `remove_false` would remove: nothing where the record is gone already.

    Raises UsageError for a name that is on the store under no generation, and that nobody remembers there either.
    """
    places = _places(keeper, store, name)
    entries = list(keeper.book.chain.entries())
    remembered = cache.records() | cache.followed().keys() | proven_on(entries, store) | expired_on(entries, store)
    if not places and name not in remembered:
        raise UsageError(f"store '{store}' has no snapshot '{name}'", hint="`backupd snapshots` lists all names.")
    return Expired(store=store, snapshots=1, objects=len(places), bytes=sum(places.values()))


def remove_false(keeper: Keeper, store: str, name: SnapshotName, cache: KeyringCache) -> Expired:
    """Remove the record; returns when it is no longer listed. What only it needs goes with the next expiry.

    The ledger has it among what expired, before it goes: who reads it looks what is still there. Raises what
    `find_false` does, RefusedError for a clock that cannot be trusted, and StoreError when it is still listed.
    """
    done = find_false(keeper, store, name, cache)
    check_clock(keeper, store)
    keeper.book.append(lambda _: [ExpiryBegan(store=store, snapshots=[name])])
    keeper.book.give(store)
    for place in _places(keeper, store, name):
        keeper.stores[store].store.remove(place)
    if left := sorted(_places(keeper, store, name)):
        raise StoreError(f"'{left[0]}' was removed and is still listed", hint="Check the store, and try again.")
    keeper.book.append(lambda _: [done])
    return done


def _places(keeper: Keeper, store: str, name: SnapshotName) -> dict[ObjectName, int]:
    """Return where the record stands, with its sizes: somebody may have copied it into other generations."""
    listed = keeper.stores[store].store.list(layout.RECORDS)
    return {info.name: info.size for info in listed if layout.place_of(info.name).snapshot == name}
