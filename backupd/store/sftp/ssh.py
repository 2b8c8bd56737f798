"""SSH: connect to one pinned host with one key, open SFTP and run commands. The only importer of paramiko.

Nothing is accepted that was not configured: no system known_hosts, no agent, no password, no unknown host key.
paramiko's errors do not leave this module.

`backupd manual trust`, row *the SSH server itself*, says who can write this, and what is checked.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backupd.clock import Clock
from backupd.errors import StoreAuthError, StoreError, StoreGoneError
from backupd.secret_files import is_open_to_others

# paramiko imports invoke, which takes a third of its time, for one word of OpenSSH's configuration files, and goes on
# without it where it is missing. Nothing here reads these files.
sys.modules.setdefault("invoke", None)  # type: ignore[arg-type]  # None is how Python is told of a missing module
import paramiko  # noqa: E402 - after what it goes without

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
"""Ciphers in the order offered. paramiko offers GCM last, although it is faster by 20-50 % (`backupd manual design`,
Store over SSH)."""
_SLICE = 32_768 - 64
"""Bytes that fit one SSH packet of an OpenSSH server; paramiko copies the rest of a longer send again and again."""
WINDOW = 16 * 1024 * 1024
"""Bytes that the server may send before we have taken them: the limit of downloads on long round trips."""
_PACKET = 32_768
_KEEPALIVE = 30
_PULSE = 0.5
"""Seconds after which a waiting receiver returns, so that its caller can check deadlines."""
_COMMANDS_AT_ONCE = 4
"""Commands run at a time; OpenSSH allows ten channels on a connection, and SFTP takes one."""
_LONGEST_OUTPUT = 64 * 1024


_LOG = "backupd.paramiko"
# paramiko writes peers' words and its own tracebacks to its log; all that matters reaches us as exceptions.
logging.getLogger(_LOG).addHandler(logging.NullHandler())
logging.getLogger(_LOG).propagate = False


class HostKey(NamedTuple):
    """A server's key: the line that pins it, and how people compare it."""

    line: str
    fingerprint: str


class Pipe:
    """One SSH channel as a pair of byte streams; closing it ends the whole connection."""

    def __init__(self, channel: paramiko.Channel, transport: paramiko.Transport) -> None:
        self._channel = channel
        self._transport = transport
        channel.settimeout(_PULSE)

    def send(self, data: bytes) -> None:
        """Send all bytes; block while the server takes nothing, until `close` at the latest.

        Raises StoreGoneError.
        """
        at = 0
        with _translated():
            while at < len(data):
                with contextlib.suppress(TimeoutError):
                    at += self._send_slice(data[at : at + _SLICE])

    def receive(self) -> bytes:
        """Return the bytes that have arrived; no bytes after half a second without any.

        Raises StoreGoneError at the end of the stream.
        """
        try:
            with _translated():
                piece = self._channel.recv(WINDOW)
        except TimeoutError:
            return b""
        if not piece:
            raise _ended()
        return piece

    def close(self) -> None:
        # Closing the channel alone would send a message, and wait for ever on a peer that reads nothing.
        with contextlib.suppress(Exception):
            self._transport.close()

    def _send_slice(self, piece: bytes) -> int:
        sent = self._channel.send(piece)
        if not sent:
            raise _ended()
        return sent


