"""One server per version for all test processes of a run, gone when the last of them is, however it ended.

Every process that uses a server holds a shared lock on its file. A guardian process waits for that lock alone; it gets
it when the kernel has taken it from the last user, dead or alive, and then stops the server and removes its folder.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO

from doubles.paths import TESTS
from doubles.servers import postgres


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time; the others wait."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def borrow(major: int, base: Path) -> tuple[postgres.Server, IO[str]]:
    """The run's server of this version, started by whoever asks first; it lives while the handle is open."""
    base.mkdir(mode=0o755, parents=True, exist_ok=True)
    use = (base / f"{major}.use").open("a")
    fcntl.flock(use, fcntl.LOCK_SH)
    ready = base / f"{major}.json"
    with exclusive(base / f"{major}.start"):
        if not ready.exists():
            shutil.rmtree(base / str(major), ignore_errors=True)
            server = postgres.start(major, base / str(major), {**postgres.FAST, "max_wal_size": "256MB"})
            ready.write_text(json.dumps(asdict(server), default=str))
            subprocess.Popen(
                [sys.executable, "-m", "doubles.servers.shared_postgres", str(base), str(major)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd=TESTS,
            ).returncode = 0  # never waited for: it outlives us on purpose
    return _read(ready), use


def _read(ready: Path) -> postgres.Server:
    fields = json.loads(ready.read_text())
    return postgres.Server(
        fields["major"], Path(fields["bin"]), Path(fields["folder"]), fields["port"], fields["password"]
    )


def guard(base: Path, major: int) -> None:
    """Wait until nobody uses the server, then stop it and leave nothing behind."""
    ready = base / f"{major}.json"
    with exclusive(base / f"{major}.use"):
        server = _read(ready)
        ready.unlink()
        postgres.stop(server)
        shutil.rmtree(server.folder, ignore_errors=True)
    if not list(base.glob("*.json")):
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), int(sys.argv[2]))
