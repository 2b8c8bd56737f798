"""A program that runs a scratch server where it reaches nothing but its own files, and ends it with all it started.

What is restored is code of the databases' owners, which a superuser of the scratch server runs. So the server gets
namespaces of its own: of mounts (the system's programs and libraries, read only, and its own two folders; no /proc, no
/run, no /etc of the machine), of processes, of the network, of IPC and, where its maker is not root, of users. It has
no capability and can gain none (`backupd manual trust`, row *its processes*). The namespace of processes has a first
process, ours; when that ends, even if it is killed, the kernel kills all others, and it ends with the process that
started it.

The file stands alone: it imports no module of backupd, because a kept server is started by a copy of it.
Usage: `jail.py run SPEC` until the command ends or standard input does; `jail.py start` and `jail.py stop` for a kept
server, whose folder has this file and `server.json`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SPEC, LOCK = "server.json", "server.lock"
REFUSED = 125
"""Exit status when the system does not allow the isolation; standard error says what it refused."""
_READY = b"r"
_PATIENCE = 120.0
"""Seconds that a server may take to start, and to stop."""

_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_NEW_OTHERS = 0x08000000 | 0x20000000 | 0x40000000
"""Flags of unshare(2): IPC, processes, network."""
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
"""Flags that mount(2) takes here."""
_NO_SUID, _NO_DEVICES = 2, 4
_DETACH = 2
_SET_ATTRIBUTES, _AT_RECURSIVE, _AT_CWD = 442, 0x8000, -100
"""The number of mount_setattr(2), the same on all of Linux's machines, and two of its flags."""
_RDONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_PARENT_DEATH, _DROP_BOUND, _NO_NEW_PRIVILEGES = 1, 24, 38
_CAPABILITIES = 0x20080522

_ANY = "/tmp"  # noqa: S108  # any folder of every system, covered for a moment and in a namespace of our own
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SYSTEM = ("/usr", "/etc/ld.so.cache", "/etc/alternatives", "/var/cache/postgresql")
"""What servers read besides their own files: programs, libraries, time zones, dictionaries. No secret lies there."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Jailed:
    """A command, the user that runs it, and everything that it may read or write."""

    command: list[str]
    user: int
    group: int
    read: list[str]
    """Folders with programs that lie elsewhere than the system's."""
    write: list[str]
    """The server's own folders."""
    memory: int
    """Bytes that any one process may have."""
    socket: str | None = None
    """The unix socket that a server listens on, in a folder of `write`; nothing there can be replaced later."""


def main(verb: str, spec: str = "") -> int:
    """Do what a verb says and return the exit status."""
    if verb == "run":
        return _hold(Jailed(**json.loads(spec)), 0, 1)
    folder = Path(__file__).absolute().parent
    return _start(folder) if verb == "start" else _stop(folder)


def _hold(jailed: Jailed, lifeline: int | None, listener: int) -> int:
    """Run a command until it ends, `lifeline` is closed or SIGTERM asks for its end. `listener` hears when it is ready.

    Return its exit status, when nothing that it started exists any more.
    """
    ready, tell = os.pipe()
    try:
        _leave(jailed)
        first = os.fork()
        if first == 0:
            _be_first(jailed, tell)
    except OSError as error:
        return _refuse(error)
    os.close(tell)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(first, signal.SIGTERM))
    watched = [ready] if lifeline is None else [ready, lifeline]
    while True:
        found = select.select(watched, [], [])[0]
        if ready in found:
            if not os.read(ready, 1):
                break
            with suppress(OSError):  # nobody may be listening any more
                os.write(listener, _READY)
                if listener > 2:
                    os.close(listener)
        if lifeline in found and not os.read(lifeline or 0, 4096):
            os.kill(first, signal.SIGKILL)
            break
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) % 256


