"""Reading a directory store: objects as they are now, as a ZFS snapshot holds them, and the probe's single steps.

Every folder is opened by a descriptor without following symbolic links, so nothing planted below the root can lead
outside it.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import os
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from backupd.errors import ObjectMissingError, StoreError, StoreFullError, StoreGoneError
from backupd.model.ids import ObjectName
from backupd.store.base import ObjectInfo, ServerSnapshot
from backupd.store.names import components, folders
from backupd.store.server import SNAPSHOTS_FOLDER, folder_of, snapshot_unreadable

OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
BLOCK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
_GONE = {errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENODEV}


class ObjectReader(abc.ABC):
    """The port's `StoreView` over the folders that a subclass's `open_folder` opens."""

    @abc.abstractmethod
    def open_folder(self, parts: Sequence[str]) -> AbstractContextManager[int]:
        """Open a folder below the root and yield its descriptor.

        Raises FileNotFoundError when it is missing.
        """

    @abc.abstractmethod
    def vanished(self, name: str) -> None:
        """Decide about an entry that was listed and is missing: return when that can happen, else raise StoreError."""

    def get(self, name: ObjectName, offset: int = 0, length: int | None = None) -> bytes:
        with translated(name), self.opened(name) as file:
            end = os.fstat(file).st_size
            wanted = max(0, end - offset) if length is None else max(0, min(length, end - offset))
            pieces = []
            while wanted and (piece := os.pread(file, min(wanted, BLOCK), offset)):
                pieces.append(piece)
                offset += len(piece)
                wanted -= len(piece)
            return b"".join(pieces)

    def stat(self, name: ObjectName) -> ObjectInfo | None:
        *parents, last = components(name)
        try:
            with translated(name), self.open_folder(parents) as folder:
                found = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except ObjectMissingError:
            return None
        return _info(name, found) if modes.S_ISREG(found.st_mode) else None

    def list(self, prefix: ObjectName) -> Iterator[ObjectInfo]:
        first = folders(prefix)
        waiting = [first]
        while waiting:
            parts = waiting.pop()
            found = self._scan(parts)
            if found is None:
                if parts != first:
                    self.vanished("/".join(parts))
                continue
            waiting += [[*parts, name] for name, shown in found if modes.S_ISDIR(shown.st_mode)]
            files = [(name, shown) for name, shown in found if modes.S_ISREG(shown.st_mode)]
            yield from [_info(ObjectName("/".join([*parts, name])), shown) for name, shown in files]

    @contextlib.contextmanager
    def opened(self, name: ObjectName) -> Iterator[int]:
        """Open an object for reading and yield its descriptor."""
        *parents, last = components(name)
        with self.open_folder(parents) as folder:
            file = os.open(last, OPEN_FILE, dir_fd=folder)
        try:
            yield file
        finally:
            os.close(file)

    def _scan(self, parts: Sequence[str]) -> Sequence[tuple[str, os.stat_result]] | None:
        """List the entries of a folder with their stat results; None when the folder is missing."""
        found = []
        path = "/".join(parts)
        try:
            with translated(path), self.open_folder(parts) as folder:
                for name in os.listdir(folder):  # noqa: PTH208 - a descriptor has no path
                    try:
                        found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
                    except FileNotFoundError:
                        self.vanished(f"{path}/{name}")
        except ObjectMissingError:
            return None
        return found


@contextlib.contextmanager
def within(
    folder: int, parts: Sequence[str], prepare: Callable[[str, int], None] = lambda _part, _folder: None
) -> Iterator[int]:
    """Open the folder `parts` below the descriptor `folder` and yield its descriptor; close both at the end.

    `prepare` is called before each step, with the step's name and the descriptor above it.
    """
    try:
        for part in parts:
            prepare(part, folder)
            inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def full() -> StoreFullError:
    return StoreFullError("the store has no room", hint="Free space on the store, or let older snapshots expire.")


@contextlib.contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn the operating system's errors in the block into the port's errors."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectMissingError(f"no such object on the store: {name!r}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise full() from error
        reason = (error.strerror or "unknown error").lower()
        family = StoreGoneError if error.errno in _GONE else StoreError
        raise family(f"the store refused {name!r}: {reason}", hint="Check the store's disk and permissions.") from error


def _info(name: ObjectName, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name=name, size=found.st_size, modified=datetime.fromtimestamp(found.st_mtime, UTC))


class DirectoryView(ObjectReader):
    """The port's `StoreView` of `root`, an absolute path, as `snapshot` below the folder `snapshots` holds it."""

    def __init__(self, root: Path, snapshots: Path | None, snapshot: ServerSnapshot) -> None:
        self._name = folder_of(snapshot)
        if snapshots is None:
            raise snapshot_unreadable(f"no folder above the store's shows {SNAPSHOTS_FOLDER!r}")
        self._snapshots = snapshots
        self._inside = root.relative_to(snapshots.parent.parent).parts
        if ".." in self._inside:
            raise snapshot_unreadable("the store's path goes up again")

    @contextlib.contextmanager
    def open_folder(self, parts: Sequence[str]) -> Iterator[int]:
        snapshot = self._enter()
        if snapshot is None:
            raise FileNotFoundError
        with within(snapshot, [*self._inside, *parts]) as folder:
            yield folder

    def vanished(self, name: str) -> None:
        """Raise StoreError unless the snapshot itself is gone: nothing leaves a snapshot that exists."""
        snapshot = self._enter()
        if snapshot is not None:
            os.close(snapshot)
            raise snapshot_unreadable(f"{name!r} is listed in {self._name!r}, and cannot be opened")

    def _enter(self) -> int | None:
        """Open the snapshot's folder and return its descriptor; None when the snapshot is gone."""
        try:
            every = os.open(self._snapshots, OPEN_FOLDER)
        except FileNotFoundError as error:
            raise snapshot_unreadable(f"{SNAPSHOTS_FOLDER!r} is there no longer") from error
        try:
            return os.open(self._name, OPEN_FOLDER, dir_fd=every)
        except FileNotFoundError as error:
            # ZFS mounts a snapshot when it is entered; where that fails, the folder is still listed.
            if self._name in os.listdir(every):  # noqa: PTH208 - a descriptor has no path
                raise snapshot_unreadable(f"{self._name!r} is listed, and cannot be opened") from error
            return None
        finally:
            os.close(every)


