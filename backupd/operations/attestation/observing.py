"""What an attestation rests on: every store looked at again, and every keyring that lists a key of the life read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.catalog.handed import marks
from backupd.catalog.memory.census import KeyringCache
from backupd.catalog.sending.marks import LONGEST_RUN
from backupd.errors import StoreError
from backupd.model.stored.ledger import SegmentRef
from backupd.operations.keeper.removing.purge import Purging
from backupd.planning.deletion.attestation import StoreObservation

if TYPE_CHECKING:
    from backupd.model.ids import ObjectName, Pseudonym
    from backupd.operations.keeper.values import Keeper
    from backupd.planning.lifecycle.lives import LifeKey, Purge


@dataclass(slots=True)
class StoreObservations:
    """The stores as they were just seen."""

    looks: dict[str, StoreObservation] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    """What could not be seen, and runs that may add behind the look."""


@dataclass(slots=True)
class ListedKeys:
    """Where the keys of a purge are listed."""

    keyrings: dict[str, list[ObjectName]] = field(default_factory=lambda: defaultdict(list))
    """By store."""
    public: dict[SegmentRef, str] = field(default_factory=dict)
    """SHA-256 of the public half, as the signed index has it."""
    stores: dict[SegmentRef, list[str]] = field(default_factory=lambda: defaultdict(list))
    kept: list[ObjectName] = field(default_factory=list)
    """Keyrings that hold one of the keys."""


def observe(keeper: Keeper, key: LifeKey, purge: Purge) -> StoreObservations:
    """Go on with a purge that has begun, and see how every store stands. A store's troubles are told, not raised."""
    seen = StoreObservations()
    for name in keeper.stores:
        try:
            seen.troubles += _late_runs(keeper, name, purge)
        except StoreError as error:
            seen.troubles.append(f"store '{name}': {error.message}")
    with Purging(keeper) as purging:
        for done in purging.purge(key):
            if done.looked_at is not None:
                seen.looks[done.store] = StoreObservation(done.looked_at, done.looked_into, done.waits_for)
        told = (f"store '{name}': {error.message}" for name, error in purging.errors.items())
        seen.troubles = list(dict.fromkeys([*seen.troubles, *told]))
    return seen


def list_keys(keeper: Keeper, segments: Iterable[SegmentRef]) -> ListedKeys:
    """Read every keyring that lists one of these segments.

    Raises DamageError, StoreError.
    """
    listed, wanted = ListedKeys(), sorted(segments)
    for name in sorted(keeper.stores):
        with KeyringCache.opened(keeper.census(name), keeper.repository) as census:
            doomed: dict[ObjectName, set[Pseudonym]] = defaultdict(set)
            for counted in census.find(wanted):
                doomed[counted.keyring].add(counted.pseudonym)
        for where in sorted(doomed):
            _take(listed, keeper, name, where, doomed[where])
    return listed


def _take(listed: ListedKeys, keeper: Keeper, store: str, where: ObjectName, doomed: set[Pseudonym]) -> None:
    keyring = keeper.stores[store].keyring(where)
    listed.keyrings[store].append(where)
    listed.kept += [where] if not doomed <= keyring.shredded else []
    for pseudonym, public in keyring.index:
        if pseudonym in doomed:
            ref = keyring.ids.generation, pseudonym
            listed.public[ref] = public
            listed.stores[ref].append(store)


def _late_runs(keeper: Keeper, store: str, purge: Purge) -> Iterator[str]:
    """Runs that may not know of the purge, and still add. Asked before the look, which then sees what they did.

    A run puts its mark before it reads the ledger: one whose mark is younger than the purge knows of it.
    """
    now, by_store = keeper.clock.now(), (purge.shredded, purge.cleared)
    told_there = max([purge.began, *(instants[store] for instants in by_store if store in instants)])
    for info in marks(keeper.stores[store].store):
        run = layout.place_of(info.name).run
        may_not_know = info.modified <= told_there + keeper.rules.clock_tolerance
        if run and may_not_know and now - info.modified < LONGEST_RUN:
            yield f"run {run} on store '{store}' began before the purge, and may still add to it"
