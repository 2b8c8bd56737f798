"""A socket in systemd's place receives the states that a daemon reports."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path


class ServiceManager:
    """Hears sd_notify(3)'s messages, with the moment each came."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._path = str(folder / "notify")
        self._socket.bind(self._path)
        self.heard: list[tuple[float, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def environment(self, watchdog: float | None = None) -> dict[str, str]:
        """For the daemon; `watchdog` is how many seconds it may be silent."""
        found = {"NOTIFY_SOCKET": self._path}
        return found | ({"WATCHDOG_USEC": str(int(watchdog * 1_000_000))} if watchdog else {})

    def times(self, word: str) -> list[float]:
        """When a message with this assignment came."""
        return [at for at, message in list(self.heard) if word in message.split("\n")]

    def statuses(self) -> list[str]:
        return [message.removeprefix("STATUS=") for _, message in list(self.heard) if message.startswith("STATUS=")]

    def wait_for(self, word: str, number: int = 1, seconds: float = 60.0) -> float:
        """When it came for the so-manieth time."""
        deadline = time.monotonic() + seconds
        while len(found := self.times(word)) < number:
            assert time.monotonic() < deadline, f"{word} did not come: {self.heard}"
            time.sleep(0.02)
        return found[number - 1]

    def close(self) -> None:
        self._socket.close()
        Path(self._path).unlink()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while message := self._socket.recv(65536):
                self.heard.append((time.monotonic(), message.decode()))


@contextlib.contextmanager
def service_manager() -> Iterator[ServiceManager]:
    """In a folder with a short name: a socket's may have 107 characters."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, contextlib.closing(ServiceManager(Path(folder))) as manager:
        yield manager
