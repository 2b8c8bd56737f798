"""A new folder that is there at once and whole: written under a temporary name, flushed, renamed."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import IO, TYPE_CHECKING

from backupd.errors import BackupdError, RefusedError, SpoolFullError

if TYPE_CHECKING:
    from collections.abc import Iterator

TEMPORARY = ".backupd-restoring-"
"""Begins the name of every folder that is not complete."""
_NAME = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{8}")


@dataclass(slots=True)
class NewFile:
    """A file under way: its size and digest are known once it is closed."""

    file: IO[bytes] = field(repr=False)
    size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self._digest.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class NewFolder:
    """A folder under its temporary name; only its owner may read what is in it."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._temporary = path.parent / f"{TEMPORARY}{token}"
        self._lock = -1

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Make it; when the block ends well it has its name, and otherwise nothing of it is left.

        Raises RefusedError when there is something of that name, or it cannot be written; SpoolFullError.
        """
        with translated():
            self._require_new()
            self._temporary.mkdir(mode=0o700)
            self._lock = _locked(self._temporary)
        try:
            with translated():
                yield
                _flush(self._temporary)
                self._require_new()
                self._temporary.rename(self.path)
                _fsync(self.path.parent)
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        finally:
            os.close(self._lock)

    @contextmanager
    def create(self, path: str) -> Iterator[NewFile]:
        """A new file at a place in the folder."""
        full = self._temporary / path
        for parent in reversed(full.relative_to(self._temporary).parents[:-1]):
            (self._temporary / parent).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield NewFile(file)

    def _require_new(self) -> None:
        if os.path.lexists(self.path):
            raise RefusedError("the folder to restore into exists already", hint="Name one that does not exist yet.")


def require_room(parent: Path, needed: int) -> None:
    """Raises SpoolFullError when a folder's disk has less room, RefusedError when there is no such folder."""
    with translated():
        free = shutil.disk_usage(parent).free
    if free < needed:
        raise SpoolFullError(
            f"the files need {needed >> 20} MiB, and there are {free >> 20} MiB left",
            hint="Name a folder on a larger disk.",
        )


def leftovers(parent: Path) -> list[Path]:
    """Folders of restores into files that were killed: under a temporary name, ours, and nobody writes to them."""
    found = []
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if (
            _NAME.fullmatch(path.name)
            and path.is_dir()
            and not path.is_symlink()
            and path.stat().st_uid == os.geteuid()
        ):
            with suppress(OSError):
                os.close(_locked(path))
                found.append(path)
    return found


@contextmanager
def translated() -> Iterator[None]:
    """What the system refuses, in our words."""
    try:
        yield
    except BackupdError:
        raise
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise SpoolFullError("the disk to restore to is full", hint="Name a folder on a larger disk.") from None
        raise RefusedError(
            f"the folder to restore into cannot be written ({error.strerror})",
            hint="Its parent must exist, and you may make folders in it.",
        ) from None


def _locked(path: Path) -> int:
    """A descriptor that holds the folder as long as it is open. Raises OSError when another does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _flush(folder: Path) -> None:
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            _fsync(Path(place, name))
        _fsync(Path(place))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
