"""PostgreSQL's server programs, and who runs them: never root, and out of reach of the network where the system can."""

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

SERVER = ("initdb", "postgres", "pg_ctl")
_USER = "nobody"
"""Whom root hands over to, unless told otherwise: the system user that owns nothing."""


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """A folder with a server's programs."""

    folder: Path
    version: str
    """As `postgres --version` tells it."""

    @property
    def major(self) -> int:
        return int(self.version.partition(".")[0])


def find_server(folders: Sequence[Path], major: int, search: str | None = None) -> ServerPrograms:
    """The server programs of one major version.

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
    said = subprocess.run([folder / "postgres", "--version"], check=False, capture_output=True, text=True, env={})
    number = re.search(r"(\d+(?:\.\d+|[a-z]+\d+)?)", said.stdout)
    return ServerPrograms(folder, number[1]) if number else None


@dataclass(frozen=True, slots=True)
class Runner:
    """How a server's programs are started."""

    user: int | None
    """Another user's number, where we are root."""
    group: int | None
    prefix: tuple[str, ...] = ()
    """What puts a program where it cannot reach out."""

    def options(self) -> dict[str, Any]:
        """For subprocess: the rights to drop, and an environment that says nothing."""
        environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}
        given: dict[str, Any] = {"env": environment, "cwd": "/", "stdin": subprocess.DEVNULL}
        if self.user is not None:
            given |= {"user": self.user, "group": self.group, "extra_groups": []}
        return given

    @property
    def isolated(self) -> bool:
        """Whether what is started sees no network."""
        return bool(self.prefix)

    def may_run(self, program: Path) -> bool:
        """Whether the user can reach a program."""
        command = ["/bin/sh", "-c", 'test -x "$0"', str(program)]
        return subprocess.run(command, check=False, capture_output=True, **self.options()).returncode == 0


def runner(user: str | None) -> Runner:
    """Who runs a scratch server: ourselves, or, where we are root, `user`.

    Raises ConfigError for a user that is not there, and for root itself.
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
    """Gives a child an empty network of its own, where the system lets us; a unix socket's path leads there all the
    same.
    """
    program = shutil.which("unshare")
    if program is None:
        return ()
    prefix = (program, *options, "--net", "--")
    return prefix if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0 else ()