class Connection:
    """An authenticated connection; several threads may use several channels on it."""

    def __init__(self, transport: paramiko.Transport, clock: Clock, deadline: float) -> None:
        self._transport = transport
        self._clock = clock
        self._deadline = deadline
        self._commands = threading.Semaphore(_COMMANDS_AT_ONCE)

    def open_sftp(self) -> Pipe:
        """Start the SFTP subsystem.

        Raises StoreGoneError, and StoreError when the account has none.
        """
        channel = self._open_channel()
        try:
            with _translated():
                channel.invoke_subsystem("sftp")
        except StoreGoneError as error:
            if not self._transport.is_active():
                raise
            raise StoreError(
                "the store does not offer SFTP", hint="Switch the sftp subsystem on for this account."
            ) from error
        return Pipe(channel, self._transport)

    def run(self, command: str) -> tuple[int, bytes]:
        """Run a command on the server; return its exit code and the first 64 KiB of its output.

        The code is -1 when the server refuses to start commands. Raises StoreGoneError, also when the command takes
        longer than the deadline.
        """
        with self._commands, contextlib.closing(self._open_channel()) as channel:
            until = self._clock.monotonic() + self._deadline
            channel.settimeout(self._deadline)
            try:
                with _translated():
                    channel.exec_command(command)
            except StoreGoneError:
                if not self._transport.is_active():
                    raise
                return -1, b""
            return self._collect(channel, until)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._transport.close()

    def _open_channel(self) -> paramiko.Channel:
        with _translated():
            return self._transport.open_session(window_size=WINDOW, max_packet_size=_PACKET, timeout=self._deadline)

    def _collect(self, channel: paramiko.Channel, until: float) -> tuple[int, bytes]:
        output = b""
        channel.shutdown_write()
        channel.set_combine_stderr(False)
        channel.settimeout(_PULSE)
        while True:
            if self._clock.monotonic() > until:
                raise StoreGoneError("a command on the store did not end in time")
            try:
                with _translated():
                    piece = channel.recv(_LONGEST_OUTPUT)
            except TimeoutError:
                continue
            if not piece:
                break
            output = (output + piece)[:_LONGEST_OUTPUT]
        while not channel.exit_status_ready():
            if self._clock.monotonic() > until or not self._transport.is_active():
                raise StoreGoneError("a command on the store did not say how it ended")
            self._clock.sleep(0.002)
        return channel.recv_exit_status(), output


def connect(target: SftpTarget, clock: Clock) -> Connection:
    """Connect, check the host's key against the pinned ones, and log in.

    Raises StoreAuthError when either side refuses the other, which must not be retried, and StoreGoneError.
    """
    pinned = [_parse_host_key(line) for line in target.host_keys]
    key = _load_key(target.key_file)
    transport, seen = _start(target, pinned, clock)
    try:
        _check_host(seen, pinned, target)
        _log_in(transport, target, key)
    except BaseException:
        transport.close()
        raise
    transport.set_keepalive(_KEEPALIVE)
    return Connection(transport, clock, target.deadline)


def read_host_key(host: str, port: int, deadline: float, clock: Clock) -> HostKey:
    """Ask a server for its key without logging in. Nothing says yet whose key it is: somebody has to compare it.

    Raises StoreGoneError.
    """
    target = SftpTarget(host, port, user="", key_file=Path(), host_keys=(), path="", region="", deadline=deadline)
    transport, seen = _start(target, [("ssh-ed25519", b"")], clock)
    transport.close()
    return HostKey(f"{seen.get_name()} {seen.get_base64()}", f"{seen.get_name()} {fingerprint(seen.asbytes())}")


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _start(
    target: SftpTarget, pinned: list[tuple[str, bytes]], clock: Clock
) -> tuple[paramiko.Transport, paramiko.PKey]:
    """Connect and exchange keys; returns the connection, on which nobody is logged in, and the key that was shown."""
    within = min(target.connect_within, target.deadline)
    try:
        link = socket.create_connection((target.host, target.port), timeout=within)
    except OSError as error:
        raise StoreGoneError(
            f"cannot connect to {target.host!r} port {target.port}: {(error.strerror or str(error)).lower()}",
            hint="Check the store's host, its port and the network.",
        ) from error
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(target.deadline * 1000))
    began = clock.monotonic()
    try:
        transport = paramiko.Transport(link)
        transport.set_log_channel(_LOG)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = within
        transport.channel_timeout = target.deadline
        _prefer(transport, pinned)
        transport.start_client(timeout=within)
        return transport, transport.get_remote_server_key()
    except (paramiko.SSHException, EOFError, OSError) as error:
        link.close()
        raise _no_handshake(target, error, within if clock.monotonic() - began >= within else None) from error
    except BaseException:
        link.close()
        raise


def _no_handshake(target: SftpTarget, error: Exception, waited: float | None) -> StoreGoneError:
    """Return the error of a server that took a connection and showed no key; `waited` are the seconds, all of them."""
    where = f"what answers at {target.host!r} port {target.port}"
    if waited is not None:
        return StoreGoneError(
            f"the server at {target.host!r} port {target.port} did not show its key in {waited:.0f} s",
            hint="It may hang, or have much to do; or what has this port is no SSH server.",
        )
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        return StoreGoneError(
            f"{where} offers no way to encrypt that we take",
            hint="Its SSH server is too old, or set up for others only.",
        )
    return StoreGoneError(
        f"{where} closed the connection before it showed a key",
        hint="Check the port. An SSH server does so when it takes no more (MaxStartups), or bars this address.",
    )


