"""A real headless Chromium, one process for each look."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"]
MEASURE = """<!DOCTYPE html><html><body>
<iframe id="frame" style="width:{width}px;height:600px;border:0"></iframe><script>
const frame = document.getElementById("frame");
frame.onload = () => {{
  const page = frame.contentDocument.documentElement;
  const boxes = [...frame.contentDocument.querySelectorAll("body *")].map(one => one.getBoundingClientRect());
  const told = {{scroll: page.scrollWidth, client: page.clientWidth, right: Math.max(...boxes.map(box => box.right))}};
  document.title = "measured:" + JSON.stringify(told);
}};
frame.srcdoc = {page};
</script></body></html>"""


def run(*arguments: str) -> str:
    """What it prints."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [PROGRAM, *QUIET, f"--user-data-dir={folder}", "--virtual-time-budget=2000", *arguments]
        environment = {"PATH": os.environ["PATH"], "HOME": folder}
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    return done.stdout


def widths(page: str, width: int, folder: Path) -> dict[str, float]:
    """How wide a page wants to be in a window of this width: `scroll`, and the rightmost edge of all it shows."""
    wrapper = folder / f"measure-{width}.html"
    quoted = json.dumps(page).replace("</", "<\\/").replace("<!--", "<\\!--")
    wrapper.write_text(MEASURE.format(width=width, page=quoted))
    shown = run(f"--window-size={max(width, 500) + 40},700", "--dump-dom", wrapper.as_uri())
    found = re.search(r"<title>measured:(\{.*?\})</title>", shown)
    assert found, shown[:500]
    return dict(json.loads(found[1]))


def printed(page: Path, folder: Path) -> bytes:
    """The page as PDF."""
    out = folder / "printed.pdf"
    run(f"--print-to-pdf={out}", "--no-pdf-header-footer", page.as_uri())
    return out.read_bytes()


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """An address of this machine, and the paths somebody asked it for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
