"""A guardian process that outlives a killed drill and removes what it leaves: its folder and its databases.

Its standard input is a pipe whose other end only the drill holds; when that closes, the drill has ended or is dead.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from backupd.errors import SourceError
from backupd.postgres.scratch.folder import ScratchFolder, claim, dispose

_ROOT = str(Path(__file__).parents[__name__.count(".")])
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Reaping:
    """The things that a guardian removes besides the folder, as given on its command line."""

    function: str
    """A function as `module:function` that returns whether it is done; if not, or on a SourceError, it is called
    again."""
    arguments: tuple[str, ...]


def watch_over(folder: ScratchFolder, reaping: Reaping | None = None) -> subprocess.Popen[bytes]:
    """Start a guardian of a folder, and of what a drill makes on a server; it ends when its `stdin` is closed."""
    code = f"import sys; sys.path.insert(0, {_ROOT!r}); from {__name__} import main; sys.exit(main(*sys.argv[1:]))"
    more = () if reaping is None else (reaping.function, *reaping.arguments)
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, str(folder.path), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # What libpq takes from the environment leads to the server, too.
        env={"PATH": os.environ.get("PATH", "/usr/bin:/bin")} if reaping is None else dict(os.environ),
        cwd="/",
        start_new_session=True,
    )


def main(folder: str, reap: str = "", *arguments: str) -> int:
    """Wait for the drill's end, then remove the folder if it still exists, and have `reap` remove the rest.

    The exit status is 0 when everything is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    module, _, function = reap.partition(":")
    gone = _removed(Path(folder))
    return int(not (gone and (not reap or _reaped(getattr(import_module(module), function), arguments))))


def _removed(path: Path) -> bool:
    for _ in range(_TRIES):
        if not path.exists():
            return True
        found = claim(path)
        if found is not None and dispose(found):
            return True
        time.sleep(0.5)  # the dying drill's lock and number go a moment after its pipes
    return False


def _reaped(reap: Callable[..., bool], arguments: Sequence[str]) -> bool:
    for _ in range(_TRIES):
        with suppress(SourceError):
            if reap(*arguments):
                return True
        time.sleep(0.5)  # the server notices after a moment that the drill is gone
    return False