class DirectoryWorkbench:
    """The probe's `ProbeOperations` over plain files of this machine."""

    adapter = "directory"
    max_write = 1 << 20

    def __init__(self, root: Path, snapshots: Path | None) -> None:
        self._root = root
        self._snapshots = snapshots

    def write(self, name: ObjectName, data: bytes, *, exclusive: bool) -> bool:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not exclusive:
                path.chmod(0o600)
            with path.open("xb" if exclusive else "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _refused(name, error) from error
        return True

    def rename(self, old: ObjectName, new: ObjectName) -> None:
        try:
            os.link(self._path(old), self._path(new))
            self._path(old).unlink()
        except OSError as error:
            raise _refused(new, error) from error

    def exchange(self, old: ObjectName, new: ObjectName) -> None:
        try:
            self._path(old).replace(self._path(new))
        except OSError as error:
            raise _refused(new, error) from error

    def remove(self, name: ObjectName) -> None:
        try:
            self._path(name).unlink()
        except OSError as error:
            raise _refused(name, error) from error

    def reports_space(self) -> bool:
        return True

    def run(self, command: str, name: ObjectName) -> bytes | None:  # noqa: ARG002 - a folder has no commands
        return None

    def snapshots_folder(self) -> str | None:
        return str(self._snapshots) if self._snapshots is not None else None

    def _path(self, name: ObjectName) -> Path:
        return self._root.joinpath(*components(name))


def _refused(name: ObjectName, error: OSError) -> StoreError:
    return StoreError(f"the store refused {name!r}: {(error.strerror or 'unknown error').lower()}")
