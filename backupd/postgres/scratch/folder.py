"""The server that a drill restores into, of either kind, and the folder of a scratch server.

The folder is marked as ours, locked while its maker lives, and removed after the processes in it have ended. Nothing is
ever removed unless it has our name, our marker and our owner, and its lock is free.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
_PATIENCE = 10.0
"""Seconds that a server has for an immediate shutdown before it is killed."""
_DEAD = "ZX"
"""States of a process that has ended and was not yet waited for by its parent."""
_SHARED = Path("/proc/sysvipc/shm")


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
    """End the processes that run in the folder and remove it; return whether everything is gone."""
    end_server(folder.data)
    # The marker is removed last: it shows that the rest of the folder is ours.
    for path in sorted(folder.path.iterdir() if folder.path.is_dir() else ()):
        if path.name != MARKER:
            _remove(path)
    left = [path for path in folder.path.iterdir() if path.name != MARKER] if folder.path.is_dir() else []
    if not left:
        _remove(folder.path)
    folder.lock.close()
    return not folder.path.exists() and not processes(folder.data)


def end_server(data: Path) -> None:
    """End the server of a data folder at once, with all its processes and its shared memory."""
    pid, shared = _postmaster(data)
    for number, sign in ((pid, signal.SIGQUIT), (pid, signal.SIGKILL)):
        running = processes(data)
        if not running:
            break
        for one in {number, *running} if sign == signal.SIGKILL else {number} & running or running:
            with suppress(ProcessLookupError):
                os.kill(one, sign)
        _wait(lambda: not processes(data))
    _remove_shared(shared)


def processes(data: Path) -> set[int]:
    """Return the processes that run in a data folder: a server's are started with it as their current folder."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                where = (entry / "cwd").readlink()
                if where == data or str(where) == f"{data} (deleted)":
                    found.add(int(entry.name))
    return found


def _postmaster(data: Path) -> tuple[int, tuple[str, str] | None]:
    """Return the id of the server's first process, 0 without one, and its shared memory's key and id."""
    with suppress(OSError, ValueError, IndexError):
        lines = (data / "postmaster.pid").read_text().splitlines()
        key = lines[6].split() if len(lines) > 6 else []
        return int(lines[0]), (key[0], key[1]) if len(key) == 2 else None
    return 0, None


def _remove_shared(shared: tuple[str, str] | None) -> None:
    """Remove the shared memory of a killed server from the kernel, if no process is attached to it."""
    if shared is None or not _SHARED.exists():
        return
    for line in _SHARED.read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[0], fields[1], fields[6]) == (*shared, "0"):
            program = shutil.which("ipcrm")
            if program is not None:
                subprocess.run([program, "-m", fields[1]], check=False, capture_output=True)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE
    while not done() and time.monotonic() < until:
        time.sleep(0.05)


def _began(pid: int) -> str | None:
    """Return when a process began, in the kernel's ticks, as ids are reused; None when it has ended."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in _DEAD else fields[19]
    return None
