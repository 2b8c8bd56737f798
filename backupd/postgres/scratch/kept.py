"""A scratch server kept in a folder of the operator's choice: its commands to start, reach, stop and remove it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from backupd.errors import RefusedError, SourceError
from backupd.postgres.scratch import jail
from backupd.postgres.scratch.folder import MARKER, PREFIX, ScratchFolder
from backupd.postgres.scratch.jail import Jailed
from backupd.postgres.scratch.programs import JAIL

SUPERUSER = "postgres"
PORT = 5432
"""Number in the name of the socket; no port is opened."""
SOCKET = f"socket/.s.PGSQL.{PORT}"
_LONGEST = 107
"""Bytes of a socket's path at most, a limit of the kernel."""
_PROGRAM = "server"
"""Name of the copy of the jail's program that starts and stops the server."""


@dataclass(frozen=True, slots=True)
class KeptServer:
    """A kept server's folder. It listens on a unix socket only, in a jail whenever it runs."""

    path: Path

    @property
    def connect(self) -> str:
        """Return a connection string without the database."""
        return f"host={self.path / 'socket'} port={PORT} user={SUPERUSER}"

    @property
    def starting(self) -> str:
        """Return the command that starts the server."""
        return self._doing("start")

    @property
    def stopping(self) -> str:
        """Return the command that stops the server."""
        return self._doing("stop")

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

    def _doing(self, verb: str) -> str:
        return shlex.join([*JAIL, str(self.path / _PROGRAM), verb])


def require_place(path: Path) -> None:
    """Raise RefusedError when a server cannot be kept there.

    Then the folder exists, or the path of its socket would be too long.
    """
    longest = max(len(str(path)), len(str(path.parent)) + 1 + len(PREFIX) + 16)
    if longest + 1 + len(SOCKET) > _LONGEST:
        raise RefusedError(
            "the path of the scratch server's socket would be too long", hint="Name a folder with a shorter path."
        )
    if path.exists() or path.is_symlink():
        raise RefusedError("the folder for the scratch server exists already", hint="Name one that does not exist yet.")


def keep_server(folder: ScratchFolder, path: Path, jailed: Jailed) -> KeptServer:
    """Give a stopped server's folder its final name, after which no drill owns or removes it.

    How `jailed` is started and stopped again is written beside the server's own folders, where it cannot write.
    Raises RefusedError.
    """
    require_place(path)
    try:
        shutil.copyfile(jail.__file__, folder.path / _PROGRAM)
        (folder.path / jail.SPEC).write_text(json.dumps(asdict(jailed)))
        folder.path.rename(path)
        (path / MARKER).unlink()
    except OSError as error:
        raise RefusedError(
            f"the scratch server cannot be given its folder ({error.strerror})", hint="Name another one."
        ) from None
    return KeptServer(path)
