"""Copy objects and keyrings from one store to another, checked on the way, through scratch files: memory holds a piece
of each. Keyrings are copied as they are, without the lines of what was purged.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from backupd.errors import UNSOUND, DamageError, ObjectMissingError, RefusedError, SpoolFullError
from backupd.model.ids import ClassTag, GenerationId, ObjectName, Pseudonym, SnapshotName
from backupd.model.text import parse_stamp
from backupd.operations.keeper.types import Keeper
from backupd.parallel import in_parallel
from backupd.planning.ledger_facts import standing_recipients
from backupd.planning.verify import ContainerKey, Stored
from backupd.repository import layout
from backupd.repository.marks import LONGEST_RUN
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
    """Bytes of containers, keyrings and documents that were copied."""
    damage: list[str] = field(default_factory=list)
    """Sentences about damage at the origin; snapshots that need what is damaged were not copied."""


_PIECE = 4 << 20


class Copier:
    """Copies objects under their own names. For one thread; it uses several."""

    def __init__(self, copying: Copying, done: Replication) -> None:
        self._copying = copying
        self._done = done
        self._lock = threading.Lock()

    def containers(self, wanted: Iterable[tuple[ContainerKey, Stored]]) -> dict[ContainerKey, str]:
        """Copy these; returns those that the origin does not have whole, and why."""
        lost: dict[ContainerKey, str] = {}
        for (key, _), result in in_parallel(lambda pair: self._container(*pair), wanted, self._copying.threads):
            try:
                self._count(result.result())
            except (DamageError, ObjectMissingError) as error:
                lost[key] = error.message
        return lost

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

    def _container(self, key: ContainerKey, stored: Stored) -> int:
        source, sink = self._copying.source.store, self._copying.sink.store
        digest, offset = hashlib.sha256(), 0
        with self._scratch() as file:
            while offset < stored.size:
                piece = source.get(stored.name, offset, min(_PIECE, stored.size - offset))
                if not piece:
                    raise DamageError(f"'{stored.name}' is cut short")
                digest.update(piece)
                offset += len(piece)
                _write(file, piece)
            if digest.hexdigest() != key.sha256:
                raise DamageError(f"'{stored.name}' does not have the hash its name says")
            sink.put_new(stored.name, file, stored.size, key.sha256)  # type: ignore[arg-type]  # a file without a name
        return stored.size

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


def _write(file: IO[bytes], piece: bytes) -> None:
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
        self.keyed: set[Pseudonym] = set()
        """Segments whose key the target has, once `copy` came to its end."""

    def classes(self) -> dict[Pseudonym, ClassTag]:
        """Return the class tag of every segment that the origin's keyrings list."""
        return {
            segment: tags.data_class
            for keyring in self._believed()
            for (segment, _), tags in zip(keyring.index, keyring.tags, strict=True)
        }

    def copy(self, needed: Collection[Pseudonym], purged: Collection[Pseudonym]) -> Iterator[int]:
        """Copy keyrings that list a segment that is needed; yields their sizes in bytes.

        A keyring that the target has already stays as it is there. Raises RefusedError when the target's were sealed to
        others since, DamageError when it has another one under the same name.
        """
        sink = self._copying.sink
        there = {info.name for info in sink.store.list(layout.keyrings_folder(self._generation))}
        wanted = frozenset(needed)
        for keyring in self._believed():
            if wanted.isdisjoint(segment for segment, _ in keyring.index):
                continue
            where = ObjectName(keyring.where)
            standing = sink.keyring(where) if where in there else None
            if standing is None:
                standing, size = self._put(keyring, purged)
                yield size
            elif standing.index != keyring.index:
                raise DamageError(f"'{where}' on '{self._copying.target}' is another one than on the origin")
            self.keyed |= {standing.index[place][0] for place in standing.sealed}

    def _put(self, keyring: Keyring, purged: Collection[Pseudonym]) -> tuple[Keyring, int]:
        source, sink, where = self._copying.source, self._copying.sink, ObjectName(keyring.where)
        self._check_recipients(keyring)
        data = without_lines(source.read(where, "keyring"), purged, where)
        copied = parse_keyring(data, source.signers, where)
        if (copied.ids, copied.index) != (keyring.ids, keyring.index):
            raise DamageError(f"'{where}' was read twice, and was not the same", hint="The next run tries again.")
        sink.put_document(where, data)
        return copied, len(data)

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

    def _believed(self) -> Iterator[Keyring]:
        """Yield the origin's readable keyrings; a key that only an unreadable one has is missing."""
        source = self._copying.source
        for name in sorted(info.name for info in source.store.list(layout.keyrings_folder(self._generation))):
            if layout.place_of(name).kind is layout.ObjectKind.KEYRING:
                try:
                    keyring = source.keyring(name)
                except UNSOUND:
                    continue
                yield keyring
