"""The schema, the roles and the large objects, from PostgreSQL's own programs, under the exported snapshot.

An archive of large objects has nothing else in it: the entries that pg_dump always adds about the database itself are
removed, because they would name roles, maybe tenants', in a file that belongs to nobody. A program of its own removes
them, between pg_dump and the reader: `filtered` gives its arguments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypeVar, cast

from backupd.errors import SourceError
from backupd.planning.incremental.steady_numbers import Numbering
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.client_programs import Client, failure, run
from backupd.postgres.connect import Connection
from backupd.postgres.schema.archive import ArchiveReader, Entry
from backupd.postgres.schema.ownership import Ddl, divide_archive, divide_globals
from backupd.postgres.settings import SHORT_WAIT
from backupd.postgres.source.exported import ExportedSnapshot

Result = TypeVar("Result")

_ELSEWHERE = "service=backupd dbname=postgres"
_WAIT = f"--lock-wait-timeout={round(SHORT_WAIT * 1000)}"
_PASSWORDS = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
_INITDBS = "SELECT rolname::pg_catalog.text FROM pg_catalog.pg_roles WHERE oid = 10"
"""The superuser that initdb made: another server has its own, and lets no other grant a membership as it does."""
_LARGE_OBJECTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"


def dump_schema(
    client: Client, exported: ExportedSnapshot, names: NamePatterns, numbering: Numbering | None = None
) -> Ddl:
    """Dump the schema as `pg_dump --create --schema-only` sees it, by segment; `numbering` as in `divide_archive`.

    Raises SourceError, SourceGoneError or SourceBusyError: it waits for a table's lock only briefly.
    """
    command = client.command("pg_dump", "-Fc", "-Z0", "--create", "--schema-only", _WAIT, _snapshot(exported))
    return _streamed(command, client, lambda read: divide_archive(read, names, numbering))


def dump_globals(client: Client, connection: Connection, names: NamePatterns) -> dict[str | None, str]:
    """Dump roles with settings and memberships, and tablespaces, as SQL by segment.

    Passwords are included only if the role may see them. The state is that of now and not of the exported snapshot:
    PostgreSQL offers no other. Memberships that initdb's superuser granted do not name it. Roles are the server's, and
    their names may be no text in this database's encoding, so that it cannot list them: then the database `postgres` is
    asked. Raises the errors of `dump_schema`.
    """
    quiet = () if connection.execute(_PASSWORDS).fetchone() == (True,) else ("--no-role-passwords",)
    # What stands behind -l may be a connection string, which keeps the database's name, maybe a tenant's, unseen.
    command = client.command("pg_dumpall", "--globals-only", *quiet, "-l", "service=backupd")
    try:
        found = run(command, client.environment)
    except SourceError as error:
        try:
            found = run([*command[:-2], _ELSEWHERE, f"--dbname={_ELSEWHERE}"], client.environment)
        except SourceError:
            raise error from None
    unsaid = [name if isinstance(name, str) else "" for (name,) in connection.execute(_INITDBS).fetchall()]
    return divide_globals(found.decode(errors="surrogateescape"), names, unsaid)


def has_large_objects(connection: Connection) -> bool:
    """Check whether the database has any."""
    return connection.execute(_LARGE_OBJECTS).fetchone() == (True,)


def large_objects_command(client: Client, connection: Connection, exported: ExportedSnapshot) -> list[str] | None:
    """Return the command that writes the large objects as a custom archive; None when there are none.

    The archive has their owners, privileges and comments, too, and nothing else. The program runs under
    `client.environment`; its exit status must be 0.
    """
    if not has_large_objects(connection):
        return None
    only = ("--data-only", "--blobs", "--exclude-table=*.*")
    return filtered(client.command("pg_dump", "-Fc", "-Z0", *only, _WAIT, _snapshot(exported)))


def _snapshot(exported: ExportedSnapshot) -> str:
    return f"--snapshot={exported.identifier}"


def _streamed(command: Sequence[str], client: Client, consume: Callable[[Callable[[int], bytes]], Result]) -> Result:
    """Return what `consume` makes of the program's output, once the program has succeeded.

    The program's messages stay in memory. Raises SourceError and its subclasses.
    """
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
        # A program whose output nobody reads any more ends by SIGPIPE, and what was wrong with the output counts.
        if process.returncode and (trouble is None or process.returncode != -signal.SIGPIPE):
            words.seek(0)
            raise failure("pg_dump", process.returncode, words.read()) from None
        if trouble is not None:
            raise trouble
        return result


_BLOCK = 1 << 20
_FRAME = {"ENCODING", "STDSTRINGS", "SEARCHPATH", "BLOB", "BLOB METADATA", "BLOBS"}
_ABOUT = {"ACL", "COMMENT", "SECURITY LABEL"}


def filtered(command: Sequence[str]) -> list[str]:
    """Return the command that runs pg_dump's `command`, passes on large objects only, and returns its exit status."""
    root = str(Path(__file__).parents[__name__.count(".")])
    code = f"import sys; sys.path.insert(0, {root!r}); from {__name__} import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-I", "-c", code, *command]


def main(command: Sequence[str]) -> int:
    """Run pg_dump and filter its output; return its exit status, or 1 for an archive that makes no sense."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        source = cast("IO[bytes]", process.stdout)
        try:
            only_large_objects(source.read, sys.stdout.buffer.write)
        except SourceError:
            process.kill()
            return process.wait() or 1
    sys.stdout.buffer.flush()
    return process.returncode


def only_large_objects(read: Callable[[int], bytes], write: Callable[[bytes], object]) -> None:
    """Copy an archive without the entries that do not concern large objects; its data is unchanged.

    Raises SourceError for anything but an archive.
    """
    reader = ArchiveReader(read)
    kept = [entry.raw for entry in reader.entries() if _is_large_object(entry)]
    write(reader.head + bytes([0]) + len(kept).to_bytes(reader.shape.integer, "little"))
    for raw in kept:
        write(raw)
    while block := read(_BLOCK):
        write(block)


def _is_large_object(entry: Entry) -> bool:
    if entry.description in _ABOUT:
        return entry.tag.startswith(("LARGE OBJECT ", "LARGE OBJECTS "))
    return entry.description in _FRAME
