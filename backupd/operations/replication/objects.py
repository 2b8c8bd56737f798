"""Copy keyrings, packs and documents from one store to another, checked on the way, through scratch files.

Memory holds a piece of each. Keyrings and packs are copied as they are, without the lines and sections of what was
purged.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError, SpoolFullError
from backupd.model.ids import GenerationId, ObjectHash, ObjectName, Pseudonym, RunId, SnapshotName
from backupd.model.text import parse_stamp
from backupd.operations.keeper.pack_rewrite import put_back
from backupd.operations.keeper.types import Keeper
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import standing_recipients
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
from backupd.repository.pack_check import KeyringListing, section_pieces
from backupd.repository.packs import OpenPack, reopened
from backupd.repository.repository import Repository
from backupd.seal.documents import read_document
from backupd.seal.keyring import Keyring, parse_keyring, without_lines
from backupd.trace import Progress


@dataclass(frozen=True, slots=True)
class Copying:
    """The two stores of a replication, and the keeper that replicates."""

    keeper: Keeper
    origin: str
    """Configured name of the store to copy from; nothing is written there except the ledger."""
    target: str
    """Configured name of the store to copy to."""
    scratch: Path
    """Folder for sealed objects under way, at most one for each thread; nothing is left in it."""
    threads: int = 4
    dry_run: bool = False

    @property
    def source(self) -> Repository:
        return self.keeper.stores[self.origin]

    @property
    def sink(self) -> Repository:
        return self.keeper.stores[self.target]


@dataclass(slots=True)
class Replication:
    """The result of a replication or, for a dry run, what it would copy."""

    origin: str
    target: str
    generations: int = 0
    snapshots: list[SnapshotName] = field(default_factory=list)
    already: int = 0
    """Snapshots of the origin that the target had already."""
    left_out: int = 0
    """Snapshots of the origin that expired on one of the stores."""
    objects: int = 0
    bytes: int = 0
    """Bytes of packs, keyrings and documents that were copied."""
    damage: list[str] = field(default_factory=list)
    """Sentences about damage at the origin; snapshots that need what is damaged were not copied."""
    refused: list[str] = field(default_factory=list)
    """Sentences about snapshots that were not copied because the target did not let its packs be rewritten."""


_AT_ONCE = 16 << 20
"""Bytes of sections that are put back into a pack at once."""
_LOOKS = 3
"""Times that a pack is copied at most when its map has changed each time."""


class WantedPack(NamedTuple):
    """A pack to be copied."""

    sha256: ObjectHash
    size: int
    """Its bytes at the origin."""
    without: Collection[Pseudonym]
    """Segments of which nothing is copied: purges list them."""


class Copier:
    """Copies objects under their own names. For one thread; it uses several."""

    def __init__(self, copying: Copying, done: Replication) -> None:
        self._copying = copying
        self._done = done
        self._lock = threading.Lock()

    def packs(self, generation: GenerationId, wanted: Iterable[WantedPack]) -> dict[ObjectHash, str]:
        """Copy packs of a generation; returns those of which something is wrong at the origin, and why."""
        lost: dict[ObjectHash, str] = {}
        threads = self._copying.threads
        for one, result in in_parallel(lambda one: self._pack(generation, one), wanted, threads):
            try:
                self._count(result.result())
            except (DamageError, ObjectMissingError) as error:
                lost[one.sha256] = error.message
        return lost

    def put_back(self, generation: GenerationId, sha256: ObjectHash, places: Collection[int]) -> set[int]:
        """Put sections of the origin's pack back into the target's, in which they are not.

        Returns those that the origin lacks, too, or has damaged. Raises the errors of `pack_rewrite.put_back`.
        """
        copying, left = self._copying, set(places)
        pack = copying.source.pack(generation, sha256)
        for _ in range(_LOOKS):
            for batch in _batches(pack, left):
                sections = {at: data for at in batch if (data := self._section(pack, at)) is not None}
                if sections:
                    self._count(put_back(copying.keeper, copying.target, pack.header, sections))
                    left -= sections.keys()
            fresh = reopened(copying.source.store, pack)
            if not left or fresh.there.raw == pack.there.raw:
                break
            pack = fresh  # a keeper took sections out since the map was read
        return left

    def _section(self, pack: OpenPack, at: int) -> bytes | None:
        """Return a section of the origin's pack; None where it is not there, or has not its hash."""
        if at not in pack.there:
            return None
        section = pack.section(at)
        data = bytes(self._copying.source.store.get(pack.name, section.offset, section.row.length))
        return data if hashlib.sha256(data).digest() == section.row.sha256 else None

    def documents(self) -> None:
        """Copy attestations and reports that the target lacks."""
        source, sink = self._copying.source, self._copying.sink
        for folder, kind in ((layout.ATTESTATIONS, "attestation"), (layout.REPORTS, "report")):
            there = {info.name for info in sink.store.list(folder)}
            for info in source.store.list(folder):
                if info.name in there or layout.place_of(info.name).kind.value != kind:
                    continue
                try:
                    data = source.read(info.name, kind)
                    read_document(data, kind, source.keepers, info.name)
                except UNSOUND as error:
                    self._done.damage.append(error.message)
                    continue
                if not self._copying.dry_run:
                    sink.put_document(info.name, data)
                self._count(len(data))

    def _pack(self, generation: GenerationId, wanted: WantedPack) -> int:
        source = self._copying.source
        pack = source.pack(generation, wanted.sha256)
        for attempt in range(_LOOKS):
            try:
                return self._copy(pack, wanted.without)
            except DamageError:
                # A keeper may have taken sections out since the map was read.
                fresh = reopened(source.store, pack)
                if fresh.there.raw == pack.there.raw or attempt == _LOOKS - 1:
                    raise
                pack = fresh
        raise AssertionError("the last attempt returns or raises")

    def _copy(self, pack: OpenPack, doomed: Collection[Pseudonym]) -> int:
        """Copy a pack without what it has of these segments; returns the bytes of the copy."""
        source, sink = self._copying.source.store, self._copying.sink.store
        left = pack.there.without([at for at, row in enumerate(pack.header.rows) if row.segment in doomed])
        digest = hashlib.sha256(pack.header.raw + left.raw)
        with self._scratch() as file:
            _write(file, pack.header.raw + left.raw)
            for piece in section_pieces(partial(source.get, pack.name), pack.there, pack.name):
                if piece.at not in left:
                    continue
                if piece.right is False:
                    raise DamageError(f"section {piece.at} of '{pack.name}' does not have the hash its header says")
                digest.update(piece.data)
                _write(file, piece.data)
            sha256 = ObjectHash(digest.hexdigest())
            sink.put_new(pack.name, file, left.pack_size, sha256)  # type: ignore[arg-type]  # a file without a name
        return left.pack_size

    def _scratch(self) -> IO[bytes]:
        try:
            return tempfile.TemporaryFile(dir=self._copying.scratch)
        except OSError as error:
            raise _full(error) from error

    def _count(self, size: int) -> None:
        done, keeper = self._done, self._copying.keeper
        done.objects, done.bytes = done.objects + 1, done.bytes + size
        keeper.trace.emit(Progress("replicating", self._copying.target, done.bytes, objects=done.objects))

    def counted(self, size: int) -> None:
        """Count something small, of `size` bytes, that another class copied."""
        self._count(size)


