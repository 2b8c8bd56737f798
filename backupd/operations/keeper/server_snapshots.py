"""Look into a store's own snapshots: nothing can be removed from them, so they are watched until they age out.

`backupd manual trust`, row *the store's own snapshots*, says who can write this, and what is checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backupd.errors import BackupdError, DamageError, ObjectMissingError, RefusedError, StoreError
from backupd.model.ids import ObjectName, Pseudonym
from backupd.model.ledger import SegmentRef
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.planning.incarnations import IncarnationKey, Purge
from backupd.repository import layout
from backupd.repository.incoming import unfinished_objects
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.packs import OpenPack, fetch_head, parse_pack, reopened
from backupd.repository.repository import Repository
from backupd.repository.state.pack_cache import PackCache, segments_by_generation
from backupd.seal.documents import LIMITS
from backupd.seal.keyring import Keyring, parse_keyring
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


def look_into_snapshots(
    keeper: Keeper, store: str, purges: Mapping[IncarnationKey, Purge], cache: KeyringCache
) -> dict[IncarnationKey, SnapshotHoldings]:
    """Look for the segments of purges in every snapshot the store shows of itself, each once for all of them.

    Raises StoreError when a snapshot cannot be looked into, or does not show what must be in it, and DamageError for a
    pack or keyring in one that cannot be believed: then finding nothing would prove nothing. Of what came behind a
    purge that is only so of what came before the end of the runs from before the last of these purges.
    """
    repository = keeper.stores[store]
    snapshots = repository.store.snapshots()
    wanted = {ref for purge in purges.values() for ref in purge.segments}
    began = max((purge.began for purge in purges.values()), default=None)
    listed = cache.find(wanted)
    still: dict[IncarnationKey, list[str]] = {key: [] for key in purges}
    for snapshot in snapshots:
        view = repository.store.view(snapshot)
        if view.stat(layout.REPOSITORY) is None:
            _must_be_older(repository, snapshot)
            continue
        held = set(_held_sections(view, repository, wanted, cache, began))
        held.update(_held_keys(view, repository, (wanted, listed), began))
        oldest = oldest_upload(view)
        for key, purge in purges.items():
            if not held.isdisjoint(purge.segments) or is_from_before(oldest, purge.began):
                still[key].append(snapshot.name)
    oldest = oldest_upload(repository.store)
    for key, purge in purges.items():
        if is_from_before(oldest, purge.began):
            still[key].append(layout.TEMPORARY)
    names = tuple(snapshot.name for snapshot in snapshots)
    return {key: SnapshotHoldings(names, tuple(found)) for key, found in still.items()}


def holds_section(view: StoreView, repository: Repository, segments: Iterable[SegmentRef], cache: KeyringCache) -> bool:
    """Check whether a pack in the view holds a section of one of the segments, or may: it has not the size of its map.

    Headers that are known are not read again; those of packs that left the store before they were known are read from
    the view, and remembered. Raises DamageError, RefusedError.
    """
    return any(True for _ in _held_sections(view, repository, segments, cache, None))


def _held_sections(
    view: StoreView,
    repository: Repository,
    segments: Iterable[SegmentRef],
    cache: KeyringCache,
    began: datetime | None,
) -> Iterator[SegmentRef]:
    """Yield the segments of which packs in the view hold a section, or may, as `holds_section` says.

    What nobody can believe is left out when it came after the runs from before a purge that `began` then were over.
    """
    for generation, doomed in segments_by_generation(segments).items():
        context = PackContext(repository.info().repository, generation)
        for segment in _held_in_generation(view, context, doomed, cache.packs, began):
            yield generation, segment


def _held_in_generation(
    view: StoreView, context: PackContext, doomed: set[Pseudonym], packs: PackCache, began: datetime | None
) -> Iterator[Pseudonym]:
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
        suspect = info.size != there.pack_size
        yield from (header.rows[index].segment for index in places if suspect or index in there)


def _map_of(view: StoreView, name: ObjectName, header: PackHeader) -> PresenceMap:
    return reopened(view, OpenPack(name, header, PresenceMap.full(header))).there


def holds_key(
    view: StoreView, repository: Repository, segments: set[SegmentRef], listed: Sequence[CachedSegment]
) -> bool:
    """Check whether a keyring in the view holds a key of one of the segments.

    `listed` are those of them that live keyrings list. Raises DamageError for a keyring that cannot be believed.
    """
    return any(True for _ in _held_keys(view, repository, (segments, listed), None))


def _held_keys(
    view: StoreView,
    repository: Repository,
    wanted: tuple[set[SegmentRef], Sequence[CachedSegment]],
    began: datetime | None,
) -> Iterator[SegmentRef]:
    """Yield the wanted segments of which keyrings in the view hold a key; with them those that live keyrings list."""
    segments, listed = wanted
    for where, doomed in by_keyring(listed).items():
        try:
            data = view.get(where, 0, LIMITS["keyring"] + 1)
        except ObjectMissingError:
            continue  # made later, or gone with its generation
        yield from _keys_in(parse_keyring(data, repository.signers, where), doomed)
    # Keyrings that left the store may still be in its snapshots.
    unlisted = segments - {(one.generation, one.pseudonym) for one in listed}
    for generation, doomed in segments_by_generation(unlisted).items():
        for info in view.list(layout.keyrings_folder(generation)):
            if layout.place_of(info.name).kind is not layout.ObjectKind.KEYRING:
                continue
            try:
                keyring = parse_keyring(view.get(info.name, 0, LIMITS["keyring"] + 1), repository.signers, info.name)
            except (DamageError, RefusedError):
                if began is None or is_from_before(info.modified, began):
                    raise
                continue
            yield from _keys_in(keyring, doomed)


def _keys_in(keyring: Keyring, doomed: set[Pseudonym]) -> Iterator[SegmentRef]:
    return ((keyring.ids.generation, segment) for segment in (doomed & keyring.segments) - keyring.shredded)


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
