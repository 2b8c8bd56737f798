"""The servers of the demo and the bench: PostgreSQL and SSH, started for them alone, as whoever runs them may."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import paramiko
from doubles.servers import postgres, pyssh
from doubles.servers.sshd import SSHD, Account, Sshd

READER = "backupd"
"""The role that backs up: it may read everything, and change nothing."""

SUMMARIZING = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "summarize_wal": "on",
    "max_wal_size": "8GB",
    "max_wal_senders": "4",
}
"""Settings of a server whose unchanged blocks need not be read."""
PREFERRED = (17, 18, 16, 15)
"""Major versions, the one of the demo's wheel first."""


@dataclass(frozen=True, slots=True)
class Region:
    """A region's PostgreSQL server."""

    name: str
    server: postgres.Server
    passfile: Path

    def dsn(self, database: str) -> str:
        """As a configuration names it: over TCP, as the reading role, the password elsewhere."""
        return self.server.tcp(database, READER)

    def create(self, database: str) -> Any:
        """A new database; a connection to it as superuser."""
        self.server.create_database(database)
        return self.server.connect(database)


def start_region(
    stack: ExitStack,
    name: str,
    folder: Path,
    major: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Region:
    """A server with the reading role and a password file for it; `stack` ends it.

    Raises postgres.PostgresUnavailableError.
    """
    wanted = major or next((one for one in PREFERRED if one in postgres.installations()), PREFERRED[0])
    usual = {**postgres.FAST, "shared_buffers": "256MB", "max_locks_per_transaction": "512"}
    server = stack.enter_context(postgres.running(wanted, {**usual, **settings}))
    password = secrets.token_hex(12)
    server.sql("postgres", f"CREATE ROLE {READER} LOGIN BYPASSRLS PASSWORD '{password}' IN ROLE pg_read_all_data")
    if "summarize_wal" in settings:
        server.sql("postgres", f"GRANT pg_checkpoint TO {READER}")
    passfile = folder / f"{name}.pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text(f"127.0.0.1:{server.port}:*:{READER}:{password}\n")
    return Region(name, server, passfile)


def start_account(stack: ExitStack, home: Path) -> tuple[Account, str]:
    """An SSH account whose files lie in `home`, and what serves it: OpenSSH where it lets us in, else plain Python."""
    if SSHD is not None:
        with ExitStack() as attempt:
            account = attempt.enter_context(Sshd(home=home))
            if _lets_in(account):
                stack.push(attempt.pop_all())
                return account, "OpenSSH, restricted as at rsync.net"
    return stack.enter_context(pyssh.apart(home)), "a small SSH server in Python, for want of a usable OpenSSH"


def _lets_in(account: Account) -> bool:
    """Whether this user may log in: a locked account or a login shell that refuses everything stands in the way."""
    try:
        with paramiko.Transport((account.host, account.port)) as link:
            link.connect(username=account.user, pkey=paramiko.PKey.from_path(account.key_file))
            session = paramiko.SFTPClient.from_transport(link)
            return session is not None and session.listdir(".") is not None
    except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError):
        return False