def _leave(jailed: Jailed) -> None:
    """Leave the machine's namespaces, but the one of mounts; the next process has number 1 in its own."""
    if os.geteuid() == 0:
        _check(_libc.unshare(_NEW_OTHERS), "unshare")
        return
    _check(_libc.unshare(_NEW_USERS | _NEW_OTHERS), "unshare of users")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{jailed.user} {jailed.user} 1")
    Path("/proc/self/gid_map").write_text(f"{jailed.group} {jailed.group} 1")


def _be_first(jailed: Jailed, tell: int) -> None:
    """Be the first process of the namespace: build its files, start the command, bury its children."""
    os.umask(0o022)
    try:
        _check(_libc.prctl(_PARENT_DEATH, signal.SIGKILL), "prctl")
        _close_all_but(tell)
        _build(jailed)
        command = os.fork()
        if command == 0:
            _become(jailed)
        signal.signal(signal.SIGTERM, lambda *_: os.kill(command, signal.SIGINT))
        if jailed.socket is not None:
            _wait_for(command, lambda: _answers(jailed.socket or ""))
            _fix_socket(Path(jailed.socket))
        _surrender(jailed)
        if jailed.socket is not None:
            os.write(tell, _READY)
        while True:
            _bury(command, 0)
    except OSError as error:
        os._exit(_refuse(error))


def _fix_socket(path: Path) -> None:
    """See to it that nobody replaces the socket, by a link that leads its clients to another server. Raises OSError.

    `backupd manual trust`, row *its socket*.
    """
    _attributes(str(path.parent), _RDONLY)
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK), "the server's socket")


def _bury(command: int, options: int) -> None:
    """Wait for one process that ended; end with the command when it is that one."""
    pid, status = os.waitpid(-1, options)
    if pid == command:
        os._exit(os.waitstatus_to_exitcode(status) % 256)


