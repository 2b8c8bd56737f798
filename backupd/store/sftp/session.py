"""One connection with its SFTP channel: a session, which any number of threads use at once."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Iterable

from backupd.clock import Clock
from backupd.errors import ObjectMissingError, StoreError, StoreGoneError
from backupd.store.sftp import ssh, wire
from backupd.store.sftp.channel import Channel
from backupd.store.sftp.ssh import SftpTarget
from backupd.store.sftp.wire import Code, Handle, Reply, Status


class Session:
    """A connection that is logged in and speaks SFTP; any number of threads may use it at once."""

    def __init__(self, connection: ssh.Connection, channel: Channel, *, shared: bool = False) -> None:
        """Join a connection and its channel; `shared` lets the account's group read the folders that are made."""
        self.connection = connection
        self.channel = channel
        self.writing = threading.Lock()
        """Held while a large object is sent. One object at a time takes all that the channel takes: so it is complete
        soon, and while it is verified, the next one is sent. Side by side all would be sent, and then all verified."""
        self._mode = 0o750 if shared else 0o700

    @property
    def alive(self) -> bool:
        return self.channel.alive

    def offers(self, extension: str) -> bool:
        return extension in self.channel.extensions

    def run(self, command: str, path: str = "") -> tuple[int, bytes]:
        """Run a command with the path as its one argument; return its exit code and its output."""
        return self.connection.run(f"{command} {shlex.quote(path)}" if path else command)

    def make_folders(self, path: str) -> None:
        """Make every missing folder above `path`. A failure shows only when the folder is used."""
        self.channel.ask(*self.mkdir_requests(folders_above(path)))

    def mkdir_requests(self, folders: Iterable[str]) -> list[wire.SftpRequest]:
        """Return the requests that make these folders."""
        return [wire.mkdir(folder, self._mode) for folder in folders]

    def discard(self, path: str) -> None:
        """Remove a temporary object if possible: a store that lets nothing be removed keeps it."""
        with contextlib.suppress(StoreError):
            self.channel.ask(wire.remove(path))

    def close(self) -> None:
        self.channel.close()
        self.connection.close()


def open_session(target: SftpTarget, clock: Clock) -> Session:
    """Connect, log in and start SFTP.

    Raises StoreAuthError, StoreError, StoreGoneError.
    """
    connection = ssh.connect(target, clock)
    try:
        channel = Channel(connection.open_sftp(), clock, target.deadline)
        channel.open()
    except BaseException:
        connection.close()
        raise
    return Session(connection, channel, shared=target.shared)


def folders_above(path: str) -> list[str]:
    """Return every folder above `path`, outermost first: `a/b` gives `a`, `/a/b/c` gives `/a` and `/a/b`."""
    parts = path.split("/")[:-1]
    return [folder for end in range(1, len(parts) + 1) if (folder := "/".join(parts[:end]))]


def require_granted(reply: Reply, name: str) -> None:
    """Raise what a status other than OK means: ObjectMissingError, StoreGoneError or StoreError."""
    if not isinstance(reply, Status) or reply.ok:
        return
    if reply.code == Code.NO_SUCH_FILE:
        raise ObjectMissingError(f"no such object on the store: {name!r}")
    if reply.code in {Code.NO_CONNECTION, Code.CONNECTION_LOST}:
        raise StoreGoneError("the store lost its own connection")
    raise refused(name, reply.code)


def refused(name: str, code: int) -> StoreError:
    meaning = Code(code).name.lower().replace("_", " ") if code in {*Code} else f"status {code}"
    return StoreError(f"the store refused {name!r}: {meaning}", hint="Check the account's permissions and its quota.")


def handle_of(reply: Reply, name: str) -> Handle:
    """Return the handle that an open request was answered with; raises the errors of `require_granted`."""
    require_granted(reply, name)
    if not isinstance(reply, Handle):
        raise wire.ProtocolError("no handle")
    return reply
