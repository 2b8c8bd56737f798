"""Look into a store's own snapshots: nothing can be removed from them, so they are watched until they age out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import ObjectMissingError, StoreError
from backupd.model.ids import GenerationId, ObjectName, Pseudonym
from backupd.model.ledger import SegmentRef
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.planning.incarnations import Purge
from backupd.repository import layout
from backupd.repository.incoming import unfinished_objects
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.repository import Repository
from backupd.seal.documents import LIMITS
from backupd.seal.keyring import parse_keyring
from backupd.store.base import ServerSnapshot, StoreView

if TYPE_CHECKING:
    from backupd.repository.state.keyring_cache import CachedSegment

_A_DAY = timedelta(days=1)
"""How long after the instant in its name a store's snapshot may have been made, when the name is a day."""


@dataclass(frozen=True, slots=True)
class SnapshotHoldings:
    """The store's own snapshots that were looked into, and those that hold something of some segments."""

    looked_into: tuple[str, ...]
    still_in: tuple[str, ...]
    """Snapshots that hold an object or a key of them; also `tmp` while there may be something from before the purge in
    uploads or in what was handed in."""


def look_into_snapshots(keeper: Keeper, store: str, purge: Purge, listed: Sequence[CachedSegment]) -> SnapshotHoldings:
    """Look for the segments of a purge in every snapshot the store shows of itself.

    `listed` are those of the segments that keyrings on the store list. Raises StoreError when a snapshot cannot be
    looked into, or does not show what must be in it: then finding nothing would prove nothing.
    """
    repository = keeper.stores[store]
    snapshots = repository.store.snapshots()
    keyrings = by_keyring(listed)
    # Keyrings that left the store with their generation may still be in its snapshots.
    unlisted = purge.segments - {(one.generation, one.pseudonym) for one in listed}
    still = []
    for snapshot in snapshots:
        view = repository.store.view(snapshot)
        if view.stat(layout.REPOSITORY) is None:
            _must_be_older(repository, snapshot)
            continue
        remains = any(_remains(view, purge.segments)) or uploads_from_before(view, purge.began)
        if remains or _holds_keys(view, repository, keyrings) or _holds_unlisted(view, repository, unlisted):
            still.append(snapshot.name)
    if uploads_from_before(repository.store, purge.began):
        still.append(layout.TEMPORARY)
    return SnapshotHoldings(tuple(snapshot.name for snapshot in snapshots), tuple(still))


def _remains(view: StoreView, segments: Iterable[SegmentRef]) -> Iterator[bool]:
    for generation, pseudonym in segments:
        yield next(view.list(layout.segment_folder(generation, pseudonym)), None) is not None


def holds_key(
    view: StoreView, repository: Repository, segments: set[SegmentRef], listed: Sequence[CachedSegment]
) -> bool:
    """Check whether a keyring in the view holds a key of one of the segments.

    `listed` are those of them that live keyrings list. Raises DamageError for a keyring that cannot be believed.
    """
    unlisted = segments - {(one.generation, one.pseudonym) for one in listed}
    return _holds_keys(view, repository, by_keyring(listed)) or _holds_unlisted(view, repository, unlisted)


def _holds_keys(view: StoreView, repository: Repository, keyrings: Mapping[ObjectName, set[Pseudonym]]) -> bool:
    for where, doomed in keyrings.items():
        try:
            data = view.get(where, 0, LIMITS["keyring"] + 1)
        except ObjectMissingError:
            continue  # made later, or gone with its generation
        keyring = parse_keyring(data, repository.signers, where)
        if not doomed <= keyring.shredded:
            return True
    return False


def _holds_unlisted(view: StoreView, repository: Repository, unlisted: Iterable[SegmentRef]) -> bool:
    wanted: dict[GenerationId, set[Pseudonym]] = {}
    for generation, pseudonym in unlisted:
        wanted.setdefault(generation, set()).add(pseudonym)
    for generation, doomed in wanted.items():
        for info in view.list(layout.keyrings_folder(generation)):
            if layout.place_of(info.name).kind is not layout.ObjectKind.KEYRING:
                continue
            keyring = parse_keyring(view.get(info.name, 0, LIMITS["keyring"] + 1), repository.signers, info.name)
            if (doomed & {pseudonym for pseudonym, _ in keyring.index}) - keyring.shredded:
                return True
    return False


def by_keyring(segments: Iterable[CachedSegment]) -> dict[ObjectName, set[Pseudonym]]:
    found: dict[ObjectName, set[Pseudonym]] = {}
    for listed in segments:
        found.setdefault(listed.keyring, set()).add(listed.pseudonym)
    return found


def _must_be_older(repository: Repository, snapshot: ServerSnapshot) -> None:
    """Raise StoreError unless the snapshot may be older than the repository.

    A younger one that does not show the repository is not of the folder that we think it is.
    """
    created = parse_stamp(repository.info().created)
    if snapshot.made is None or snapshot.made > created + _A_DAY:
        raise StoreError(
            f"the store's snapshot '{snapshot.name}' does not show this repository",
            hint="Check that the store's path lies in what its snapshots cover; until then no absence can be attested.",
        )


def uploads_from_before(view: StoreView, began: datetime) -> bool:
    """Check whether something is unfinished there that a run begun before the purge may have left."""
    return any(info.modified < began + LONGEST_RUN for info in unfinished_objects(view))
