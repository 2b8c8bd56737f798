"""Names for faults of this machine's own disks and limits that no code below knows more about.

Code names such a fault where it knows what was done, and this module does where it does not: a disk may fail at any
call.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import Final

from backupd.errors import BackupdError, SpoolFullError

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED: Final = frozenset(
    {
        *(errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV),
        *(errno.ESTALE, errno.ENOTCONN, errno.ENXIO, errno.EAGAIN, errno.ENOEXEC, errno.ENOLCK),
    }
)
_UNUSABLE: Final = {
    sqlite3.SQLITE_IOERR: "its disk fails",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_PERM: "access is refused",
    sqlite3.SQLITE_BUSY: "another process uses it",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
}
_ROOM: Final = "Make room on the disks of node.state_dir and node.spool_dir, then run it again."
_GONE: Final = "Find out who did: node.state_dir and node.spool_dir are backupd's own. Then run it again."
_DISKS: Final = "Check the disks of node.state_dir and node.spool_dir, their owner and mode, and this process's limits."
_NO_THREAD: Final = "can't start new thread"
"""All that Python says of it; the thread's stack takes memory, too."""
_LIMITS: Final = "Look at its limits: `ulimit -a`; under systemd MemoryMax= and TasksMax=. Then run it again."
_STATE: Final = "Check the disk of node.state_dir, its owner and mode; a damaged file there may be moved away."


def named(error: BaseException) -> BaseException:
    """Return the error that names a fault of this machine; every other error is returned as it is."""
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        return BackupdError(f"somebody removed {error.filename!r} while it was in use", hint=_GONE)
    if isinstance(error, OSError) and error.errno in _NO_ROOM | _REFUSED:
        where = f" at {error.filename!r}" if isinstance(error.filename, str) else ""
        if error.errno in _NO_ROOM:
            return SpoolFullError(f"a disk of this machine has no room{where}", hint=_ROOM)
        reason = (error.strerror or "unknown error").lower()
        return BackupdError(f"this machine refuses a file or a process{where}: {reason}", hint=_DISKS)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and str(error) == _NO_THREAD):
        return BackupdError("this machine gives this process no more memory, or no further thread", hint=_LIMITS)
    return _of_sqlite(error) if isinstance(error, sqlite3.Error) else error


def _of_sqlite(error: sqlite3.Error) -> Exception:
    code = int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return SpoolFullError("a disk of this machine has no room for a file of its state", hint=_ROOM)
    if code in _UNUSABLE:
        return BackupdError(f"a file of this machine's state cannot be used: {_UNUSABLE[code]}", hint=_STATE)
    return error
