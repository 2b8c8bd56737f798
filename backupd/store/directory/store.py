"""A store in a folder of this machine: a mounted disk, a test, the demo. This module writes; `view` reads."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from backupd.atomic_file import write_all
from backupd.errors import ObjectExistsError, StoreError, StoreGoneError
from backupd.model.ids import ObjectHash, ObjectName
from backupd.store.base import Piece, ServerSnapshot, Space, changed_meanwhile, recomposed_size
from backupd.store.directory import recomposition
from backupd.store.directory.view import (
    BLOCK,
    CREATE,
    OPEN_FILE,
    OPEN_FOLDER,
    DirectoryView,
    DirectoryWorkbench,
    ObjectReader,
    full,
    translated,
    within,
)
from backupd.store.names import TEMPORARY, components, removable_folders, temporary
from backupd.store.server import SNAPSHOTS_FOLDER, oldest_first

_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_ATTEMPTS = 5


class DirectoryStore(ObjectReader):
    """The store port over `root`, one region's folder.

    The parent of `root` must exist, or every call raises StoreGoneError: data for a disk that is not mounted must not
    be written beside it, nor be taken for removed.
    """

    def __init__(self, root: Path, random: Callable[[int], bytes] = os.urandom) -> None:
        self.root = root
        self._random = random

    def put_new(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        *parents, last = components(name)
        with translated(name):
            if self.stat(name) is not None:
                self._settle_existing(name, size, sha256)
                return
            with self._staged(name, source, size, sha256) as (staging, temp):
                published = self._publish(staging, temp, parents, last)
            if not published:
                self._settle_existing(name, size, sha256)

    def replace(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> None:
        *parents, last = components(name)
        with translated(name):
            if self._holds(name, size, sha256):
                return
            with self._staged(name, source, size, sha256) as (staging, temp), self.open_folder(parents) as folder:
                _check_replaceable(folder, last, name)
                os.replace(temp, last, src_dir_fd=staging, dst_dir_fd=folder)
                os.fsync(folder)
            if not self._holds(name, size, sha256):
                raise StoreError(f"{name!r} was replaced and is not what it was replaced by", hint="Run it again.")

    def recompose(self, name: ObjectName, pieces: Sequence[Piece], size: int) -> None:
        *parents, last = components(name)
        new_size = recomposed_size(pieces, size)
        with translated(name), self.opened(name) as old:
            if recomposition.stands(old, pieces, new_size):
                return
            recomposition.check_size(old, size, name)
            with self._temporary(new_size) as (staging, temp), self.open_folder(parents) as folder:
                recomposition.compose(staging, temp, old, pieces, name)
                _check_replaceable(folder, last, name, size)
                os.replace(temp, last, src_dir_fd=staging, dst_dir_fd=folder)
                os.fsync(folder)
            with self.opened(name) as new:
                if not recomposition.stands(new, pieces, new_size):
                    raise StoreError(f"{name!r} was replaced and is not what it was replaced by", hint="Run it again.")

    def remove(self, name: ObjectName) -> None:
        *parents, last = components(name)
        with translated(name), contextlib.suppress(FileNotFoundError):
            with self.open_folder(parents) as folder:
                os.unlink(last, dir_fd=folder)
                os.fsync(folder)
            parents = [*removable_folders(parents)]
            while parents:
                *above, emptied = parents
                with self.open_folder(above) as folder:
                    if not _rmdir(emptied, folder):
                        return
                parents = above

    def space(self) -> Space | None:
        self._require_disk()
        with translated("the root"):
            seen = os.statvfs(self.root if self.root.exists() else self.root.parent)
        return Space(free=seen.f_bavail * seen.f_frsize, total=seen.f_blocks * seen.f_frsize)

    def snapshots(self) -> Sequence[ServerSnapshot]:
        folder = self.snapshots_folder()
        if folder is None:
            return []
        with translated(str(folder)), os.scandir(folder) as entries:
            return oldest_first(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))

    def view(self, snapshot: ServerSnapshot) -> DirectoryView:
        return DirectoryView(self.root.absolute(), self.snapshots_folder(), snapshot)

    def snapshots_folder(self) -> Path | None:
        """Find the nearest `.zfs/snapshot` above the root, where ZFS shows its snapshots; None when there is none."""
        self._require_disk()
        root = self.root.absolute()
        with translated("the store's own snapshots"):
            return next((path for above in (root, *root.parents) if (path := above / SNAPSHOTS_FOLDER).is_dir()), None)

    def workbench(self) -> DirectoryWorkbench:
        """Return the single steps that the probe tries."""
        return DirectoryWorkbench(self.root, self.snapshots_folder())

    def close(self) -> None:
        """Do nothing: no file is kept open between calls."""

    @contextlib.contextmanager
    def open_folder(self, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
        """Open a folder below the root and yield its descriptor; with `create`, make and sync missing folders."""
        self._require_disk()
        if create:
            _mkdir(self.root, None)
        root = os.open(self.root, OPEN_FOLDER & ~os.O_NOFOLLOW)
        with within(root, parts, _mkdir) if create else within(root, parts) as folder:
            yield folder

    def vanished(self, name: str) -> None:
        """Accept that an entry vanished after it was listed: it counts as never listed."""

    def _require_disk(self) -> None:
        """Raise StoreGoneError unless the root's parent exists: an unmounted disk must not pass for an empty store."""
        if not self.root.parent.is_dir():
            folder = str(self.root.parent)
            raise StoreGoneError(f"the store's folder {folder!r} is not there", hint="Mount its disk, or make it once.")

    @contextlib.contextmanager
    def _staged(self, name: ObjectName, source: BinaryIO, size: int, sha256: ObjectHash) -> Iterator[tuple[int, str]]:
        """Write the content under a temporary name, sync and verify it; yield its folder's descriptor and its name.

        The temporary name is removed when the block ends.
        """
        with self._temporary(size) as (staging, temp):
            _write(staging, temp, source, size)
            _verify(staging, temp, size, sha256, name)
            yield staging, temp

    @contextlib.contextmanager
    def _temporary(self, size: int) -> Iterator[tuple[int, str]]:
        """Draw a temporary name; yield its folder's descriptor and the name, and remove what has it in the end.

        Raises StoreFullError when there is no room for `size` bytes.
        """
        space = self.space()
        if space is not None and space.free < size:
            raise full()
        temp = temporary(self._random).split("/")[1]
        with self.open_folder([TEMPORARY], create=True) as staging:
            try:
                yield staging, temp
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temp, dir_fd=staging)

    def _publish(self, staging: int, temp: str, parents: Sequence[str], last: str) -> bool:
        """Give the temporary object its final name; return False when that name is taken.

        Several attempts are needed because a remover may remove an empty folder between its making and its use.
        """
        for attempt in range(_ATTEMPTS):
            try:
                with self.open_folder(parents, create=True) as folder:
                    if not _link(staging, temp, folder, last):
                        return False
                    os.fsync(folder)
                    return True
            except FileNotFoundError:
                if attempt == _ATTEMPTS - 1:
                    raise
        return False

    def _settle_existing(self, name: ObjectName, size: int, sha256: ObjectHash) -> None:
        if not self._holds(name, size, sha256):
            raise ObjectExistsError(
                f"other content already stands under {name!r}",
                hint="Run 'backupd verify'; an object's name is its content, so one of the two is damaged.",
            )

    def _holds(self, name: ObjectName, size: int, sha256: ObjectHash) -> bool:
        """Check whether the object has exactly this content.

        Raises FileNotFoundError when nothing stands there.
        """
        with self.opened(name) as file:
            return os.fstat(file).st_size == size and _digest(file) == sha256


