"""The store port over SFTP: names become paths, calls become requests on the pool's sessions.

The store remembers of its server, for all threads: known folders, free space, and how it hashes.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from backupd.clock import Clock
from backupd.errors import ObjectMissingError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, Piece, ServerSnapshot, Space, recomposed_size
from backupd.store.names import components, flat, folders, removable_folders, temporary
from backupd.store.server import CANDIDATES, SNAPSHOTS_FOLDER, HashCommand, oldest_first, parse_digest, parse_quota
from backupd.store.sftp import download, exchange, upload, wire
from backupd.store.sftp.channel import SENDING
from backupd.store.sftp.pool import Pool
from backupd.store.sftp.session import Session, folders_above, require_granted
from backupd.store.sftp.ssh import SftpTarget
from backupd.store.sftp.upload import UploadContext, UploadJob
from backupd.store.sftp.view import SftpView
from backupd.store.sftp.wire import Attributes, Code, Extended, Status
from backupd.store.sftp.workbench import SftpWorkbench


class SftpStore:
    """One region's folder in one account. Connections are made when first needed."""

    def __init__(self, target: SftpTarget, clock: Clock, random: Callable[[int], bytes] = os.urandom) -> None:
        self.target = target
        self.pool = Pool(target, clock)
        self._root = target.root
        self._random = random
        self._free_space = FreeSpace(self._root, clock)
        self._folders = KnownFolders()
        self._hashing = ServerHash()

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._upload(upload.put, self._job(name, source, size, sha256))

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        self._upload(exchange.replace, self._job(name, source, size, sha256))

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        target = self._job(name, io.BytesIO(), recomposed_size(pieces, size), ObjectHash(""))
        job = exchange.Recomposition(target, pieces, size)
        self._upload(lambda session, _, context: exchange.recompose(session, job, context), target)

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
            require_granted(seen, name)
        return None

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        folder = "/".join(folders(prefix))
        with self.pool.session() as session:
            yield from download.walk(session, self._root, folder)

    def remove(self, name: ObjectName) -> None:
        *parents, _ = components(name)
        path = self._path(name)
        above = [folder for folder in reversed(folders_above(path)) if len(folder) > len(self._root)]
        above = above if removable_folders(parents) else []
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
            return self._free_space.look(session)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        with self.pool.session() as session:
            (entries,) = download.read_folders(session, [SNAPSHOTS_FOLDER])
        return oldest_first(name for name, seen in entries or () if download.is_folder(seen))

    def view(self, snapshot: ServerSnapshot) -> SftpView:
        return SftpView(self.pool, self._root, snapshot)

    def workbench(self) -> SftpWorkbench:
        """Return the single steps that the probe tries."""
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

    def _upload(self, how: Callable[[Session, UploadJob, UploadContext], None], job: UploadJob) -> None:
        with self.pool.session(job.size / SENDING) as session:
            if not self._free_space.suffices(session, job.size):
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
        """Raise unless the object is gone; after a retried removal it may have been gone before."""
        if isinstance(reply, Status) and reply.ok:
            return
        (seen,) = session.channel.ask(wire.lstat(self._path(name)))
        if not (isinstance(seen, Status) and seen.code == Code.NO_SUCH_FILE):
            require_granted(reply, name)

    def _is_full(self, session: Session, size: int) -> bool:
        space = self._free_space.look(session)
        return space is not None and space.free < size


def _full() -> StoreFullError:
    return StoreFullError("the store has no room", hint="Free space on the store, or let older snapshots expire.")


_SPACE_AGE = 30.0
"""Seconds for which a look at the free space is valid, unless much of it was used since."""
_WORTH_A_COMMAND = 1024 * 1024
"""Bytes from which a hash command on the server costs less than reading back."""


class KnownFolders:
    """Folders that were seen to exist. One that somebody else removes is noticed when it is used."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def missing(self, path: str) -> list[str]:
        """Return the folders above `path` that may have to be made, outermost first."""
        return [] if path.rpartition("/")[0] in self._known else folders_above(path)

    def add(self, path: str) -> None:
        self._known.add(path.rpartition("/")[0])

    def forget(self, path: str) -> None:
        self._known.difference_update(folders_above(path))


class FreeSpace:
    """Free space of the server, read again when it is older than 30 seconds or getting short."""

    def __init__(self, root: str, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0
        self._seen_at: float | None = None
        self._has_quota = True

    def suffices(self, session: Session, size: int) -> bool:
        """Reserve room for an object of `size` bytes, and report whether it fits.

        An object always fits when the server does not report its free space.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._seen_at is None or now - self._seen_at > _SPACE_AGE or self._free < 4 * size:
                space = self.look(session)
                self._free = space.free if space is not None else 1 << 62
                self._seen_at = now
            fits = self._free >= size
            self._free -= size
            return fits

    def look(self, session: Session) -> Space | None:
        """Return the smaller of what the file system and the quota leave; None when the server reports neither."""
        seen = [space for space in (self._statvfs(session), self._quota(session)) if space is not None]
        return min(seen, key=lambda space: space.free, default=None)

    def _statvfs(self, session: Session) -> Space | None:
        if not session.offers("statvfs@openssh.com"):
            return None
        for reply in session.channel.ask(wire.statvfs(self._root), wire.statvfs(".")):
            if isinstance(reply, Extended):
                free, total = wire.decode_statvfs(reply.value)
                return Space(free=free, total=total)
        return None

    def _quota(self, session: Session) -> Space | None:
        if not self._has_quota:
            return None
        code, output = session.run("quota")
        self._has_quota = code <= 0  # below: it could not be asked this time, which says nothing about the next
        return parse_quota(output) if code == 0 else None


class ServerHash:
    """The hash command of the server, found with the first object that is large enough for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._command: HashCommand | None = None
        self._decided = False

    def matches(self, session: Session, path: str, job: UploadJob) -> bool | None:
        """Check whether the server's hash of `path` is that of the job's content; None when it cannot be known."""
        if job.size < _WORTH_A_COMMAND:
            return None
        if not self._decided:
            with self._lock:
                if not self._decided:
                    self._command = _find(session, path, job)
                    self._decided = True
        if self._command is None:
            return None
        seen = server_digest(session, self._command, path)
        return None if seen is None else seen == _expected(job, self._command.algorithm)


def server_digest(session: Session, command: HashCommand, path: str) -> str | None:
    """Return the digest that the command prints for the object at `path`; None when it fails or prints no digest."""
    code, output = session.run(command.command, path)
    return parse_digest(output, command.algorithm) if code == 0 else None


def _find(session: Session, path: str, job: UploadJob) -> HashCommand | None:
    """Return the first command that gives the right digest; None when there is none.

    A command with a wrong digest is no command: reading back will judge the object.
    """
    for candidate in CANDIDATES:
        seen = server_digest(session, candidate, path)
        if seen is not None and seen == _expected(job, candidate.algorithm):
            return candidate
    return None


def _expected(job: UploadJob, algorithm: str) -> str | None:
    """Return the digest of the job's source; None, equal to nothing, when the source is not what the job says it is."""
    if algorithm == "sha256":
        return job.sha256
    weak, strong = hashlib.new(algorithm, usedforsecurity=False), hashlib.sha256()
    job.source.seek(0)
    missing = job.size
    while missing and (block := job.source.read(min(missing, 1 << 20))):
        weak.update(block)
        strong.update(block)
        missing -= len(block)
    return weak.hexdigest() if strong.hexdigest() == job.sha256 else None
