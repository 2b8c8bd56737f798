"""The removal of segments from a store: their lines from its keyrings, their sections from its packs.

Segments of several purges go together, so that a keyring or pack that holds something of many is replaced once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from backupd.errors import BackupdError, BusyError, DamageError, RefusedError, StoreError, StoreGoneError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym
from backupd.model.ledger import SegmentRef
from backupd.operations.keeper.keyrings import replace_keyring
from backupd.operations.keeper.pack_rewrite import take_out
from backupd.operations.keeper.server_snapshots import by_keyring
from backupd.operations.keeper.types import Keeper
from backupd.parallel import in_parallel
from backupd.repository import layout
from backupd.repository.state.keyring_cache import KeyringCache
from backupd.repository.state.pack_cache import StoredPack, segments_by_generation
from backupd.seal.keyring import Keyring, without_lines
from backupd.seal.keyring_lines import SealedLines
from backupd.seal.pack import PackHeader

_LISTINGS = 10
"""Times that a generation's packs are listed at most, while new ones arrive."""


@dataclass(slots=True)
class SegmentRemoval:
    """The objects that were replaced by ones without some segments, and those that could not be."""

    objects: int = 0
    """How many were replaced."""
    taken: dict[SegmentRef, dict[int, int]] = field(default_factory=dict)
    """By segment, the number of each object that it was taken out of, with the bytes of its sections there."""
    errors: list[tuple[frozenset[SegmentRef], BackupdError]] = field(default_factory=list)
    """Each with the segments of which something may be left because of it."""
    unsound: dict[ObjectName, BackupdError] = field(default_factory=dict)
    """Packs whose headers cannot be believed: what they hold, nobody knows."""

    def of(self, segments: frozenset[SegmentRef]) -> tuple[int, int]:
        """Return from how many objects some of these segments were taken, and the bytes of their sections."""
        shares = [share for ref in segments for share in self.taken.get(ref, {}).items()]
        return len({number for number, _ in shares}), sum(size for _, size in shares)

    def note(self, sizes: Mapping[SegmentRef, int]) -> None:
        """Note an object out of which these segments were taken, with the bytes of their sections."""
        self.objects += 1
        for ref, size in sizes.items():
            self.taken.setdefault(ref, {})[self.objects] = size

    def require(self) -> None:
        """Raise the first error, if there is one."""
        for error in (*(error for _, error in self.errors), *self.unsound.values()):
            raise error


def shred(keeper: Keeper, store: str, cache: KeyringCache, segments: Iterable[SegmentRef]) -> SegmentRemoval:
    """Take these segments' lines out of every keyring of a store; what stands there then is read again.

    Raises StoreGoneError.
    """
    done = SegmentRemoval()
    for where, doomed in by_keyring(cache.find(segments)).items():
        generation = layout.place_of(where).generation
        refs = frozenset((generation, segment) for segment in doomed) if generation is not None else frozenset()
        try:
            gone = _shred_one(keeper, store, cache, where, doomed)
        except StoreGoneError:
            raise
        except (StoreError, DamageError, RefusedError, BusyError) as error:
            done.errors.append((refs, error))
            continue
        if gone:
            done.note({ref: 0 for ref in refs if ref[1] in gone})
    return done


def _shred_one(
    keeper: Keeper, store: str, cache: KeyringCache, where: ObjectName, doomed: set[Pseudonym]
) -> set[Pseudonym]:
    """Return the segments whose lines were taken out of a keyring; none when it had lost all of them before."""
    if doomed <= cache.lost(where):
        # It is looked into again, as somebody may have put it back, but without a mark.
        keyring = keeper.stores[store].keyring(where)
        if not (doomed & keyring.segments) - keyring.shredded:
            return set()
    done = replace_keyring(keeper, store, where, partial(_without, doomed), partial(_check_smaller, doomed))
    if not doomed & done.after.segments <= done.after.shredded:
        raise DamageError(f"'{where}' still holds keys that were just removed from it")
    cache.note(done.after, done.size)
    return done.after.shredded - done.before.shredded


def _without(doomed: set[Pseudonym], data: bytes, keyring: Keyring) -> bytes:
    return without_lines(data, keyring, doomed)


def _check_smaller(doomed: set[Pseudonym], keyring: Keyring, smaller: Keyring) -> None:
    """Raise DamageError unless the new keyring lacks the doomed lines only."""
    kept = SealedLines(item for item in keyring.sealed.items() if keyring.index[item[0]][0] not in doomed)
    if (smaller.ids, smaller.index, smaller.wraps, smaller.sealed) != (keyring.ids, keyring.index, keyring.wraps, kept):
        raise DamageError(f"'{keyring.where}' would lose more than the keys that have to go")


def clear(keeper: Keeper, store: str, cache: KeyringCache, segments: Iterable[SegmentRef]) -> SegmentRemoval:
    """Take the segments' sections out of every pack of a store.

    The packs are listed until none is new. Raises StoreGoneError, and StoreError when packs keep arriving.
    """
    done = SegmentRemoval()
    for generation, doomed in sorted(segments_by_generation(segments).items()):
        seen: set[ObjectHash] = set()
        for _ in range(_LISTINGS):
            listed = cache.packs.refresh(keeper.stores[store], generation, keeper.threads, done.unsound)
            holding = cache.packs.listing(generation, doomed) - seen
            fresh = [pack for pack in listed if pack.sha256 in holding]
            if not fresh:
                break
            seen |= holding
            _take_all(keeper, store, _headers(cache, generation, fresh), doomed, done)
        else:
            raise StoreError(f"packs keep arriving in generation {generation}", hint="The next run goes on.")
    return done


def _headers(cache: KeyringCache, generation: GenerationId, packs: Iterable[StoredPack]) -> Iterator[PackHeader]:
    for pack in packs:
        header = cache.packs.header(generation, pack.sha256)
        if header is None:
            raise DamageError(f"the header of '{pack.name}' is not known", hint="The next run reads it.")
        yield header


def _take_all(
    keeper: Keeper, store: str, headers: Iterable[PackHeader], doomed: set[Pseudonym], done: SegmentRemoval
) -> None:
    """Take the doomed segments' sections out of these packs, several at once.

    Errors of single packs are noted; raises StoreGoneError.
    """

    def choose(header: PackHeader) -> list[int]:
        return [place for place, row in enumerate(header.rows) if row.segment in doomed]

    for header, taken in in_parallel(lambda one: take_out(keeper, store, one, choose), headers, keeper.threads):
        generation = header.context.generation
        try:
            gone = taken.result().places
        except StoreGoneError:
            raise
        except (DamageError, StoreError, BusyError) as error:
            refs = frozenset((generation, header.rows[place].segment) for place in choose(header))
            done.errors.append((refs, error))
            continue
        if gone:
            sizes: dict[SegmentRef, int] = {}
            for place in gone:
                row = header.rows[place]
                sizes[generation, row.segment] = sizes.get((generation, row.segment), 0) + row.length
            done.note(sizes)
