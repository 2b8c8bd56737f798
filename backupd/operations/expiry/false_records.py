"""Remove records that nobody of ours made from one store, and say so in the ledger, so that nothing misses them.

Who stole a node's key signs records that no program can distinguish from true ones. People can, and what they remove
by hand would be missing for ever: expiry and `verify` take a record that is gone without an entry for a hidden one.
"""

from __future__ import annotations

from collections.abc import Collection

from backupd.errors import UNSOUND, BackupdError, DamageError, RefusedError, StoreError, UsageError
from backupd.model.documents import Record
from backupd.model.ids import ObjectName, SnapshotName
from backupd.model.ledger import Expired, ExpiryBegan
from backupd.operations.keeper.guards import check_clock
from backupd.operations.keeper.holds import HoldPins, find_pins
from backupd.operations.keeper.types import Keeper
from backupd.planning.ledger_facts import expired_on, proven_on
from backupd.repository import layout
from backupd.repository.state.keyring_cache import KeyringCache

_SHOWN = 3
"""Names in a hint."""


def find_false(keeper: Keeper, store: str, names: Collection[SnapshotName], cache: KeyringCache) -> Expired:
    """Return what `remove_false` would remove: nothing where a record is gone already.

    Raises UsageError for a name that is on the store under no generation, and that nobody remembers there either;
    RefusedError for a snapshot that a hold keeps something of: who takes a true one for false would destroy it.
    """
    places = _places(keeper, store, names)
    entries = list(keeper.book.chain.entries())
    remembered = cache.records() | cache.followed().keys() | proven_on(entries, store) | expired_on(entries, store)
    there = {layout.place_of(place).snapshot for place in places}
    if unknown := sorted({*names} - there - remembered):
        listed = {layout.place_of(info.name).snapshot for info in keeper.stores[store].store.list(layout.RECORDS)}
        hint = _whole_names(unknown[0], {*remembered, *filter(None, listed)})
        raise UsageError(f"store '{store}' has no snapshot '{unknown[0]}'", hint=hint)
    _require_not_held(keeper, store, {*names} & there, cache)
    return Expired(store=store, snapshots=len(names), objects=len(places), bytes=sum(places.values()))


def remove_false(keeper: Keeper, store: str, names: Collection[SnapshotName], cache: KeyringCache) -> Expired:
    """Remove records; returns when they are no longer listed. What only they need goes with the next expiry.

    The ledger has them among what expired, before they go: who reads it looks what is still there. Raises what
    `find_false` does, RefusedError for a clock that cannot be trusted, and StoreError when one is still listed.
    """
    done = find_false(keeper, store, names, cache)
    check_clock(keeper, store)
    keeper.book.append(lambda _: [ExpiryBegan(store=store, snapshots=sorted(names))])
    keeper.book.give(store)
    for place in _places(keeper, store, names):
        keeper.stores[store].store.remove(place)
    if left := sorted(_places(keeper, store, names)):
        raise StoreError(f"'{left[0]}' was removed and is still listed", hint="Check the store, and try again.")
    keeper.book.append(lambda _: [done])
    return done


def _whole_names(given: str, known: Collection[SnapshotName]) -> str:
    """Return the hint for a name that is none: the whole names that begin so.

    Only a whole name says what is removed: who signs false records can make one whose beginning is a true one's.
    """
    meant = sorted(name for name in known if given and name.startswith(given))[:_SHOWN]
    if not meant:
        return "`backupd snapshots REGION --json` has the whole names."
    return f"It takes the whole name, so that no other is meant: {', or '.join(meant)}."


def _require_not_held(keeper: Keeper, store: str, names: Collection[SnapshotName], cache: KeyringCache) -> None:
    if all(hold.released is not None for hold in keeper.book.states.holds.values()):
        return
    repository, unsound = keeper.stores[store], dict[ObjectName, BackupdError]()
    cache.refresh(repository, unsound, keeper.threads)
    held = find_pins(keeper, cache)
    for name in sorted(names):
        try:
            record = repository.record(name)
        except UNSOUND:
            continue  # nothing can be restored of it
        cache.packs.refresh(repository, record.generation, keeper.threads, unsound)
        if _is_held(held, record):
            raise RefusedError(
                f"snapshot '{name}' has something that a hold keeps",
                hint="If it is false all the same, ask the person who ordered the hold: first `backupd tenant release`,"
                " then this again, then a new hold.",
            )


def _is_held(held: HoldPins, record: Record) -> bool:
    try:
        return bool(held.keeps(record))
    except DamageError:
        return True  # of what it names, nobody knows whose it is


def _places(keeper: Keeper, store: str, names: Collection[SnapshotName]) -> dict[ObjectName, int]:
    """Return where the records stand, with their sizes: somebody may have copied one into other generations."""
    listed = keeper.stores[store].store.list(layout.RECORDS)
    return {info.name: info.size for info in listed if layout.place_of(info.name).snapshot in names}
