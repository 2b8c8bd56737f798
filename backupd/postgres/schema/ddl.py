"""The schema, the roles and the large objects, from PostgreSQL's own programs, under the exported snapshot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import IO, TypeVar, cast

from backupd.errors import SourceError
from backupd.planning.source.names import NamePatterns
from backupd.postgres.connect import Connection
from backupd.postgres.schema.large_objects import filtered
from backupd.postgres.schema.ownership import Ddl, divide_archive, divide_globals
from backupd.postgres.settings import SHORT_WAIT
from backupd.postgres.source.exported import ExportedSnapshot
from backupd.postgres.tools import Client, failure, run

Result = TypeVar("Result")

_WAIT = f"--lock-wait-timeout={round(SHORT_WAIT * 1000)}"
_PASSWORDS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
_LARGE_OBJECTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"


def dump_schema(client: Client, exported: ExportedSnapshot, names: NamePatterns) -> Ddl:
    """The schema as `pg_dump --create --schema-only` sees it, by segment.

    Raises SourceError, SourceGoneError or SourceBusyError: it waits for no table's lock for long.
    """
    command = client.command("pg_dump", "-Fc", "-Z0", "--create", "--schema-only", _WAIT, _snapshot(exported))
    return _streamed(command, client, lambda read: divide_archive(read, names))


def dump_globals(client: Client, connection: Connection, names: NamePatterns) -> dict[str | None, str]:
    """Roles with settings and memberships, and tablespaces, as SQL by segment; passwords only if the role may see them.

    They are those of now, not of the exported snapshot: PostgreSQL offers no other. Raises like `dump_schema`.
    """
    quiet = () if connection.execute(_PASSWORDS).fetchone() == (True,) else ("--no-role-passwords",)
    # What stands behind -l may be a connection string, which keeps the database's name, maybe a tenant's, unseen.
    command = client.command("pg_dumpall", "--globals-only", *quiet, "-l", "service=backupd")
    return divide_globals(run(command, client.environment).decode(errors="surrogateescape"), names)


def large_objects_command(client: Client, connection: Connection, exported: ExportedSnapshot) -> list[str] | None:
    """What writes the large objects, with owners, privileges and comments, as a custom archive of nothing else.

    None when the database has none. The program runs under `client.environment`; its exit status must be 0.
    """
    if connection.execute(_LARGE_OBJECTS).fetchone() != (True,):
        return None
    only = ("--data-only", "--blobs", "--exclude-table=*.*")
    return filtered(client.command("pg_dump", "-Fc", "-Z0", *only, _WAIT, _snapshot(exported)))


def _snapshot(exported: ExportedSnapshot) -> str:
    return f"--snapshot={exported.identifier}"


def _streamed(command: Sequence[str], client: Client, consume: Callable[[Callable[[int], bytes]], Result]) -> Result:
    """What `consume` makes of the program's output, once the program has ended well; its words stay in memory."""
    with os.fdopen(os.memfd_create("words", os.MFD_CLOEXEC), "w+b") as words:
        trouble: SourceError | None = None
        with subprocess.Popen(
            command, env=dict(client.environment), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words
        ) as process:
            try:
                result = consume(cast("IO[bytes]", process.stdout).read)
            except SourceError as error:
                trouble = error
            except BaseException:
                process.kill()
                raise
        if process.returncode and (trouble is None or process.returncode > 0):
            words.seek(0)
            raise failure("pg_dump", process.returncode, words.read()) from None
        if trouble is not None:
            raise trouble
        return result