def _close_all_but(kept: int) -> None:
    """Close what only the process outside needs, its standard input and output among it."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(3, kept)
    os.closerange(kept + 1, 1 << 16)


def _build(jailed: Jailed) -> None:
    """Change to a root that shows only what the command may see."""
    _check(_libc.unshare(_NEW_MOUNTS), "unshare of mounts")
    _mount("none", "/", "", _RECURSIVE | _PRIVATE)
    _mount("tmpfs", _ANY, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=0755")
    Path(_ANY, ".old").mkdir()
    _check(_libc.pivot_root(_ANY.encode(), f"{_ANY}/.old".encode()), "pivot_root")
    os.chdir("/")
    for name in _LINKS:
        old = Path("/.old", name)
        if old.is_symlink():
            Path("/", name).symlink_to(old.readlink())
        elif old.is_dir():
            _show(f"/{name}", _RDONLY)
    for path in (*_SYSTEM, *jailed.read):
        if Path(f"/.old{path}").exists():
            _show(path, _RDONLY)
    for name in _DEVICES:
        _show(f"/dev/{name}", 0, device=True)
    for path in jailed.write:
        _show(path, _NOEXEC)
    Path("/etc/passwd").write_text(f"postgres:x:{jailed.user}:{jailed.group}::/:/bin/sh\n")
    Path("/etc/group").write_text(f"postgres:x:{jailed.group}:\n")
    if jailed.socket is not None:
        for left in (jailed.socket, f"{jailed.socket}.lock"):  # of a kept server that ran before
            Path(left).unlink(missing_ok=True)
    _check(_libc.umount2(b"/.old", _DETACH), "umount")
    Path("/.old").rmdir()
    _attributes("/", _RDONLY, below=False)


def _show(path: str, attributes: int, *, device: bool = False) -> None:
    """Show a file or folder of the machine under its own name."""
    if Path(f"/.old{path}").is_dir():
        Path(path).mkdir(parents=True, exist_ok=True)
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    _mount(f"/.old{path}", path, "", _BIND | _RECURSIVE)
    _attributes(path, attributes | _NOSUID | (0 if device else _NODEV))


def within_limit(wanted: int, hard: int) -> int:
    """Return the limit to set where `hard` is the highest that may be: the drill may run under one of its own."""
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _become(jailed: Jailed) -> None:
    """Replace this process by the command, without any right."""
    _surrender(jailed)
    os.setsid()
    os.umask(0o077)
    memory = within_limit(jailed.memory, resource.getrlimit(resource.RLIMIT_AS)[1])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # a unit may forbid it
        os.nice(10)
    os.dup2(0, 2)
    # Without /proc, the loader does not know where a program lies, beside which its libraries may lie.
    beside = {"LD_ORIGIN_PATH": str(Path(jailed.command[0]).parent)}
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", **beside}
    os.execve(jailed.command[0], jailed.command, environment)  # noqa: S606  # a fixed list of words


def _surrender(jailed: Jailed) -> None:
    """Give up every right for good, and the user root."""
    number = 0
    while _libc.prctl(_DROP_BOUND, number, 0, 0, 0) == 0:
        number += 1
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(jailed.group, jailed.group, jailed.group)
        os.setresuid(jailed.user, jailed.user, jailed.user)
    _check(_libc.capset(struct.pack("Ii", _CAPABILITIES, 0), bytes(24)), "capset")
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    # The kernel forgets it when the user changes.
    _check(_libc.prctl(_PARENT_DEATH, signal.SIGKILL), "prctl")


def _wait_for(command: int, done: Callable[[], bool]) -> None:
    """Wait until something is done; raise OSError when it takes too long, end when the command does."""
    until = time.monotonic() + _PATIENCE
    while not done():
        with suppress(ChildProcessError):
            _bury(command, os.WNOHANG)
        if time.monotonic() > until:
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), "the server's start")
        time.sleep(0.02)


def _answers(path: str) -> bool:
    """Check whether a server takes connections, and does not say that it is still starting."""
    words = struct.pack(">I", 196608) + b"user\0postgres\0database\0postgres\0\0"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(struct.pack(">I", len(words) + 4) + words)
            reply = connection.recv(4096)
            connection.sendall(b"X\0\0\0\4")
    except OSError:
        return False
    return bool(reply) and not (reply[:1] == b"E" and b"C57P03\0" in reply)


def _start(folder: Path) -> int:
    """Start a kept server and return when it takes connections."""
    with (folder / LOCK).open("a+") as lock:
        if not _locked(lock.fileno()):
            os.write(2, b"the server runs already\n")
            return 1
        ready, tell = os.pipe()
        if os.fork():
            os.close(tell)
            return int(os.read(ready, 1) != _READY)
        os.setsid()
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1):
            os.dup2(null, number)
        return _hold(Jailed(**json.loads((folder / SPEC).read_text())), None, tell)


def _stop(folder: Path) -> int:
    """Stop a kept server, at once if it does not stop in time; the file that names its process is ours alone."""
    with (folder / LOCK).open("a+") as lock:
        if _locked(lock.fileno()):
            return 0
        lock.seek(0)
        holder = int(lock.read())
        for sign in (signal.SIGTERM, signal.SIGKILL):
            os.kill(holder, sign)
            until = time.monotonic() + _PATIENCE
            while time.monotonic() < until:
                if _locked(lock.fileno()):
                    return 0
                time.sleep(0.02)
    return 1


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    done = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    _check(done, f"mount of {target}")


def _attributes(path: str, attributes: int, *, below: bool = True) -> None:
    """Add attributes to a mount, and to all mounts below it."""
    wanted = struct.pack("QQQQ", attributes, 0, 0, 0)
    flags = _AT_RECURSIVE if below else 0
    done = _libc.syscall(_SET_ATTRIBUTES, _AT_CWD, path.encode(), flags, wanted, ctypes.c_size_t(len(wanted)))
    _check(done, "mount_setattr")


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def _refuse(error: OSError) -> int:
    text = f"{error.filename}: {error.strerror}\n".encode()
    with suppress(OSError):
        os.write(2, text)
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
