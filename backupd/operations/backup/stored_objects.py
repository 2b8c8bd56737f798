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

from backupd.errors import BusyError, DamageError, ObjectMissingError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, RunId
from backupd.model.text import counts
from backupd.operations.backup.generation import read_standing
from backupd.planning.ledger_facts import explain_absences
from backupd.repository.layout import keyring_name, keyrings_folder, pack_name, packs_folder, place_of
from backupd.repository.repository import Repository
from backupd.repository.state.index import Generation, Index, IndexedPack
from backupd.seal.pack import PresenceMap

if TYPE_CHECKING:
    from backupd.operations.backup.generation import LedgerStanding
    from backupd.operations.backup.types import Node


LISTING_LIFE = 1800.0
"""Seconds for which a listing made while rows are read is good enough for the comparison before the record."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """The objects that a store holds of one generation, as its folders list them."""

    keyrings: frozenset[RunId]
    packs: Mapping[ObjectHash, int]
    """Bytes of each pack, by its name."""


@dataclass(frozen=True, slots=True)
class Missing:
    """The objects on which an index relies and that the store does not hold, or not completely."""

    generation: GenerationId
    keyrings: tuple[RunId, ...] = ()
    packs: tuple[IndexedPack, ...] = ()
    """Packs that are not there, or whose header cannot be believed."""
    sections: tuple[tuple[IndexedPack, int, tuple[int, ...]], ...] = ()
    """Packs that lack sections: the size of each now, and the places of what it lacks."""

    def __len__(self) -> int:
        return len(self.keyrings) + len(self.packs) + len(self.sections)

    @property
    def first(self) -> ObjectName:
        """Name of one object that is missing or lacks something, a keyring if there is any."""
        if self.keyrings:
            return keyring_name(self.generation, self.keyrings[0])
        return pack_name(self.generation, (*self.packs, *(pack for pack, _, _ in self.sections))[0].sha256)

    def __str__(self) -> str:
        return counts(keyring=len(self.keyrings), pack=len(self.packs) + len(self.sections))

    def forget(self, index: Index) -> None:
        """Let the index rely on none of it any more; keyrings cannot be forgotten alone."""
        for pack in self.packs:
            index.forget_pack(pack.id)
        for pack, size, places in self.sections:
            index.forget_sections(pack.id, places, size)


@dataclass(frozen=True, slots=True)
class Ground:
    """The index, the repository and the generation that a run compares, and the node that runs."""

    index: Index
    repository: Repository
    generation: Generation
    node: Node


def list_holdings(repository: Repository, generation: GenerationId) -> Holdings:
    """List a generation's folders."""
    return Holdings(list_keyrings(repository, generation), list_packs(repository, generation))


def list_packs(
    repository: Repository, generation: GenerationId, stop: threading.Event | None = None
) -> Mapping[ObjectHash, int]:
    """List packs with their sizes; the list is incomplete once `stop` is set."""
    found: dict[ObjectHash, int] = {}
    for listed in repository.store.list(packs_folder(generation)):
        sha256 = place_of(listed.name).sha256
        if sha256 is not None:
            found[sha256] = listed.size
        if stop is not None and stop.is_set():
            break
    return found


def list_keyrings(repository: Repository, generation: GenerationId) -> frozenset[RunId]:
    """List the runs whose keyrings the store holds: one folder, however many there are. An empty file is none."""
    places = (place_of(found.name) for found in repository.store.list(keyrings_folder(generation)) if found.size)
    return frozenset(place.run for place in places if place.run)


def missing_keyrings(ground: Ground, there: frozenset[RunId]) -> tuple[RunId, ...]:
    """Return published keyrings that are not among those `there`, and not on the store either.

    A keyring is replaced as a whole while others list the folder, so each that is not listed is asked for by name.
    """
    generation, store = ground.generation.id, ground.repository.store
    unlisted = sorted(ground.index.runs.published_keyrings() - there)
    seen = ((run, store.stat(keyring_name(generation, run))) for run in unlisted)
    return tuple(run for run, found in seen if found is None or not found.size)


def find_missing(ground: Ground, needed: Iterable[IndexedPack], holdings: Holdings) -> Missing:
    """Compare keyrings and packs with the listing; look into packs whose size has changed since the last look.

    What a pack lost and the index does not rely on, such as a purged segment that it has forgotten, is not missing.
    """
    index = ground.index
    packs: list[IndexedPack] = []
    sections: list[tuple[IndexedPack, int, tuple[int, ...]]] = []
    for pack in needed:
        size = holdings.packs.get(pack.sha256)
        if size == pack.size:
            continue
        there = None if size is None else _opened(ground, pack)
        relied = index.places(pack.id)
        if there is None or there.pack_size != size:
            packs += [pack] if relied else []
        elif lacking := tuple(place for place in relied if place not in there):
            sections.append((pack, size, lacking))
        else:
            index.forget_sections(pack.id, (), size)
    keyrings = missing_keyrings(ground, holdings.keyrings)
    return Missing(ground.generation.id, keyrings, tuple(packs), tuple(sections))


def _opened(ground: Ground, pack: IndexedPack) -> PresenceMap | None:
    try:
        return ground.repository.pack(ground.generation.id, pack.sha256).there
    except (DamageError, ObjectMissingError):
        return None


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
        missing.forget(ground.index)
        return standing, None
    return standing, Missing(ground.generation.id) if _expired_whole(ground, standing) else missing


def _missing(ground: Ground, holdings: Holdings, standing: LedgerStanding) -> Missing:
    """Return what is missing after everything that was purged is forgotten."""
    index, generation = ground.index, ground.generation.id
    if _removals(ground, standing):
        index.forget_segments(standing.purged(generation))
    return find_missing(ground, index.packs().values(), holdings)


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
        self._known = ground.index.packs()
        self._fresh = ground.index.is_fresh()
        self._since = ground.node.clock.monotonic()
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

    def check(self, packs: Iterable[int]) -> None:
        """Compare keyrings, and those of these packs that earlier runs made, with the store; all after a long run.

        Raises BusyError when a purge or an expiry since took some of them: the next run sends again what is needed.
        Raises DamageError when nothing explains what is missing: the next run is a full copy.
        """
        ground = self._ground
        listed, known = self._future.result(), self._known
        if ground.node.clock.monotonic() - self._since > LISTING_LIFE:
            # Also what this run has put there, by now long ago.
            listed, known = list_packs(ground.repository, ground.generation.id), ground.index.packs()
        needed = [known[pack] for pack in sorted(packs) if pack in known]
        missing = find_missing(ground, needed, Holdings(list_keyrings(ground.repository, ground.generation.id), listed))
        if not missing:
            return
        ledger = read_standing(ground.repository, ground.node, self._standing.region)
        if not missing.keyrings and ledger.removals_since(self._standing.head.seq):
            missing.forget(ground.index)
            raise BusyError(
                f"a purge or an expiry took {missing} of this generation, while this run relied on them",
                hint="Nothing is lost. The next backup sends again what is still needed.",
            )
        ground.index.abandon()
        raise DamageError(
            f"the store lacks {missing} of earlier runs, whole or in part; the first is '{missing.first}'",
            hint="Run `backupd verify` to see which snapshots this damages; the next backup sends the content again.",
        )

    def _list(self) -> Mapping[ObjectHash, int]:
        if self._fresh:
            return {}
        return list_packs(self._ground.repository, self._ground.generation.id, self._stop)
