"""The store port over SFTP: names become paths, calls become requests on the pool's sessions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from backupd.clock import Clock
from backupd.errors import ObjectMissingError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Space
from backupd.store.names import components, flat, folders, made_here, temporary
from backupd.store.server_snapshots import FOLDER as SNAPSHOTS
from backupd.store.server_snapshots import oldest_first
from backupd.store.sftp import wire
from backupd.store.sftp.knowledge import FreeSpace, KnownFolders, ServerHash
from backupd.store.sftp.objects import download, upload
from backupd.store.sftp.objects.replace import replace
from backupd.store.sftp.objects.upload import Surroundings, UploadJob
from backupd.store.sftp.session import Pool, Session, folders_above, granted
from backupd.store.sftp.target import SftpTarget
from backupd.store.sftp.view import SftpView
from backupd.store.sftp.wire import Attributes, Code, Status
from backupd.store.sftp.workbench import SftpWorkbench


class SftpStore:
    """One region's folder in one account. Connections are made when first needed."""

    def __init__(self, target: SftpTarget, clock: Clock, random: Callable[[int], bytes] = os.urandom) -> None:
        self.target = target
        self.pool = Pool(target, clock)
        self._root = target.root
        self._random = random
        self._room = FreeSpace(self._root, clock)
        self._folders = KnownFolders()
        self._hashing = ServerHash()

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._upload(upload.put, self._job(name, source, size, sha256))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._upload(replace, self._job(name, source, size, sha256))

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        components(name)
        with self.pool.session() as session:
            return download.fetch(session, self._path(name), offset, length, name)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        components(name)
        with self.pool.session() as session:
            (seen,) = session.channel.ask(wire.lstat(self._path(name)))
        if isinstance(seen, Attributes):
            return download.described(name, seen) if download.is_file(seen) else None
        if not (isinstance(seen, Status) and seen.code == Code.NO_SUCH_FILE):
            granted(seen, name)
        return None

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        folder = "/".join(folders(prefix))
        with self.pool.session() as session:
            yield from download.walk(session, self._root, folder)

    def remove(self, name: ObjectName) -> None:
        *parents, _ = components(name)
        path = self._path(name)
        above = [folder for folder in reversed(folders_above(path)) if len(folder) > len(self._root)]
        above = above if made_here(parents) else []
        with self.pool.session() as session:
            replies = session.channel.ask(wire.remove(path), *(wire.rmdir(folder) for folder in above[:1]))
            self._folders.forget(path)
            self._check_removed(session, name, replies[0])
            emptied = len(replies) > 1 and isinstance(replies[1], Status) and replies[1].ok
            for folder in above[1:]:
                if not emptied:
                    return
                (reply,) = session.channel.ask(wire.rmdir(folder))
                emptied = isinstance(reply, Status) and reply.ok

    def space(self) -> Space | None:
        with self.pool.session() as session:
            return self._room.look(session)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        with self.pool.session() as session:
            (entries,) = download.read_folders(session, [SNAPSHOTS])
        return oldest_first(name for name, seen in entries or () if download.is_folder(seen))

    def view(self, snapshot: ServerSnapshot) -> SftpView:
        return SftpView(self.pool, self._root, snapshot)

    def workbench(self) -> SftpWorkbench:
        """Single steps, for the probe."""
        return SftpWorkbench(self.pool, self._root)

    def close(self) -> None:
        self.pool.close()

    # What an upload asks of us (upload.Surroundings).

    def server_digest(self, session: Session, path: str, job: UploadJob) -> bool | None:
        return self._hashing.matches(session, path, job)

    def missing_folders(self, path: str) -> Sequence[str]:
        return self._folders.missing(path)

    def know_folders(self, path: str) -> None:
        self._folders.add(path)

    def _job(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> UploadJob:
        components(name)
        own = temporary(self._random)
        staging = self._path(flat(own) if self.target.flat else own)
        permissions = upload.SHARED if self.target.shared else upload.PERMISSIONS
        return UploadJob(name, self._path(name), staging, source, size, sha256, permissions)

    def _upload(self, how: Callable[[Session, UploadJob, Surroundings], None], job: UploadJob) -> None:
        with self.pool.session() as session:
            if not self._room.suffices(session, job.size):
                raise _full()
            try:
                how(session, job, self)
            except (StoreGoneError, ObjectMissingError):
                raise
            except StoreError as error:
                # SFTP has no word for a full disk or quota; look before giving the reason as unknown.
                if type(error) is StoreError and self._is_full(session, job.size):
                    raise _full() from error
                raise

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _check_removed(self, session: Session, name: ObjectName, reply: wire.Reply) -> None:
        """Raise unless it is gone; that of a retried removal was gone before."""
        if isinstance(reply, Status) and reply.ok:
            return
        (seen,) = session.channel.ask(wire.lstat(self._path(name)))
        if not (isinstance(seen, Status) and seen.code == Code.NO_SUCH_FILE):
            granted(reply, name)

    def _is_full(self, session: Session, size: int) -> bool:
        space = self._room.look(session)
        return space is not None and space.free < size


def _full() -> StoreFullError:
    return StoreFullError("the store has no room", hint="Free space on the store, or let older snapshots expire.")
