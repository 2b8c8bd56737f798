"""A process that outlives a drill that is killed, to remove what that leaves: `python -m …guardian FOLDER`.

Its standard input is a pipe whose other end only the drill holds; when that closes, the drill has ended or is dead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.postgres.scratch.folder import claim, dispose

if TYPE_CHECKING:
    from backupd.postgres.scratch.folder import ScratchFolder

_ROOT = str(Path(__file__).parents[__name__.count(".")])
_TRIES = 20


def watch_over(folder: ScratchFolder) -> subprocess.Popen[bytes]:
    """Start a guardian; it ends with the closing of its `stdin`."""
    code = f"import sys; sys.path.insert(0, {_ROOT!r}); from {__name__} import main; sys.exit(main(sys.argv[1]))"
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")},
        cwd="/",
        start_new_session=True,
    )


def main(folder: str) -> int:
    """Wait for the drill's end; then remove the folder, if it is still there."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    path = Path(folder)
    for _ in range(_TRIES):
        if not path.exists():
            return 0
        found = claim(path)
        if found is not None and dispose(found):
            return 0
        time.sleep(0.5)  # the dying drill's lock and number go a moment after its pipes
    return 1
