"""Compare what a run relies on with what the store holds: no record may refer to something that was taken away.

The index remembers what was published. A store may hold less of it: a keeper expired or purged, which the ledger
explains; a disk was repaired, a provider put an older copy back, a keeper refused what was handed in, which nothing
explains. What is missing without an explanation ends the generation: the same run continues with a full copy under new
keys, which relies on nothing older.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from backupd.errors import DamageError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, RunId
from backupd.operations.backup.generation import read_standing, settle_keyrings
from backupd.planning.ledger_facts import explain_absences
from backupd.repository.layout import SEGMENTS, keyring_name, keyrings_folder, place_of, segment_folder
from backupd.repository.repository import Repository
from backupd.repository.state.index import Generation, Index, IndexedContainer

if TYPE_CHECKING:
    from backupd.operations.backup.generation import LedgerStanding
    from backupd.operations.backup.types import Node


@dataclass(frozen=True, slots=True)
class Holdings:
    """The objects that a store holds of one generation, as its folders list them."""

    keyrings: frozenset[RunId]
    containers: Mapping[ObjectHash, int]
    """Bytes of each container, by its hash."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The objects on which an index relies and that the store does not hold, or holds with another size."""

    generation: GenerationId
    keyrings: tuple[RunId, ...] = ()
    containers: tuple[IndexedContainer, ...] = ()

    def __len__(self) -> int:
        return len(self.keyrings) + len(self.containers)

    @property
    def first(self) -> ObjectName:
        """Name of one missing object, a keyring if there is any."""
        if self.keyrings:
            return keyring_name(self.generation, self.keyrings[0])
        one = self.containers[0]
        return ObjectName(f"{segment_folder(self.generation, one.pseudonym)}/{one.sha256}")

    def __str__(self) -> str:
        return f"{len(self.keyrings)} keyring(s) and {len(self.containers)} other object(s)"


@dataclass(frozen=True, slots=True)
class Ground:
    """The index, the repository and the generation that a run compares, and the node that runs."""

    index: Index
    repository: Repository
    generation: Generation
    node: Node


def list_holdings(repository: Repository, generation: GenerationId) -> Holdings:
    """List a generation's folders."""
    return Holdings(list_keyrings(repository, generation), list_containers(repository, generation))


def list_containers(
    repository: Repository, generation: GenerationId, stop: threading.Event | None = None
) -> Mapping[ObjectHash, int]:
    """List containers with their sizes; the list is incomplete once `stop` is set."""
    found: dict[ObjectHash, int] = {}
    for listed in repository.store.list(ObjectName(f"{SEGMENTS}/{generation}")):
        sha256 = place_of(listed.name).sha256
        if sha256 is not None:
            found[sha256] = listed.size
        if stop is not None and stop.is_set():
            break
    return found


def list_keyrings(repository: Repository, generation: GenerationId) -> frozenset[RunId]:
    """List the runs whose keyrings the store holds: one folder, however many there are."""
    places = (place_of(found.name) for found in repository.store.list(keyrings_folder(generation)))
    return frozenset(place.run for place in places if place.run)


def missing_keyrings(ground: Ground, there: frozenset[RunId]) -> tuple[RunId, ...]:
    """Return published keyrings that are not among those `there`, and not on the store either.

    A keyring is replaced as a whole while others list the folder, so each that is not listed is asked for by name.
    """
    generation, store = ground.generation.id, ground.repository.store
    unlisted = sorted(ground.index.runs.published_keyrings() - there)
    return tuple(run for run in unlisted if store.stat(keyring_name(generation, run)) is None)


def missing_containers(needed: Iterable[IndexedContainer], holdings: Holdings) -> tuple[IndexedContainer, ...]:
    """Return the containers that are not listed with their size."""
    return tuple(one for one in needed if holdings.containers.get(one.sha256) != one.size)


def settle(ground: Ground, standing: LedgerStanding) -> tuple[LedgerStanding, Missing | None]:
    """Bring the index up to what the store holds, before anything is referred to.

    Returns the ledger as last read, and None when the generation can be added to, or what ends it: `Missing` of length
    0 when it was expired as a whole. Raises what the store does, and DamageError for a keyring that is none.
    """
    if ground.index.is_fresh():
        return standing, None
    holdings = list_holdings(ground.repository, ground.generation.id)
    missing = _missing(ground, holdings, standing)
    if missing and not _removals(ground, standing):
        # A purge waits for nobody: it may have begun after the ledger was read, and before the folders were.
        standing = read_standing(ground.repository, ground.node, standing.region)
        missing = _missing(ground, holdings, standing)
    if not _removals(ground, standing):
        return standing, missing or None
    if not missing.keyrings:
        ground.index.forget(one.number for one in missing.containers)
        return standing, None
    return standing, Missing(ground.generation.id) if _expired_whole(ground, standing) else missing


def _missing(ground: Ground, holdings: Holdings, standing: LedgerStanding) -> Missing:
    """Return what is missing after everything that was purged is forgotten."""
    index, generation = ground.index, ground.generation.id
    other = settle_keyrings(index, holdings.keyrings, standing, ground.repository, generation)
    if _removals(ground, standing):
        index.forget_segments(standing.purged(generation))
    keyrings = (*other, *missing_keyrings(ground, holdings.keyrings))
    return Missing(generation, keyrings, missing_containers(index.all_containers(), holdings))


def _removals(ground: Ground, standing: LedgerStanding) -> bool:
    """Check whether the ledger speaks of removals that the index does not know of yet."""
    return standing.removals_since(ground.index.runs.ledger_seq())


def _expired_whole(ground: Ground, standing: LedgerStanding) -> bool:
    """Check whether the ledger says that every record of the generation expired: then its keyrings go, too."""
    expired = explain_absences(standing.chain.entries(), None).expired
    return expired.issuperset(ground.index.runs.records_of(ground.generation.id))


class HoldingsWatch:
    """Lists the generation's objects again while rows are read, for a last comparison right before the record."""

    def __init__(self, ground: Ground, standing: LedgerStanding) -> None:
        self._ground = ground
        self._standing = standing
        self._known = ground.index.last_number()
        self._fresh = ground.index.is_fresh()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="listing")
        self._stop = threading.Event()

    def __enter__(self) -> Self:
        self._future = self._pool.submit(self._list)
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Wait until the listing ends, even when it fails."""
        self._future.exception()

    def check(self, numbers: Iterable[int]) -> None:
        """Compare keyrings, and the containers of these numbers that earlier runs made, with the store.

        Raises DamageError when one is missing; the next run then sends again what is needed, as a full copy when no
        purge or expiry since explains it.
        """
        ground, generation = self._ground, self._ground.generation.id
        listed = self._future.result()
        needed = ground.index.containers(sorted(number for number in numbers if number <= self._known))
        holdings = Holdings(list_keyrings(ground.repository, generation), listed)
        keyrings = missing_keyrings(ground, holdings.keyrings)
        missing = Missing(generation, keyrings, missing_containers(needed.values(), holdings))
        if not missing:
            return
        ledger = read_standing(ground.repository, ground.node, self._standing.region)
        if keyrings or not ledger.removals_since(self._standing.head.seq):
            ground.index.abandon()
        else:
            ground.index.forget(one.number for one in missing.containers)
        raise DamageError(
            f"{missing} of earlier runs are no longer on the store, the first is '{missing.first}'",
            hint="Run `backupd verify` to see which snapshots this damages; the next backup sends the content again.",
        )

    def _list(self) -> Mapping[ObjectHash, int]:
        if self._fresh:
            return {}
        return list_containers(self._ground.repository, self._ground.generation.id, self._stop)