def _mkdir(path: str | Path, parent: int | None) -> None:
    try:
        os.mkdir(path, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    if parent is not None:
        os.fsync(parent)


def _rmdir(name: str, parent: int) -> bool:
    """Remove an empty folder; return False when it still holds something."""
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
    file = os.open(name, CREATE, 0o400, dir_fd=folder)
    try:
        missing = size
        while missing and (block := source.read(min(missing, BLOCK))):
            missing -= len(block)
            write_all(file, block)
        os.fsync(file)
    finally:
        os.close(file)
    if missing:
        raise StoreError(f"the object to put ended {missing} bytes early", hint="Check the spool's disk.")


def _verify(folder: int, name: str, size: int, sha256: ObjectHash, final: ObjectName) -> None:
    file = os.open(name, OPEN_FILE, dir_fd=folder)
    try:
        if os.fstat(file).st_size != size or _digest(file) != sha256:
            raise StoreError(
                f"the store does not hold the bytes that were written for {final!r}",
                hint="Check the store's disk, and the spool's: nothing was published.",
            )
    finally:
        os.close(file)


def _check_replaceable(folder: int, last: str, name: ObjectName, size: int | None = None) -> None:
    """Raise StoreError unless a plain object stands there, of `size` bytes if that is given.

    Raises FileNotFoundError when nothing does: a replacement must not make a new object.
    """
    seen = os.stat(last, dir_fd=folder, follow_symlinks=False)
    if not modes.S_ISREG(seen.st_mode):
        raise StoreError(f"{name!r} is not a plain object on the store")
    if size not in (None, seen.st_size):
        raise changed_meanwhile(name)


def _digest(file: int) -> str:
    with os.fdopen(os.dup(file), "rb") as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def _link(staging: int, temp: str, folder: int, last: str) -> bool:
    """Publish without overwriting; return False when the final name is taken."""
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
