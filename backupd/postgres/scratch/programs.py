"""PostgreSQL's server programs and the user that runs them: never root, and always in a jail."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from backupd.errors import ConfigError
from backupd.postgres.client_programs import killed, program_folders
from backupd.postgres.scratch import jail
from backupd.postgres.scratch.jail import Jailed

SERVER = ("initdb", "pg_resetwal", "postgres", "pg_ctl")
_USER = "nobody"
"""User that runs the server when root starts it and no other is configured: the system user that owns nothing."""
JAIL = (sys.executable, "-I", "-S")
"""How the program of jails is started: alone, without this process's environment and libraries."""
_ALLOW = (
    "A jail takes Linux 5.12 or newer and either root with all its rights, or user namespaces for everybody "
    "(user.max_user_namespaces above 0, kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, where they exist). Else set a server aside: drill.target_dsn."
)


def major_of(version: str) -> int:
    """Return the major version of one as PostgreSQL prints it, like `18.4`, `19rc1` or `19devel`."""
    return int(re.split(r"\D", version, maxsplit=1)[0])


@dataclass(frozen=True, slots=True)
class ServerPrograms:
    """A folder with a server's programs."""

    folder: Path
    version: str
    """Version as `postgres --version` prints it."""

    @property
    def major(self) -> int:
        return major_of(self.version)

    def has_library(self, name: str) -> bool:
        """Check whether the server finds a library of this name."""
        own = self.folder.parent / "lib"
        return any((folder / f"{name}.so").exists() for folder in (own, own / "postgresql"))

    @property
    def folders(self) -> tuple[str, ...]:
        """Return the folders of the installation: its own, and those of files and libraries that lie elsewhere.

        Debian's files lie beside `lib`, also in a copy of its packages somewhere else.
        """
        command = ["ldd", *(str(self.folder / program) for program in SERVER)]
        output = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
        found = re.findall(r"=> (/.*)/[^/]+ \(0x", output.stdout)
        own = [self.folder.parent]
        if own[0].parent.name == "postgresql":
            own.append(self.folder.parents[3] / "share" / "postgresql" / own[0].name)
        there = {str(folder) for folder in own if folder.is_dir()}
        return tuple(sorted(there | {str(Path(folder).resolve()) for folder in found}))


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
    """The user under which a server's programs run, in a jail."""

    user: int
    group: int

    def start(self, jailed: Jailed, errors: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start a command in a jail; it ends, with all it started, when its standard input is closed.

        A server is ready when a byte can be read from its standard output. What the system refuses is said on `errors`.
        """
        return subprocess.Popen(
            [*JAIL, str(jail.__file__), "run", json.dumps(asdict(jailed))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            cwd="/",
            start_new_session=True,
        )

    def run(self, jailed: Jailed, seconds: float) -> tuple[int, str]:
        """Run a command to its end; return its exit status, and what the system refused if it is `REFUSED`.

        The status is negative where a signal ended the command, or the jail around it. Raises
        subprocess.TimeoutExpired.
        """
        with self.start(jailed, subprocess.PIPE) as process:
            try:
                status = process.wait(seconds)
            finally:
                end(process)
            refused = process.stderr.read().decode(errors="replace").strip() if process.stderr is not None else ""
            return exit_status(status), refused


def exit_status(status: int) -> int:
    """Return the exit status that a jail hands on, minus a signal's number where one ended what ran in it."""
    return status - 256 if status >= 256 - signal.NSIG else status


def end(process: subprocess.Popen[bytes]) -> None:
    """End what runs in a jail, at once; after this, no process of it exists."""
    if process.stdin is not None:
        process.stdin.close()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def runner(user: str | None) -> Runner:
    """Return the runner of a scratch server: ourselves, or, when we are root, `user`.

    Raises ConfigError for a user that does not exist, for root itself, and where the system allows no jail;
    ProgramKilledError where a signal ended the jail that was tried.
    """
    found = _other(user or _USER) if os.geteuid() == 0 else Runner(os.geteuid(), os.getegid())
    status, refused = found.run(Jailed(["/bin/true"], found.user, found.group, [], [], 1 << 30), 60)
    if status < 0:  # memory that runs out says nothing about what the system allows
        raise killed("a scratch server's jail", status)
    if status:
        raise ConfigError(
            f"a scratch server cannot be isolated from this machine: the system refuses {refused or 'it'}",
            hint=_ALLOW,
        )
    return found


def _other(user: str) -> Runner:
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise ConfigError(
            f'there is no user "{user}" to run a scratch server', hint="Name one as `user` under [drill]."
        ) from None
    if found.pw_uid == 0:
        raise ConfigError("a scratch server cannot run as root", hint="Name another `user` under [drill].")
    return Runner(found.pw_uid, found.pw_gid)
