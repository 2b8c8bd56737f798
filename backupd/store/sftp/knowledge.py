"""What an SFTP store remembers of its server: folders made, room left, how it hashes. Shared by threads."""

from __future__ import annotations

import hashlib
import threading

from backupd.clock import Clock
from backupd.store.base import Space
from backupd.store.digests import CANDIDATES, HashCommand, parse_digest
from backupd.store.quota import parse_quota
from backupd.store.sftp import wire
from backupd.store.sftp.objects.upload import UploadJob
from backupd.store.sftp.session import Session, folders_above
from backupd.store.sftp.wire import Extended

_SPACE_AGE = 30.0
"""Seconds a look at the free space is good for, unless much of it was used since."""
_WORTH_A_COMMAND = 1024 * 1024
"""Bytes from which a command on the server costs less than reading back."""


class KnownFolders:
    """Folders that were seen to exist. One that is removed by somebody else is noticed when it is used."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def missing(self, path: str) -> list[str]:
        """The folders above `path` that may have to be made, outermost first."""
        return [] if path.rpartition("/")[0] in self._known else folders_above(path)

    def add(self, path: str) -> None:
        self._known.add(path.rpartition("/")[0])

    def forget(self, path: str) -> None:
        self._known.difference_update(folders_above(path))


class FreeSpace:
    """Free space, looked at anew when it is old or getting short."""

    def __init__(self, root: str, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()
        self._free = 0
        self._seen_at: float | None = None
        self._has_quota = True

    def suffices(self, session: Session, size: int) -> bool:
        """Whether an object of this size has room; also when the server cannot tell."""
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
        """The smaller of what the file system and the quota leave; None when neither is told."""
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
        """Whether what lies at `path` is the job's content; None when the server cannot tell."""
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
    """What the command says of the object at `path`; None when it fails or says nothing we understand."""
    code, output = session.run(command.command, path)
    return parse_digest(output, command.algorithm) if code == 0 else None


def _find(session: Session, path: str, job: UploadJob) -> HashCommand | None:
    """The first command that gives the right answer. A wrong one is no command: reading back will judge the object."""
    for candidate in CANDIDATES:
        seen = server_digest(session, candidate, path)
        if seen is not None and seen == _expected(job, candidate.algorithm):
            return candidate
    return None


def _expected(job: UploadJob, algorithm: str) -> str | None:
    """The digest of the job's source; None, equal to nothing, when the source is not what the job says it is."""
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
