"""A process that outlives a drill that is killed, to remove what that leaves: its folder, its databases.

Its standard input is a pipe whose other end only the drill holds; when that closes, the drill has ended or is dead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import SourceError
from backupd.postgres.scratch.folder import claim, dispose

if TYPE_CHECKING:
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.folder import ScratchFolder

_ROOT = str(Path(__file__).parents[__name__.count(".")])
_TRIES = 20


def watch_over(folder: ScratchFolder, server: Source | None = None) -> subprocess.Popen[bytes]:
    """Start a guardian of a folder, and of what a drill makes on a server; it ends when its `stdin` is closed."""
    code = f"import sys; sys.path.insert(0, {_ROOT!r}); from {__name__} import main; sys.exit(main(*sys.argv[1:]))"
    where = () if server is None else (server.conninfo, str(server.passfile or ""), str(server.servicefile or ""))
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(folder.path), *where],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # What libpq takes from the environment leads to the server, too.
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")} if server is None else dict(os.environ),
        cwd="/",
        start_new_session=True,
    )


def main(folder: str, *server: str) -> int:
    """Wait for the drill's end; then remove the folder, if it is still there, and what is left on the server."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    path = Path(folder)
    gone = _removed(path)
    return int(not (gone and (not server or _cleaned(*server))))


def _removed(path: Path) -> bool:
    for _ in range(_TRIES):
        if not path.exists():
            return True
        found = claim(path)
        if found is not None and dispose(found):
            return True
        time.sleep(0.5)  # the dying drill's lock and number go a moment after its pipes
    return False


def _cleaned(conninfo: str, passfile: str, servicefile: str) -> bool:
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.given import reap_given

    passwords, services = (Path(one) if one else None for one in (passfile, servicefile))
    source = Source(conninfo, passwords, services)
    for _ in range(_TRIES):
        with suppress(SourceError):
            if reap_given(source) is not None:
                return True
        time.sleep(0.5)  # the server notices after a moment that the drill is gone
    return False
