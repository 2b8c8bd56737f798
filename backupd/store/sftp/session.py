"""One connection with its SFTP channel, and the pool of sessions that threads share."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Iterable, Iterator

from backupd.clock import Clock
from backupd.errors import ObjectMissingError, StoreAuthError, StoreError, StoreGoneError
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
        self.users = 0
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


class Pool:
    """Up to `target.connections` sessions, opened when needed; the next call replaces a broken one."""

    def __init__(self, target: SftpTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._sessions: list[Session] = []
        self._opening = 0
        self._most = target.connections
        self._changed = threading.Condition()
        self._refused: StoreAuthError | None = None
        self._failures = 0
        self._failure: StoreGoneError | None = None
        self._closed = False

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Yield the session with the fewest users, or a new one when all are used and more are allowed.

        Raises StoreAuthError, and again at every later call: a refused login is never retried.
        """
        session = self._take() or self._open()
        try:
            yield session
        finally:
            with self._changed:
                session.users -= 1

    def close(self) -> None:
        with self._changed:
            self._closed = True
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _take(self) -> Session | None:
        """Choose a session to use; None means that the caller has to open one."""
        with self._changed:
            failures = self._failures
            while True:
                self._check_usable(failures)
                self._drop_broken()
                best = self._least_used()
                # Until one login has succeeded, one thread alone tries: a wrong key must not count several times.
                limit = self._most if self._sessions else 1
                may_open = len(self._sessions) + self._opening < limit
                if may_open and (best is None or best.users):
                    self._opening += 1
                    return None
                if best is not None:
                    best.users += 1
                    return best
                self._changed.wait()

    def _open(self) -> Session:
        try:
            session = open_session(self._target, self._clock)
        except StoreError as error:
            return self._fall_back(error)
        except BaseException:
            with self._changed:
                self._opening -= 1
                self._changed.notify_all()
            raise
        with self._changed:
            self._opening -= 1
            self._changed.notify_all()
            session.users += 1
            if not self._closed:
                self._sessions.append(session)
                return session
        session.close()
        raise StoreError("the store was closed")

    def _fall_back(self, error: StoreError) -> Session:
        """Return a session in use when another one could not be opened, or else raise the error.

        All threads that waited for the new session get the same error.
        """
        with self._changed:
            self._opening -= 1
            self._changed.notify_all()
            if isinstance(error, StoreAuthError):
                self._refused = error
                raise error
            self._drop_broken()
            best = self._least_used()
            if not isinstance(error, StoreGoneError):
                raise error
            if best is None:
                self._failures += 1
                self._failure = error
                raise error
            # Servers limit connections per account; asking again and again would only delay every call.
            self._most = len(self._sessions)
            best.users += 1
            return best

    def _least_used(self) -> Session | None:
        return min(self._sessions, key=lambda session: session.users, default=None)

    def _check_usable(self, failures: int) -> None:
        if self._refused is not None:
            raise StoreAuthError(self._refused.message, hint=self._refused.hint) from self._refused
        if self._closed:
            raise StoreError("the store was closed")
        if self._failure is not None and self._failures > failures and not self._sessions:
            # A thread that waited for another one's attempt has waited a deadline already.
            raise StoreGoneError(self._failure.message, hint=self._failure.hint) from self._failure

    def _drop_broken(self) -> None:
        for session in [session for session in self._sessions if not session.alive]:
            self._sessions.remove(session)
            session.close()
        if not self._sessions:
            self._most = self._target.connections
