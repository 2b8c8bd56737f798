"""A schema and large objects as SQL for psql, made by pg_restore; no server is needed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from backupd.postgres.client_programs import Programs
from backupd.postgres.connect import identifier
from backupd.postgres.schema.statements import renamed
from backupd.postgres.target.pg_restore import TIMEOUT_SINCE, DatabaseSql, SchemaArchive, listed
from backupd.postgres.target.refusals import failure

_TIMEOUT = b"SET transaction_timeout = 0;\n"
"""A statement that servers before 17 do not know."""
_PIECE = 1 << 20
_PLACE = "backupd:name"


def database_script(sql: DatabaseSql) -> str:
    """Return SQL that makes the database with its properties, under the name in psql's variable DATABASE."""
    owner = [f"ALTER DATABASE {identifier(_PLACE)} OWNER TO {identifier(sql.owner)};\n"] if sql.owner else []
    statements = [renamed(text, _PLACE) for text in (sql.create, *sql.properties)]
    return "".join([statements[0], *owner, *statements[1:]]).replace(identifier(_PLACE), ':"DATABASE"')


@contextmanager
def section_script(
    programs: Programs, schema: SchemaArchive, section: str, server: int, *, only: Iterable[int] | None = None
) -> Iterator[Iterator[bytes]]:
    """Yield one section of a schema as SQL, for servers of `server_version_num` `server` or newer.

    `only` are dump ids of the entries to include. Raises SourceError when pg_restore fails, without its messages.
    """
    archive = schema.descriptor
    with listed(only) as (listing, passed):
        options = [f"--section={section}", *listing, f"/proc/self/fd/{archive}"]
        with _script(programs, options, (archive, *passed), server) as script:
            yield script


@contextmanager
def large_objects_script(
    programs: Programs, archive: Iterable[bytes | memoryview], server: int, folder: Path
) -> Iterator[Iterator[bytes]]:
    """Yield an archive of large objects as SQL, as `section_script` does for a schema.

    Meanwhile the archive is kept on the disk of `folder`, in a file without a name.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        for piece in archive:
            file.write(piece)
        file.flush()
        with _script(programs, [f"/proc/self/fd/{file.fileno()}"], (file.fileno(),), server) as script:
            yield script


@contextmanager
def _script(programs: Programs, options: list[str], passed: tuple[int, ...], server: int) -> Iterator[Iterator[bytes]]:
    command = [str(programs.folder / "pg_restore"), "-Fc", "--exit-on-error", "-f", "-", *options]
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    with os.fdopen(os.memfd_create("words", os.MFD_CLOEXEC), "w+b") as stderr:
        with subprocess.Popen(
            command,
            env={**kept, "LC_ALL": "C", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=passed,
        ) as process:
            try:
                yield _pieces(cast("IO[bytes]", process.stdout), older=server < TIMEOUT_SINCE * 10000)
            except BaseException:
                process.terminate()
                raise
        if process.returncode:
            stderr.seek(0)
            raise failure("writing the schema", process.returncode, stderr.read()) from None


def _pieces(output: IO[bytes], *, older: bool) -> Iterator[bytes]:
    first = output.read(_PIECE)
    yield first.replace(_TIMEOUT, b"", 1) if older else first
    while piece := output.read(_PIECE):
        yield piece
