"""A scratch server that stays where it was asked for: how to start it, reach it, stop it and remove it."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import RefusedError, SourceError
from backupd.postgres.scratch.folder import MARKER, PREFIX, ScratchFolder

SUPERUSER = "postgres"
PORT = 5432
"""Only a part of the socket's name."""
_SOCKET = f"socket/.s.PGSQL.{PORT}"
_LONGEST = 107
"""Bytes of a socket's path, by the kernel."""


@dataclass(frozen=True, slots=True)
class KeptServer:
    """A server's folder, and what its commands begin with. It listens on a unix socket only."""

    path: Path
    pg_ctl: tuple[str, ...]
    drop: tuple[str, ...]
    """What hands over to the server's user, where that is another."""
    prefix: tuple[str, ...]
    """What puts it out of reach of the network, where the system can."""

    @property
    def connect(self) -> str:
        """A connection string, but for the database."""
        return f"host={self.path / 'socket'} port={PORT} user={SUPERUSER}"

    @property
    def starting(self) -> str:
        """The command that starts it."""
        return shlex.join([*self.prefix, *self.drop, *self._ctl("start"), "-w", "-s", "-l", "/dev/null"])

    @property
    def stopping(self) -> str:
        """The command that stops it."""
        return shlex.join([*self.drop, *self._ctl("stop"), "-m", "fast", "-w", "-s"])

    @property
    def removing(self) -> str:
        """The command that removes all of it, once it is stopped."""
        return shlex.join(["rm", "-rf", str(self.path)])

    def start(self) -> None:
        """Raises SourceError."""
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
    """Raises RefusedError when a server cannot be kept in a folder: it exists, or a socket's path would be too long."""
    longest = max(len(str(path)), len(str(path.parent)) + 1 + len(PREFIX) + 16)
    if longest + 1 + len(_SOCKET) > _LONGEST:
        raise RefusedError(
            "the path of the scratch server's socket would be too long", hint="Name a folder with a shorter path."
        )
    if path.exists() or path.is_symlink():
        raise RefusedError("the folder for the scratch server exists already", hint="Name one that does not exist yet.")


def move(folder: ScratchFolder, path: Path) -> None:
    """Give a stopped server's folder its final name; from then on it is no drill's, and nobody removes it.

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
