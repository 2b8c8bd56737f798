"""A store in a folder of this machine: a mounted disk, a test, the demo.

Every step goes through descriptors of folders opened without following symbolic links, so nothing planted below the
root can lead outside it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot, Space
from backupd.store.names import TEMPORARY, components, folders, temporary
from backupd.store.workbench import DirectoryWorkbench

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV}
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_ATTEMPTS = 5


class DirectoryStore:
    """The port over `root`, one region's folder.

    Its parent must exist: what belongs on a disk that is not mounted must not be written beside it.
    """

    def __init__(self, root: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self.root = root
        self._random = random

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        *parents, last = components(name)
        with _translated(name):
            if self.stat(name) is not None:
                self._settle_existing(name, size, sha256)
                return
            self._refuse_when_full(size)
            temp = temporary(self._random).split("/")[1]
            with self._folder([TEMPORARY], create=True) as staging:
                try:
                    _write(staging, temp, source, size)
                    _verify(staging, temp, size, sha256, name)
                    published = self._publish(staging, temp, parents, last)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temp, dir_fd=staging)
            if not published:
                self._settle_existing(name, size, sha256)

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        with _translated(name), self._opened(name) as file:
            end = os.fstat(file).st_size
            wanted = max(0, end - offset) if length is None else max(0, min(length, end - offset))
            pieces = []
            while wanted and (piece := os.pread(file, min(wanted, _BLOCK), offset)):
                pieces.append(piece)
                offset += len(piece)
                wanted -= len(piece)
            return b"".join(pieces)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        *parents, last = components(name)
        try:
            with _translated(name), self._folder(parents) as folder:
                found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except ObjectMissingError:
            return None
        return _info(name, found) if modes.S_ISREG(found.st_mode) else None

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        waiting = [folders(prefix)]
        while waiting:
            parts = waiting.pop()
            found = self._scan(parts)
            waiting += [[*parts, name] for name, shown in found if modes.S_ISDIR(shown.st_mode)]
            files = [(name, shown) for name, shown in found if modes.S_ISREG(shown.st_mode)]
            yield from [_info(ObjectName("/".join([*parts, name])), shown) for name, shown in files]

    def remove(self, name: ObjectName) -> None:
        *parents, last = components(name)
        with _translated(name), contextlib.suppress(FileNotFoundError):
            with self._folder(parents) as folder:
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
            while parents:
                *above, emptied = parents
                with self._folder(above) as folder:
                    if not _rmdir(emptied, folder):
                        return
                parents = above

    def space(self) -> Space | None:
        with _translated("the root"):
            seen = os.statvfs(self.root if self.root.exists() else self.root.parent)
        return Space(free=seen.f_bavail * seen.f_frsize, total=seen.f_blocks * seen.f_frsize)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        folder = self.snapshots_folder()
        if folder is None:
            return []
        with _translated(str(folder)):
            return [ServerSnapshot(name) for name in sorted(entry.name for entry in folder.iterdir())]

    def snapshots_folder(self) -> Path | None:
        """The nearest `.zfs/snapshot` above the root, where ZFS shows its snapshots at the mount point."""
        candidates = (above / ".zfs" / "snapshot" for above in (self.root, *self.root.absolute().parents))
        return next((folder for folder in candidates if folder.is_dir()), None)

    def workbench(self) -> DirectoryWorkbench:
        """Single steps, for the probe."""
        return DirectoryWorkbench(self.root, self.snapshots_folder())

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _publish(self, staging: int, temp: str, parents: Sequence[str], last: str) -> bool:
        """Give the temporary object its final name.

        False when that is taken. A remover may take an empty folder away between its making and its use, hence the
        attempts.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self._folder(parents, create=True) as folder:
                    if not _link(staging, temp, folder, last):
                        return False
                    os.fsync(folder)
                    return True
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return False

    def _settle_existing(self, name: ObjectName, size: int, sha256: ObjectHash) -> None:
        with self._opened(name) as file:
            if os.fstat(file).st_size != size or _digest(file) != sha256:
                raise ObjectExistsError(
                    f"other content already stands under {name!r}",
                    hint="Run 'backupd verify'; an object's name is its content, so one of the two is damaged.",
                )

    def _refuse_when_full(self, size: int) -> None:
        space = self.space()
        if space is not None and space.free < size:
            raise _full()

    def _scan(self, parts: Sequence[str]) -> Sequence[tuple[str, os.stat_result]]:
        """What lies in a folder; what vanishes while we look was not there."""
        found = []
        with _translated("/".join(parts)), contextlib.suppress(FileNotFoundError), self._folder(parts) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 - a descriptor has no path
                with contextlib.suppress(FileNotFoundError):
                    found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
        return found

    @contextlib.contextmanager
    def _opened(self, name: ObjectName) -> Iterator[int]:
        *parents, last = components(name)
        with self._folder(parents) as folder:
            file = os.open(last, _READ, dir_fd=folder)
        try:
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """A descriptor of a folder below the root, made (and its making synced) when `create`."""
        if create:
            _mkdir(self.root, None)
        folder = os.open(self.root, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for part in parts:
                if create:
                    _mkdir(part, folder)
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


def _mkdir(path: str | Path, parent: int | None) -> None:
    try:
        os.mkdir(path, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    if parent is not None:
        os.fsync(parent)


def _rmdir(name: str, parent: int) -> bool:
    """False when the folder still holds something."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    os.fsync(parent)
    return True


def _write(folder: int, name: str, source: BinaryIO, size: int) -> None:
    source.seek(0)
    file = os.open(name, _CREATE, 0o400, dir_fd=folder)
    try:
        missing = size
        while missing and (block := source.read(min(missing, _BLOCK))):
            missing -= len(block)
            view = memoryview(block)
            while view:
                view = view[os.write(file, view) :]
        os.fsync(file)
    finally:
        os.close(file)
    if missing:
        raise StoreError(f"the object to put ended {missing} bytes early", hint="Check the spool's disk.")


def _verify(folder: int, name: str, size: int, sha256: ObjectHash, final: ObjectName) -> None:
    file = os.open(name, _READ, dir_fd=folder)
    try:
        if os.fstat(file).st_size != size or _digest(file) != sha256:
            raise StoreError(
                f"the store does not hold the bytes that were written for {final!r}",
                hint="Check the store's disk, and the spool's: nothing was published.",
            )
    finally:
        os.close(file)


def _digest(file: int) -> str:
    with os.fdopen(os.dup(file), "rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _link(staging: int, temp: str, folder: int, last: str) -> bool:
    """Publish without overwriting; False when the final name is taken."""
    try:
        os.link(temp, last, src_dir_fd=staging, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        return True
    # A file system without hard links: the check and the rename are two steps there, as in OpenSSH's own server.
    if last in os.listdir(folder):
        return False
    os.rename(temp, last, src_dir_fd=staging, dst_dir_fd=folder)
    return True


def _info(name: ObjectName, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name=name, size=found.st_size, modified=datetime.fromtimestamp(found.st_mtime, UTC))


def _full() -> StoreFullError:
    return StoreFullError("the store has no room", hint="Free space on the store, or let older snapshots expire.")


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"no such object on the store: {name!r}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise _full() from error
        reason = (error.strerror or "unknown error").lower()
        family = StoreGoneError if error.errno in _GONE else StoreError
        raise family(f"the store refused {name!r}: {reason}", hint="Check the store's disk and permissions.") from error