def _batches(pack: OpenPack, places: Collection[int]) -> Iterator[list[int]]:
    """Divide sections so that those of a batch fit into memory together, or there is but one."""
    batch: list[int] = []
    size = 0
    for at in sorted(places):
        length = pack.header.rows[at].length
        if batch and size + length > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(at)
        size += length
    if batch:
        yield batch


def _write(file: IO[bytes], piece: bytes | memoryview) -> None:
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise _full(error) from error


def _full(error: OSError) -> SpoolFullError:
    return SpoolFullError(
        f"the spool folder cannot be used ({error.strerror})", hint="Check node.spool_dir, its owner and its disk."
    )


class Keyrings:
    """The keyrings of one generation. For one thread."""

    def __init__(self, copying: Copying, generation: GenerationId) -> None:
        self._copying = copying
        self._generation = generation

    def listings(self, repository: Repository) -> dict[RunId, KeyringListing]:
        """Return what the keyrings on one of the stores list; one that cannot be believed counts as missing."""
        found: dict[RunId, KeyringListing] = {}
        for name in self._names(repository):
            try:
                keyring = repository.keyring(name)
            except UNSOUND:
                continue
            found[keyring.ids.run] = KeyringListing.of(keyring, self._copying.keeper.tags)
        return found

    def copy(self, needed: Iterable[RunId], purged: Collection[Pseudonym]) -> Iterator[int]:
        """Copy these keyrings of the origin, without the lines of what was purged; yields their sizes in bytes.

        A keyring that the target has already stays as it is there. Raises RefusedError when the target's were sealed to
        others since, DamageError when it has another one under the same name.
        """
        source, sink = self._copying.source, self._copying.sink
        there = set(self._names(sink))
        for run in sorted(needed):
            where = layout.keyring_name(self._generation, run)
            keyring = source.keyring(where)
            if where not in there:
                yield self._put(keyring, purged)
            elif sink.keyring(where).index != keyring.index:
                raise DamageError(f"'{where}' on '{self._copying.target}' is another one than on the origin")

    def _put(self, keyring: Keyring, purged: Collection[Pseudonym]) -> int:
        source, sink, where = self._copying.source, self._copying.sink, ObjectName(keyring.where)
        self._check_recipients(keyring)
        read = source.read(where, "keyring")
        data = without_lines(read, parse_keyring(read, source.signers, where), purged)
        copied = parse_keyring(data, source.signers, where)
        if (copied.ids, copied.index) != (keyring.ids, keyring.index):
            raise DamageError(f"'{where}' was read twice, and was not the same", hint="The next run tries again.")
        sink.put_document(where, data)
        return len(data)

    def _check_recipients(self, keyring: Keyring) -> None:
        copying = self._copying
        standing = standing_recipients(copying.keeper.book.chain.entries(), copying.target)
        if standing is None or keyring.wraps.keys() in standing.allowed:
            return
        if parse_stamp(keyring.created) <= standing.at - LONGEST_RUN:
            raise RefusedError(
                f"keyrings on '{copying.origin}' are sealed to others than those on '{copying.target}'",
                hint=f"First run `backupd key rotate {copying.keeper.region} --store {copying.origin}`.",
            )

    def _names(self, repository: Repository) -> list[ObjectName]:
        listed = repository.store.list(layout.keyrings_folder(self._generation))
        return sorted(info.name for info in listed if layout.place_of(info.name).kind is layout.ObjectKind.KEYRING)
