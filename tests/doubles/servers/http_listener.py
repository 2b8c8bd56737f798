"""A server on loopback that keeps what it is sent, and answers as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class HeardRequests:
    """Requests, oldest first: the path, and the body."""

    port: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    status: int = 200
    answer: bytes = b""
    delay: float = 0.0


@contextmanager
def http_listener() -> Iterator[HeardRequests]:
    """Yields what it hears; it ends with the block."""
    heard = HeardRequests()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            heard.requests.append((self.path, body.decode()))
            time.sleep(heard.delay)
            self.send_response(heard.status)
            self.end_headers()
            self.wfile.write(heard.answer)

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    heard.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
