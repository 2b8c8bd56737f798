"""The server that a drill restores into, of either kind, and the folder of a scratch server.

The folder is marked as ours, locked while its maker lives, and removed at the end. Nothing is ever removed unless it
has our name, our marker and our owner, and its lock is free.

`backupd manual trust`, row *folders of scratch servers that were left*, says who can write this, and what is checked.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from backupd.errors import ConfigError

if TYPE_CHECKING:
    from backupd.postgres.connect import Source


@dataclass(frozen=True, slots=True)
class ScratchDisposal:
    """The things of a server or a drill that were destroyed, each with the proof, and the number that remain."""

    destroyed: tuple[tuple[str, str], ...]
    remaining: int


class ScratchServer(Protocol):
    """A server that holds only what the current drill makes."""

    @property
    def source(self) -> Source:
        """Return how to connect to the server as a superuser."""

    @property
    def version(self) -> str:
        """Return the server's version, such as 17.10."""

    @property
    def path(self) -> Path:
        """Return the drill's own folder, for sealed bytes."""

    @property
    def roles(self) -> frozenset[str]:
        """Return the roles it had before the drill; none of them comes from the backup."""

    def name(self, real: str, what: str = "") -> str:
        """Return the name here of the database that is really named `real`; `what` distinguishes several."""

    def size(self) -> int:
        """Return the bytes that the drill takes on the server."""

    def free(self) -> int:
        """Return the bytes that are left on its disk, as far as is known."""

    def stop(self) -> None:
        """End everything that the drill does on the server, at once."""

    def dispose(self) -> ScratchDisposal:
        """Remove everything that the drill made, and check whether it is gone."""


PREFIX = "backupd-drill-"
MARKER = "drill.json"
_NAME = re.compile(rf"{PREFIX}[0-9a-f]{{16}}")
_KIND = "drill"
_HEAP = ".removing"
"""Name of the folder in which folders are gathered that are being removed."""
_DEAD = "ZX"
"""States of a process that has ended and was not yet waited for by its parent."""


@dataclass(frozen=True, slots=True)
class ScratchFolder:
    """A locked folder of a scratch server."""

    path: Path
    lock: IO[str]
    """The marker file, open and locked while the maker lives; the kernel releases the lock when it dies."""

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def socket(self) -> Path:
        return self.path / "socket"


def make_folder(parent: Path, token: str) -> ScratchFolder:
    """Make a new folder below `parent`; `token` is 16 hex digits that nobody else has.

    Raises ConfigError when it cannot be made.
    """
    path = parent / f"{PREFIX}{token}"
    try:
        parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        path.mkdir(mode=0o711)
        # Only we may write here, not the server's user: we remove a folder because nobody else can forge it.
        path.chmod(0o711)
        marker = (path / MARKER).open("x")
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        json.dump({"backupd": _KIND, "folder": path.name, "pid": os.getpid(), "began": _began(os.getpid())}, marker)
        marker.flush()
    except OSError as error:
        raise ConfigError(
            f"the folder for scratch servers cannot be used ({error.strerror})",
            hint="Check drill.scratch_dir, or the spool folder, and its owner.",
        ) from error
    return ScratchFolder(path, marker)


def leftovers(parent: Path) -> Iterator[ScratchFolder]:
    """Yield folders of dead makers, locked by us; the caller removes each by `dispose`."""
    if not parent.is_dir():
        return
    for path in sorted(parent.iterdir()):
        found = claim(path)
        if found is not None:
            yield found


def claim(path: Path) -> ScratchFolder | None:
    """Lock a folder of a dead maker; None when it is not ours, or its maker lives."""
    if not _NAME.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
        return None
    try:
        descriptor = os.open(path / MARKER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    marker = os.fdopen(descriptor, "r+")
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = path.stat().st_uid == os.fstat(descriptor).st_uid == os.geteuid() and _abandoned(marker, path)
    except (OSError, ValueError):
        ours = False
    if not ours:
        marker.close()
        return None
    return ScratchFolder(path, marker)


def _abandoned(marker: IO[str], path: Path) -> bool:
    """Check whether a marker says that the folder is ours and its maker is dead."""
    text = marker.read()
    if not text:
        return True  # cut off before anything was made beside it
    content = json.loads(text)
    if not isinstance(content, dict) or (content.get("backupd"), content.get("folder")) != (_KIND, path.name):
        return False
    pid = content.get("pid")
    return pid == os.getpid() or not isinstance(pid, int) or _began(pid) != content.get("began")


def dispose(folder: ScratchFolder) -> bool:
    """Remove the folder of a server that has ended; return whether everything is gone.

    No file in it is opened and no link followed. Its folders may be of any depth and have any modes.
    `backupd manual trust`, row *its files*.
    """
    heap = folder.path / _HEAP
    with suppress(OSError):
        heap.mkdir(mode=0o700, exist_ok=True)
        # The marker is removed last: it shows that the rest of the folder is ours.
        for path in sorted(folder.path.iterdir()):
            if path.name != MARKER:
                with suppress(OSError):
                    _remove(path, heap)
        heap.rmdir()
        (folder.path / MARKER).unlink()
        folder.path.rmdir()
    folder.lock.close()
    return not folder.path.exists()


def _remove(path: Path, heap: Path) -> None:
    """Remove a file or a folder by moving every folder in it to `heap`, where only our names are. Raises OSError."""
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    if path != heap:
        with _opened(path):  # a folder that is moved must be writable
            path.rename(heap / str(path.lstat().st_ino))
    with _opened(heap) as pile:
        while (name := _any(pile)) is not None:
            with _opened(name, pile) as folder:
                _flatten(folder, pile)
            with suppress(OSError):  # once more if the kernel left out names while others went
                os.rmdir(name, dir_fd=pile)


def _any(folder: int) -> str | None:
    with os.scandir(folder) as entries:
        return next((entry.name for entry in entries), None)


def _flatten(folder: int, pile: int) -> None:
    """Remove the files of a folder, and move its folders to `pile`, each under a number that no other has."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with _opened(entry.name, folder):
                    os.rename(entry.name, str(entry.inode()), src_dir_fd=folder, dst_dir_fd=pile)
            else:
                os.unlink(entry.name, dir_fd=folder)


@contextmanager
def _opened(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder, which may be closed to its owner, and no link."""
    place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        itself = f"/proc/self/fd/{place}"
        Path(itself).chmod(0o700)
        folder = os.open(itself, os.O_RDONLY | os.O_DIRECTORY)
    finally:
        os.close(place)
    try:
        yield folder
    finally:
        os.close(folder)


def _began(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks, as ids are reused; None when it has ended."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in _DEAD else fields[19]
    return None
