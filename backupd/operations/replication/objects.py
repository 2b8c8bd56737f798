"""Objects from one store to another, checked on the way, through scratch files: memory holds a piece of each."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backupd.catalog import layout
from backupd.errors import UNSOUND, DamageError, ObjectMissingError, SpoolFullError
from backupd.parallel import in_parallel
from backupd.seal.documents import read_document
from backupd.trace import Progress

if TYPE_CHECKING:
    from typing import IO

    from backupd.operations.replication.values import Copying, Replication
    from backupd.planning.verify import ContainerKey, Stored

_PIECE = 4 << 20


class Copier:
    """Copies objects under their own names. For one thread; it uses several."""

    def __init__(self, copying: Copying, done: Replication) -> None:
        self._copying = copying
        self._done = done
        self._lock = threading.Lock()

    def containers(self, wanted: Iterable[tuple[ContainerKey, Stored]]) -> dict[ContainerKey, str]:
        """Copy these; returns those that could not be had from the origin whole, and why."""
        lost: dict[ContainerKey, str] = {}
        for (key, _), result in in_parallel(lambda pair: self._container(*pair), wanted, self._copying.threads):
            try:
                self._count(result.result())
            except (DamageError, ObjectMissingError) as error:
                lost[key] = error.message
        return lost

    def documents(self) -> None:
        """Attestations and reports that the target lacks."""
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
        """Something small was copied by others."""
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
