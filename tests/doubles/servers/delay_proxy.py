"""A TCP proxy that makes loopback far away: adds a round trip, and cuts or stalls when told. (The kernel has no netem.)

Run as a program it takes the target port and the round trip in milliseconds, and prints the port it listens on.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time
from typing import Self


class DelayProxy:
    """Listens on `port`; every byte arrives half a round trip later, in order, at any rate.

    `accepted` counts connections, `carried` bytes of both directions; after `cut_after` of them everything is cut,
    once. Connections beyond `most` are closed at once, and `turned_away` counts them.
    """

    def __init__(self, target_port: int, round_trip: float = 0.0) -> None:
        self._target = ("127.0.0.1", target_port)
        self.delay = round_trip / 2
        self.accepted = 0
        self.turned_away = 0
        self.carried = 0
        self.cut_after: int | None = None
        self.most: int | None = None
        self._open = threading.Event()
        self._open.set()
        self._links: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, which would keep the port
        self._listener.close()
        self._open.set()
        self.cut()

    def cut(self) -> None:
        """Break every connection now; new ones are taken."""
        links, self._links = self._links, []
        for link in links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def stall(self) -> None:
        """Carry nothing any more, in either direction, and keep the connections."""
        self._open.clear()

    def go_on(self) -> None:
        self._open.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.most is not None and self.accepted >= self.most:
                near.close()
                self.turned_away += 1
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            self.accepted += 1
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._links += [near, far]
            for source, sink in ((near, far), (far, near)):
                pipe: queue.Queue[tuple[float, bytes]] = queue.Queue()
                threading.Thread(target=self._take, args=(source, pipe), daemon=True).start()
                threading.Thread(target=self._give, args=(sink, pipe), daemon=True).start()

    def _take(self, source: socket.socket, pipe: queue.Queue[tuple[float, bytes]]) -> None:
        data = b"."
        while data:
            self._open.wait()
            try:
                data = source.recv(1 << 18)
            except OSError:
                data = b""
            pipe.put((time.monotonic() + self.delay, data))
            self.carried += len(data)
            if self.cut_after is not None and self.carried >= self.cut_after:
                self.cut_after = None
                self.cut()

    def _give(self, sink: socket.socket, pipe: queue.Queue[tuple[float, bytes]]) -> None:
        while True:
            due, data = pipe.get()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            self._open.wait()
            try:
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
            except OSError:
                return


if __name__ == "__main__":
    proxy = DelayProxy(int(sys.argv[1]), float(sys.argv[2]) / 1000)
    print(proxy.port, flush=True)  # noqa: T201 - a program's answer
    threading.Event().wait()
