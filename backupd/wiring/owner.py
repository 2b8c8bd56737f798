"""The owner of the state and spool folders: what root makes there is given to them, or the service could not use it."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def hand_over(folder: Path, only: Collection[str] | None = None) -> int:
    """Give to a folder's owner what belongs to root in it; return how many files and folders that were.

    `only` names the folders in it that are looked at, where not all are.
    Only files with one name, reached without a symbolic link, are given away: somebody who may write there could
    otherwise have root give away a file of their choice.
    """
    try:
        owner = folder.lstat()
    except OSError:
        return 0
    if owner.st_uid == 0 or not stat.S_ISDIR(owner.st_mode):
        return 0
    given = 0
    for path, folders, files, descriptor in os.fwalk(folder, follow_symlinks=False):
        if only is not None and path == str(folder):
            folders[:], files[:] = [name for name in folders if name in only], []
        given += sum(_give(name, descriptor, owner) for name in [*folders, *files])
    return given


def owner_of(folder: Path) -> str:
    """Return the name of a folder's owner, or of that of the nearest folder above it that is there."""
    for path in (folder, *folder.parents):
        with suppress(OSError, KeyError):
            return pwd.getpwuid(path.stat().st_uid).pw_name
    return "somebody else"


def _give(name: str, parent: int, owner: os.stat_result) -> int:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError:
        return 0
    try:
        found = os.fstat(descriptor)
        plain = stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)
        if found.st_uid != 0 or not plain:
            return 0
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    except OSError:
        return 0
    finally:
        os.close(descriptor)
    return 1
