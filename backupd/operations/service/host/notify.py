"""What the service manager is told, by sd_notify(3)'s protocol: a datagram to a socket that the environment names."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.clock import Clock

_LONGEST_STATUS = 500


class Notifier:
    """Tells nobody where there is no service manager. What cannot be delivered is not tried again."""

    def __init__(self, environ: Mapping[str, str], clock: Clock) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._clock = clock
        self._status = ""
        self._every = _watchdog(environ)
        self._fed: float | None = None

    def ready(self) -> None:
        self._send("READY=1")

    def reloading(self) -> None:
        """`ready` says when that is over, whichever configuration holds then."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1_000_000)}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent when it changes."""
        line = " ".join(text.split())[:_LONGEST_STATUS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def alive(self) -> None:
        """Feed the watchdog, when it is time: thrice in the time it waits."""
        now = self._clock.monotonic()
        if self._every is not None and (self._fed is None or now - self._fed >= self._every):
            self._fed = now
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
    """Seconds between two feedings; None when no watchdog waits for this process."""
    if environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    return int(text) / 3_000_000 if text.isdecimal() and int(text) else None
