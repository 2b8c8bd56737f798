"""PostgreSQL's server programs and the user that runs them: never root, and cut off from the network where possible."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import ConfigError
from backupd.postgres.client_programs import program_folders

SERVER = ("initdb", "pg_resetwal", "postgres", "pg_ctl")
_USER = "nobody"
"""User that runs the server when root starts it and no other is configured: the system user that owns nothing."""


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """A folder with a server's programs."""

    folder: Path
    version: str
    """Version as `postgres --version` prints it."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_server(folders: Sequence[Path], major: int, search: str | None = None) -> ServerPrograms:
    """Find the server programs of one major version.

    Raises ConfigError when there are none.
    """
    path = os.environ.get("PATH", "") if search is None else search
    for folder in program_folders(folders, path):
        if all(os.access(folder / program, os.X_OK) for program in SERVER):
            found = _inspect((folder / "postgres").resolve().parent)
            if found is not None and found.major == major:
                return found
    raise ConfigError(
        f"no server programs of PostgreSQL {major} were found",
        hint=f"Install postgresql-{major} on this machine (no cluster is needed), or name the folder of its initdb in "
        "node.client_dirs.",
    )


def _inspect(folder: Path) -> ServerPrograms | None:
    output = subprocess.run([folder / "postgres", "--version"], check=False, capture_output=True, text=True, env={})
    number = re.search(r"(\d+(?:\.\d+|[a-z]+\d+)?)", output.stdout)
    return ServerPrograms(folder, number[1]) if number else None


@dataclass(frozen=True, slots=True)
class Runner:
    """The user and the isolation under which a server's programs run."""

    user: int | None
    """Number of another user, when we are root; else None."""
    group: int | None
    prefix: tuple[str, ...] = ()
    """Arguments that start a program without network."""

    def options(self) -> dict[str, Any]:
        """Return arguments for subprocess: the user to change to, and an environment without secrets."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
        options: dict[str, Any] = {"env": environment, "cwd": "/", "stdin": subprocess.DEVNULL}
        if self.user is not None:
            options |= {"user": self.user, "group": self.group, "extra_groups": []}
        return options

    @property
    def isolated(self) -> bool:
        """Check whether the programs run without network."""
        return bool(self.prefix)

    def may_run(self, program: Path) -> bool:
        """Check whether the user can execute a program."""
        command = ["/bin/sh", "-c", 'test -x "$0"', str(program)]
        return subprocess.run(command, check=False, capture_output=True, **self.options()).returncode == 0


def runner(user: str | None) -> Runner:
    """Return the runner of a scratch server: ourselves, or, when we are root, `user`.

    Raises ConfigError for a user that does not exist, and for root itself.
    """
    if os.geteuid() != 0:
        return Runner(None, None, _without_network("--user", "--map-current-user"))
    try:
        found = pwd.getpwnam(user or _USER)
    except KeyError:
        raise ConfigError(
            f'there is no user "{user or _USER}" to run a scratch server', hint="Name one as `user` under [drill]."
        ) from None
    if found.pw_uid == 0:
        raise ConfigError("a scratch server cannot run as root", hint="Name another `user` under [drill].")
    return Runner(found.pw_uid, found.pw_gid, _without_network())


def _without_network(*options: str) -> tuple[str, ...]:
    """Return arguments that give a child an empty network of its own; none where the system does not allow it.

    A unix socket is still reachable by its path.
    """
    program = shutil.which("unshare")
    if program is None:
        return ()
    prefix = (program, *options, "--net", "--")
    return prefix if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0 else ()
