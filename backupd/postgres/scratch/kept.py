"""A scratch server kept in a folder of the operator's choice: its commands to start, reach, stop and remove it."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import RefusedError, SourceError
from backupd.postgres.scratch.folder import MARKER, PREFIX, ScratchFolder

SUPERUSER = "postgres"
PORT = 5432
"""Number in the name of the socket; no port is opened."""
_SOCKET = f"socket/.s.PGSQL.{PORT}"
_LONGEST = 107
"""Bytes of a socket's path at most, a limit of the kernel."""


@dataclass(frozen=True, slots=True)
class KeptServer:
    """A kept server's folder, and the beginnings of its commands. It listens on a unix socket only."""

    path: Path
    pg_ctl: tuple[str, ...]
    drop: tuple[str, ...]
    """Arguments that change to the server's user, where that is another one."""
    prefix: tuple[str, ...]
    """Arguments that cut the server off from the network, where the system can."""

    @property
    def connect(self) -> str:
        """Return a connection string without the database."""
        return f"host={self.path / 'socket'} port={PORT} user={SUPERUSER}"

    @property
    def starting(self) -> str:
        """Return the command that starts the server."""
        return shlex.join([*self.prefix, *self.drop, *self._ctl("start"), "-w", "-s", "-l", "/dev/null"])

    @property
    def stopping(self) -> str:
        """Return the command that stops the server."""
        return shlex.join([*self.drop, *self._ctl("stop"), "-m", "fast", "-w", "-s"])

    @property
    def removing(self) -> str:
        """Return the command that removes all of the server, once it is stopped."""
        return shlex.join(["rm", "-rf", str(self.path)])

    def start(self) -> None:
        """Start the server and wait until it accepts connections. Raises SourceError."""
        done = subprocess.run(
            shlex.split(self.starting),
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if done.returncode:
            raise SourceError("the scratch server did not start again", hint=f"Try it by hand: {self.starting}")

    def _ctl(self, verb: str) -> list[str]:
        return [*self.pg_ctl, verb, "-D", str(self.path / "data")]


def require_place(path: Path) -> None:
    """Raise RefusedError when a server cannot be kept there.

    Then the folder exists, or the path of its socket would be too long.
    """
    longest = max(len(str(path)), len(str(path.parent)) + 1 + len(PREFIX) + 16)
    if longest + 1 + len(_SOCKET) > _LONGEST:
        raise RefusedError(
            "the path of the scratch server's socket would be too long", hint="Name a folder with a shorter path."
        )
    if path.exists() or path.is_symlink():
        raise RefusedError("the folder for the scratch server exists already", hint="Name one that does not exist yet.")


def move(folder: ScratchFolder, path: Path) -> None:
    """Give a stopped server's folder its final name, after which no drill owns or removes it.

    Raises RefusedError.
    """
    require_place(path)
    try:
        folder.path.rename(path)
        (path / MARKER).unlink()
    except OSError as error:
        raise RefusedError(
            f"the scratch server cannot be given its folder ({error.strerror})", hint="Name another one."
        ) from None