def _prefer(transport: paramiko.Transport, pinned: list[tuple[str, bytes]]) -> None:
    """Offer fast ciphers first, and pinned kinds of host key first: a server with several keys shows a pinned one."""
    options = transport.get_security_options()
    options.ciphers = tuple(name for name in _CIPHERS if name in options.ciphers)
    kinds = {kind for kind, _ in pinned}
    if "ssh-rsa" in kinds:
        kinds |= {"rsa-sha2-512", "rsa-sha2-256"}
    options.key_types = tuple(sorted(options.key_types, key=lambda name: name not in kinds))


def _check_host(seen: paramiko.PKey, pinned: list[tuple[str, bytes]], target: SftpTarget) -> None:
    if (seen.get_name(), seen.asbytes()) in pinned:
        return
    expected = ", ".join(fingerprint(key) for _, key in pinned) or "none"
    raise StoreAuthError(
        f"the host key of {target.host!r} is not a pinned one: seen {seen.get_name()} {fingerprint(seen.asbytes())}, "
        f"expected {expected}",
        hint="Somebody may be in between. Ask the store's provider for its keys before you change host_keys "
        "(`backupd manual stores`, *A store is away*).",
    )


def _log_in(transport: paramiko.Transport, target: SftpTarget, key: paramiko.PKey) -> None:
    try:
        with _translated():
            accepted = not transport.auth_publickey(target.user, key)
    except paramiko.AuthenticationException as error:
        # paramiko raises the same for a connection that ended or hung while logging in; that may be tried again.
        if not transport.is_active() or "timeout" in str(error).lower():
            raise StoreGoneError("the connection to the store broke while logging in") from error
        accepted = False
    if not accepted:
        raise StoreAuthError(
            f"{target.host!r} refused our key {fingerprint(key.asbytes())} for the account {target.user!r}",
            hint="Put the public half of the store's `key` into the account's authorized_keys.",
        )


def _parse_host_key(line: str) -> tuple[str, bytes]:
    try:
        kind, text = line.split()[:2]
        return kind, base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise StoreAuthError(
            "a pinned host key is not of the form 'type base64'", hint="Copy it from the output of ssh-keyscan."
        ) from error


def _load_key(path: Path) -> paramiko.PKey:
    with contextlib.suppress(OSError):
        if is_open_to_others(path.stat()):
            raise StoreAuthError(
                f"the SSH key file {str(path)!r} is open to other users", hint="Make it its owner's only: chmod 600."
            )
    try:
        return paramiko.PKey.from_path(path)
    except Exception as error:
        raise StoreAuthError(
            f"cannot use the SSH key file {str(path)!r}: {type(error).__name__}",
            hint="It must be an OpenSSH private key without a passphrase, readable by this user.",
        ) from error


def _ended() -> StoreGoneError:
    return StoreGoneError("the store closed the connection")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn paramiko's and the system's errors into StoreGoneError.

    A refused authentication and a timeout pass unchanged, for the caller to judge.
    """
    try:
        yield
    except (TimeoutError, paramiko.AuthenticationException):
        raise
    except EOFError as error:
        raise _ended() from error
    except (paramiko.SSHException, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the server's SSH went wrong"
        raise StoreGoneError(f"the connection to the store broke: {reason.lower()}") from error


@dataclass(frozen=True, slots=True)
class SftpTarget:
    """One region's folder in one account, and how to reach it, as the configuration says."""

    host: str
    port: int
    user: str
    key_file: Path
    """Path of an unencrypted OpenSSH private key, the only way we log in."""
    host_keys: tuple[str, ...]
    """Accepted host keys, each `type base64` as in a known_hosts line or a .pub file."""
    path: str
    """The store's root; relative to the account's home unless it starts with a slash. Empty: the home itself."""
    region: str
    connections: int = 8
    bandwidth: int = 0
    """Bytes per second over all connections and both directions; 0 means no limit."""
    deadline: float = 60.0
    """Seconds without any answer after which a connection with requests in flight counts as dead."""
    connect_within: float = 60.0
    """Seconds for each step of making a connection, up to the login; never more than `deadline`."""
    patience: float = 600.0
    """Seconds for which a call is repeated on fresh connections; 0 fails the call at the first broken connection."""
    shared: bool = False
    """Whether the account's group may read what is put here: keeper and node read each other's objects."""
    flat: bool = False
    """Whether no folder is made below the region's, not even for temporary objects; names then hold no folder."""

    @property
    def root(self) -> str:
        """Return the path of the region's folder as it is sent to the server."""
        return "/".join(part for part in (self.path.rstrip("/"), self.region) if part)
