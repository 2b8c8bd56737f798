"""Look into a store's own snapshots: nothing can be removed from them, so they are watched until they age out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, DamageError, ObjectMissingError, RefusedError, StoreError
from backupd.model.ids import GenerationId, ObjectName, Pseudonym
from backupd.model.ledger import SegmentRef
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.planning.incarnations import Purge
from backupd.repository import layout
from backupd.repository.incoming import unfinished_objects
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.packs import OpenPack, fetch_head, parse_pack, reopened
from backupd.repository.repository import Repository
from backupd.repository.state.pack_cache import PackCache, segments_by_generation
from backupd.seal.documents import LIMITS
from backupd.seal.keyring import parse_keyring
from backupd.seal.pack import PackContext, PackHeader, PresenceMap
from backupd.store.base import ServerSnapshot, StoreView

if TYPE_CHECKING:
    from backupd.repository.state.keyring_cache import CachedSegment, KeyringCache

_A_DAY = timedelta(days=1)
"""How long after the instant in its name a store's snapshot may have been made, when the name is a day."""


@dataclass(frozen=True, slots=True)
class SnapshotHoldings:
    """The store's own snapshots that were looked into, and those that hold something of some segments."""

    looked_into: tuple[str, ...]
    still_in: tuple[str, ...]
    """Snapshots that hold a section or a key of them; also `tmp` while there may be something from before the purge in
    uploads or in what was handed in."""


def look_into_snapshots(keeper: Keeper, store: str, purge: Purge, cache: KeyringCache) -> SnapshotHoldings:
    """Look for the segments of a purge in every snapshot the store shows of itself.

    Raises StoreError when a snapshot cannot be looked into, or does not show what must be in it, and DamageError for a
    pack or keyring in one that cannot be believed: then finding nothing would prove nothing.
    """
    repository = keeper.stores[store]
    snapshots = repository.store.snapshots()
    listed = cache.find(purge.segments)
    keyrings = by_keyring(listed)
    # Keyrings that left the store may still be in its snapshots.
    unlisted = purge.segments - {(one.generation, one.pseudonym) for one in listed}
    still = []
    for snapshot in snapshots:
        view = repository.store.view(snapshot)
        if view.stat(layout.REPOSITORY) is None:
            _must_be_older(repository, snapshot)
            continue
        remains = holds_section(view, repository, purge.segments, cache, purge.began) or is_from_before(
            oldest_upload(view), purge.began
        )
        if (
            remains
            or _holds_keys(view, repository, keyrings)
            or _holds_unlisted(view, repository, unlisted, purge.began)
        ):
            still.append(snapshot.name)
    if is_from_before(oldest_upload(repository.store), purge.began):
        still.append(layout.TEMPORARY)
    return SnapshotHoldings(tuple(snapshot.name for snapshot in snapshots), tuple(still))


def holds_section(
    view: StoreView,
    repository: Repository,
    segments: Iterable[SegmentRef],
    cache: KeyringCache,
    began: datetime | None = None,
) -> bool:
    """Check whether a pack in the view holds a section of one of the segments, or may: it has not the size of its map.

    Headers that are known are not read again; those of packs that left the store before they were known are read from
    the view, and remembered. What nobody can believe and came when runs from before a purge that `began` then were
    over is left out. Raises DamageError, RefusedError.
    """
    return any(
        _generation_holds(view, PackContext(repository.info().repository, generation), doomed, cache.packs, began)
        for generation, doomed in segments_by_generation(segments).items()
    )


def _generation_holds(
    view: StoreView, context: PackContext, doomed: set[Pseudonym], packs: PackCache, began: datetime | None
) -> bool:
    known, holding = packs.known(context.generation), packs.listing(context.generation, doomed)
    for info in view.list(layout.packs_folder(context.generation)):
        sha256 = layout.place_of(info.name).sha256
        if sha256 is None or (sha256 in known and sha256 not in holding):
            continue
        header = packs.header(context.generation, sha256) if sha256 in known else None
        if header is None:
            try:
                header = parse_pack(fetch_head(view, info.name), context, sha256).header
            except (DamageError, RefusedError):
                if began is None or is_from_before(info.modified, began):
                    raise
                continue
            packs.note(header)
        places = [index for index, row in enumerate(header.rows) if row.segment in doomed]
        # A listed pack that is missing is an error, too: nothing leaves a snapshot that exists.
        if not places:
            continue
        there = _map_of(view, info.name, header)
        # Of more bytes than header and map speak of, nobody knows whose they are.
        if info.size != there.pack_size or any(index in there for index in places):
            return True
    return False


def _map_of(view: StoreView, name: ObjectName, header: PackHeader) -> PresenceMap:
    return reopened(view, OpenPack(name, header, PresenceMap.full(header))).there


def holds_key(
    view: StoreView, repository: Repository, segments: set[SegmentRef], listed: Sequence[CachedSegment]
) -> bool:
    """Check whether a keyring in the view holds a key of one of the segments.

    `listed` are those of them that live keyrings list. Raises DamageError for a keyring that cannot be believed.
    """
    unlisted = segments - {(one.generation, one.pseudonym) for one in listed}
    return _holds_keys(view, repository, by_keyring(listed)) or _holds_unlisted(view, repository, unlisted, None)


def _holds_keys(view: StoreView, repository: Repository, keyrings: Mapping[ObjectName, set[Pseudonym]]) -> bool:
    for where, doomed in keyrings.items():
        try:
            data = view.get(where, 0, LIMITS["keyring"] + 1)
        except ObjectMissingError:
            continue  # made later, or gone with its generation
        keyring = parse_keyring(data, repository.signers, where)
        if (doomed & keyring.segments) - keyring.shredded:
            return True
    return False


def _holds_unlisted(
    view: StoreView, repository: Repository, unlisted: Iterable[SegmentRef], began: datetime | None
) -> bool:
    wanted: dict[GenerationId, set[Pseudonym]] = {}
    for generation, pseudonym in unlisted:
        wanted.setdefault(generation, set()).add(pseudonym)
    for generation, doomed in wanted.items():
        for info in view.list(layout.keyrings_folder(generation)):
            if layout.place_of(info.name).kind is not layout.ObjectKind.KEYRING:
                continue
            try:
                keyring = parse_keyring(view.get(info.name, 0, LIMITS["keyring"] + 1), repository.signers, info.name)
            except (DamageError, RefusedError):
                if began is None or is_from_before(info.modified, began):
                    raise
                continue
            if (doomed & keyring.segments) - keyring.shredded:
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


def oldest_upload(view: StoreView) -> datetime | None:
    """Return the time of the oldest thing that is unfinished there; None when nothing is."""
    return min((info.modified for info in unfinished_objects(view)), default=None)


def from_before(
    store: StoreView, unsound: Mapping[ObjectName, BackupdError], began: datetime | None
) -> list[BackupdError]:
    """Return the errors of those objects that runs from before the purge can have made; of all without `began`.

    What came later is nothing that an honest run leaves, and may come every day: it must not keep a purge from its end.
    """
    if began is None:
        return list(unsound.values())
    found = {name: store.stat(name) for name in unsound}
    return [unsound[name] for name, info in found.items() if info is not None and is_from_before(info.modified, began)]


def is_from_before(uploaded: datetime | None, began: datetime) -> bool:
    """Check whether something unfinished may be left by a run that began before the purge."""
    return uploaded is not None and uploaded < began + LONGEST_RUN
