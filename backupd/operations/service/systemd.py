"""The daemon as a service of its machine: states for the service manager, and a lock for each job.

States are sent by sd_notify(3): datagrams to a socket that the environment names. A lock is a file in the region's
state folder, held as long as the process lives, so that a job has one daemon on a machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from backupd.clock import Clock
from backupd.errors import BackupdError, BusyError
from backupd.operations.service.jobs import JobKey, JobKind
from backupd.repository.state.index_file import unusable_folder

_LONGEST_STATUS = 500


class Notifier:
    """Sends the daemon's state to the service manager, if there is one. A datagram that fails is not repeated."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._clock = clock
        self._status = ""
        self._every = _watchdog(environ)
        self._last_fed: float | None = None

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """Report that the configuration is being read; `ready` reports the end of it, also of a failed reload."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1_000_000)}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """Report one line for `systemctl status`, when it has changed."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog when it is time: three times in the span it waits."""
        now = self._clock.monotonic()
        if self._every is not None and (self._last_fed is None or now - self._last_fed >= self._every):
            self._last_fed = now
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if self._address is not None:
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.setblocking(False)
                out.sendto(message.encode(), self._address)


def _address(name: str) -> str | None:
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Return the seconds between two feedings; None when no watchdog waits for this process."""
    if environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 3_000_000 if text.isdecimal() and int(text) else None


SHARED = frozenset({JobKind.OBSERVE})
"""Kinds of work that any number of daemons may do at once."""


class Locks:
    """The locks of the jobs that this process may run, to be closed at the end."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._held: dict[JobKey, int] = {}

    def hold(self, keys: Iterable[JobKey]) -> None:
        """Hold exactly the locks of these jobs from now on.

        Raises BusyError when another process holds one of them, ConfigError when the state folder cannot be written;
        then this process holds the locks that it held before.
        """
        wanted = {key for key in keys if key.kind not in SHARED}
        taken: dict[JobKey, int] = {}
        try:
            for key in sorted(wanted - self._held.keys()):
                taken[key] = self._lock(key)
        except BackupdError:
            for number in taken.values():
                os.close(number)
            raise
        for key in self._held.keys() - wanted:
            os.close(self._held.pop(key))
        self._held |= taken

    def close(self) -> None:
        for number in self._held.values():
            os.close(number)
        self._held = {}

    def _lock(self, key: JobKey) -> int:
        path = self._state / key.region / f"{key.kind}.lock"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise unusable_folder(error) from error
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(number)
            raise BusyError(
                f'another daemon of this machine already runs "{key}"',
                hint="Stop it, or give each one regions or --jobs of its own.",
            ) from None
        return number
