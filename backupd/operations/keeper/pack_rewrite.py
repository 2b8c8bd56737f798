"""Take sections out of a pack, or put them back: the same header, a new map, and all others byte for byte.

The new pack is made beside the old one and renamed over it, so at every instant one of the two is there; who was
interrupted does it again. A pack of which no section is left keeps its header and map: a record may name it, and only
they say whose sections are gone (FORMAT.md §2).

`backupd manual trust`, row *a pack's map of what is there*, says who can write this, and what is checked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from backupd.errors import DamageError, ObjectMissingError
from backupd.model.ids import ObjectName
from backupd.operations.keeper.types import Keeper
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.repository.marks import rewrite_marked
from backupd.repository.packs import OpenPack, Section, reopened
from backupd.repository.repository import Repository
from backupd.seal.pack import PackHeader, PresenceMap
from backupd.store.base import Kept, Piece

_WINDOW = 4 << 20
"""Bytes of a section that are in memory at once."""

Choice = Callable[[PackHeader], Collection[int]]
"""Returns the places of the sections to take out, whether or not they are still there."""


@dataclass(frozen=True, slots=True)
class TakenOut:
    """The sections that one rewriting took out of a pack, and their bytes."""

    sections: int = 0
    bytes: int = 0
    places: frozenset[int] = field(default=frozenset(), compare=False)
    """Where in the header the sections stand that were taken out."""


def take_out(keeper: Keeper, store: str, header: PackHeader, choose: Choice) -> TakenOut:
    """Take sections out of the pack with this header on a store; the pack is read again afterwards.

    Nothing is written where none of them is there any more; a pack that is gone has none. Raises DamageError for a pack
    whose size is not that of its header, map and sections, which stays as it is: a map that says that a section is gone
    proves nothing then. Also for one that is not right afterwards. One with a damaged header is not, but its sections
    are gone, so that it stands in no purge's way. Raises BusyError when another keeper holds its mark for too long, and
    the store's errors; then the store has either the old pack or the new one.
    """
    repository = keeper.stores[store]
    name = layout.pack_name(header.context.generation, header.sha256)
    doomed = frozenset(choose(header))
    try:
        seen = OpenPack(name, header, PresenceMap.full(header))
        there = reopened(repository.store, seen).there
        if doomed.isdisjoint(there.there) and _size_of(repository, name) == there.pack_size:
            return TakenOut()
        with rewrite_marked(repository.store, name, keeper.random(16).hex(), keeper.clock) as still_mine:
            pack = reopened(repository.store, seen)
            gone = doomed.intersection(pack.there.there)
            # Also where none is there by the map: of more bytes than it speaks of, nobody knows whose they are.
            _require_size(repository, pack.there, name)
            if not gone:
                return TakenOut()
            left = pack.there.without(gone)
            _require_own_bytes(keeper, repository, pack, gone)
            still_mine()
            repository.store.recompose(name, list(_pieces(pack.there, left)), pack.there.pack_size)
            _require_right(keeper, repository, pack.there, OpenPack(name, header, left))
    except ObjectMissingError:
        return TakenOut()  # expired meanwhile
    return TakenOut(len(gone), sum(header.rows[index].length for index in gone), gone)


def put_back(keeper: Keeper, store: str, header: PackHeader, sections: Mapping[int, bytes]) -> int:
    """Put sections back into the pack with this header on a store, by their places; returns the bytes that it lacked.

    The caller has compared each with its hash in the header. Raises DamageError for a pack whose size is not that of
    its header, map and sections, or one that is not right afterwards; ObjectMissingError; BusyError when another keeper
    holds its mark for too long; and the store's errors: then the store has either the old pack or the new one.
    """
    repository = keeper.stores[store]
    name = layout.pack_name(header.context.generation, header.sha256)
    with rewrite_marked(repository.store, name, keeper.random(16).hex(), keeper.clock) as still_mine:
        pack = reopened(repository.store, OpenPack(name, header, PresenceMap.full(header)))
        fresh = {at: data for at, data in sections.items() if at not in pack.there}
        if not fresh:
            return 0
        _require_size(repository, pack.there, name)
        whole = PresenceMap.of(header, {*pack.there.there, *fresh})
        still_mine()
        repository.store.recompose(name, list(_pieces(pack.there, whole, fresh)), pack.there.pack_size)
        _require_right(keeper, repository, pack.there, OpenPack(name, header, whole), fresh)
    return sum(map(len, fresh.values()))


def _pieces(before: PresenceMap, after: PresenceMap, fresh: Mapping[int, bytes] | None = None) -> Iterator[Piece]:
    yield Kept(0, len(before.header.raw), bytes.fromhex(before.header.sha256))
    yield after.raw
    for index in after.there:
        row = before.header.rows[index]
        yield fresh[index] if fresh and index in fresh else Kept(before.offsets[index], row.length, row.sha256)


def _require_size(repository: Repository, there: PresenceMap, name: ObjectName) -> None:
    """Raise DamageError unless the pack has the size that follows from its header and map."""
    size = _size_of(repository, name)
    if size != there.pack_size:
        raise DamageError(
            f"'{name}' has {size} bytes, and {there.pack_size} by its header and map",
            hint="Nothing was taken out of it. Put it back from another store, or from the store's own snapshots "
            "(`backupd manual incidents`).",
        )


def _require_own_bytes(keeper: Keeper, repository: Repository, pack: OpenPack, gone: Collection[int]) -> None:
    """Raise DamageError when bytes that have to go may stand in another section's place.

    A section that has to go and rotted goes all the same; but where one of the others is wrong, too, somebody may have
    exchanged them, and what was taken out would not be what has to go.
    """
    if not _wrong(keeper, repository, pack, gone):
        return
    wrong = _wrong(keeper, repository, pack, set(pack.there.there).difference(gone))
    if wrong:
        raise DamageError(
            f"'{pack.name}' has in another section's place what must not be there: section {wrong[0]} has not its hash",
            hint="Nothing was taken out of it. Put it back from another store, or from the store's own snapshots "
            "(`backupd manual incidents`).",
        )


def _wrong(keeper: Keeper, repository: Repository, pack: OpenPack, places: Collection[int]) -> list[int]:
    sections = [pack.section(index) for index in sorted(places)]
    checked = in_parallel(lambda one: _has_its_hash(repository, one), sections, keeper.threads)
    return [section.at for section, right in checked if not right.result()]


def _size_of(repository: Repository, name: ObjectName) -> int:
    seen = repository.store.stat(name)
    if seen is None:
        raise ObjectMissingError(f"no such object on the store: '{name}'")
    return seen.size


def _require_right(
    keeper: Keeper, repository: Repository, before: PresenceMap, wanted: OpenPack, fresh: Collection[int] = ()
) -> None:
    """Raise DamageError unless the pack, read again, has the map that was wanted, and its sections in their places.

    Read whole are the `fresh` sections, the first one of every stretch that was moved as one, and the last of all: so a
    stretch in a wrong place shows without reading everything.
    """
    found = repository.pack(wanted.header.context.generation, wanted.header.sha256)
    if found.there.raw != wanted.there.raw:
        raise DamageError(f"'{wanted.name}' was replaced, and has not the map that it was given")
    _require_size(repository, found.there, found.name)
    moved = [found.section(index) for index in sorted({*_ends(before, found.there), *fresh})]
    for section, right in in_parallel(lambda one: _has_its_hash(repository, one), moved, keeper.threads):
        if not right.result():
            raise DamageError(
                f"'{section.where}' does not have the hash its header says",
                hint="It was so before other sections were taken out of the pack, or the store copied it wrongly. Put "
                "the pack back from another store (`backupd manual incidents`).",
            )


def _ends(before: PresenceMap, after: PresenceMap) -> list[int]:
    """Return the first section of every stretch that stayed together, and the last section of all."""
    left = after.there
    firsts = left[:1] + [
        second for first, second in pairwise(left) if before.offsets[first + 1] != before.offsets[second]
    ]
    return sorted({*firsts, *left[-1:]})


def _has_its_hash(repository: Repository, section: Section) -> bool:
    digest = hashlib.sha256()
    for at in range(0, section.row.length, _WINDOW):
        wanted = min(_WINDOW, section.row.length - at)
        digest.update(repository.store.get(section.pack.name, section.offset + at, wanted))
    return digest.digest() == section.row.sha256
