"""Write a snapshot's contents into a new folder: steps 3 to 7 of a restore, with files in place of a database. The
folder appears whole: it is written under a temporary name, flushed, and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from backupd.errors import BackupdError, DamageError, RefusedError, SpoolFullError
from backupd.operations.phases import Phases
from backupd.operations.restore.database import LOADING, TableFiller
from backupd.operations.restore.files_layout import (
    Written,
    guide,
    load_lines,
    refresh_lines,
    rows_encoding,
    table_files,
    tenant_folders,
)
from backupd.operations.restore.types import Built
from backupd.planning.restore import Piece
from backupd.postgres.client_programs import find_programs
from backupd.postgres.target.scripts import database_script, large_objects_script, section_script
from backupd.trace import Warned

if TYPE_CHECKING:
    from backupd.operations.restore.files_layout import TableFile
    from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest, Snapshot

MANIFEST = "MANIFEST.json"
_NO_PUBLIC = b"DROP SCHEMA IF EXISTS public;\n"
_BESIDE = 16 << 20
"""Bytes of room for small files beside rows and scripts."""
_SCRIPTED = 4
"""How many times its archive's size a schema or a large object takes as SQL at most, the archive included."""


class ListedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file as MANIFEST.json lists it."""

    path: str
    bytes: int
    sha256: str
    table: tuple[str, str] | None = None
    rows: int | None = None


class Manifest(msgspec.Struct, frozen=True):
    """The list of files in a complete folder; an incomplete one has none."""

    snapshot: str
    exported: str
    database: str
    rows: int
    bytes: int
    """Bytes of COPY text in all files."""
    exact: bool
    """Whether all of the snapshot is there."""
    files: list[ListedFile]


class FolderWriter:
    """Writes one new folder from a snapshot."""

    def __init__(
        self, request: RestoreRequest, environment: RestoreEnvironment, phases: Phases, snapshot: Snapshot
    ) -> None:
        """Prepare the folder that `request.folder` names; nothing is written yet."""
        folder = (request.folder or Path()).absolute()
        self._request = request
        self._environment = environment
        self._phases = phases
        self._snapshot = snapshot
        self._path = folder
        self._folder = NewFolder(folder, environment.random(4).hex())
        self._listed: list[ListedFile] = []

    def run(self) -> Built:
        """Write everything; returns when the folder has its name.

        Raises RefusedError when it exists or cannot be made, SpoolFullError, ConfigError when PostgreSQL's programs are
        missing, SourceError when they fail, DamageError or the store's errors; then nothing of it is left.
        """
        plan = self._snapshot.plan
        for path in leftovers(self._path.parent):
            self._environment.trace.emit(
                Warned(
                    f"an interrupted restore has left the folder '{path.name}'",
                    hint="`backupd restore clean --target-dir`, with the same folder, removes it.",
                )
            )
        files = sum(entry.bytes for found in plan.files.values() for _, entry in found)
        require_room(self._path.parent, plan.bytes + _SCRIPTED * files + _BESIDE)
        with self._folder.under_way():
            with self._phases.phase("schema"):
                roles = self._write_schema()
            with self._phases.phase(LOADING, plan.bytes):
                self._write_rows()
            with self._phases.phase("publishing"):
                self._write_guide(roles)
        return Built(0, ())

    def _write_schema(self) -> int:
        """Write the schema's scripts; returns how many segments' scripts were joined for the roles."""
        contents, plan, schema = self._snapshot.contents, self._snapshot.plan, self._snapshot.schema
        programs = find_programs(self._request.target.client_folders, self._snapshot.server)
        globals_ = contents.file(plan, "globals")
        if globals_:
            self._write("globals.sql", globals_)
        self._write("database.sql", [database_script(schema.database).encode(errors="surrogateescape")])
        keys = [*(entry.dump_id for entry in schema.keys), *schema.last]
        for name, section, only in (
            ("schema-before.sql", "pre-data", None),
            ("schema-after.sql", "post-data", (*schema.others, *schema.joins)),
            *([("foreign-keys.sql", "post-data", keys)] if keys else []),
        ):
            begin = () if section != "pre-data" or plan.facts.database.public else (_NO_PUBLIC,)
            with section_script(programs, schema, section, self._snapshot.server, only=only) as script:
                self._write(name, chain(begin, script))
        archives = list(plan.files.get("large-objects", []))
        if archives:
            with self._create("large-objects.sql") as out:
                for archive in contents.large_objects(plan):
                    with large_objects_script(programs, archive, self._snapshot.server, self._path.parent) as script:
                        for piece in script:
                            out.write(piece)
        return len(globals_)

    def _write_rows(self) -> None:
        snapshot, request = self._snapshot, self._request
        folders = tenant_folders(snapshot.segments)
        files = table_files(snapshot.plan, snapshot.segments, folders)

        @contextmanager
        def opened(piece: Piece) -> Iterator[NewFile | ScriptedRows]:
            with self._open_table(files[piece]) as out:
                yield out

        TableFiller(snapshot.contents, opened, self._phases).run(snapshot.plan.passes, request.readers)
        self._write("load.sql", (line.encode() for line in load_lines(snapshot.plan, files.values())))
        if snapshot.plan.refresh:
            self._write("refresh.sql", (line.encode() for line in refresh_lines(snapshot.plan)))
        self._write_json("tenants.json", {folder: tenant for tenant, folder in folders.items()})
        self._write_json("facts.json", snapshot.plan.facts.members)

    @contextmanager
    def _open_table(self, file: TableFile) -> Iterator[NewFile | ScriptedRows]:
        with self._create(file.path, table=(file.table.schema, file.table.name), rows=file.rows) as out:
            if not file.inline:
                yield out
                return
            out.write(f"COPY {file.target} FROM STDIN WITH (ENCODING :'rows_encoding');\n".encode())
            yield ScriptedRows(out)
            out.write(b"\\.\n")

    def _write_guide(self, roles: int) -> None:
        snapshot, plan = self._snapshot, self._snapshot.plan
        top = frozenset(listed.path for listed in self._listed if "/" not in listed.path)
        name, encoding = plan.facts.database.name, rows_encoding(plan)
        text = guide(Written(snapshot.name, self._path, plan.rows, snapshot.exact, name, roles, top, encoding))
        self._write("README.txt", [text.encode()])
        listed = sorted(self._listed, key=lambda one: one.path)
        manifest = Manifest(
            snapshot.name, snapshot.exported, self._request.label, plan.rows, plan.bytes, snapshot.exact, listed
        )
        self._write_json(MANIFEST, msgspec.to_builtins(manifest))

    def _write(self, path: str, pieces: Iterable[bytes]) -> None:
        with self._create(path) as out:
            for piece in pieces:
                out.write(piece)

    def _write_json(self, path: str, value: object) -> None:
        self._write(path, [msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"])

    @contextmanager
    def _create(self, path: str, table: tuple[str, str] | None = None, rows: int | None = None) -> Iterator[NewFile]:
        with self._folder.create(path) as out:
            yield out
        self._listed.append(ListedFile(path, out.size, out.sha256, table, rows))


TEMPORARY = ".backupd-restoring-"
"""Prefix of the name of every folder that is not complete."""
_NAME = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{8}")


@dataclass(slots=True)
class NewFile:
    """A file being written; its size and digest are right once it is closed."""

    file: IO[bytes] = field(repr=False)
    size: int = 0
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256, repr=False)

    def write(self, data: bytes | memoryview) -> None:
        self.file.write(data)
        self._digest.update(data)
        self.size += len(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


class ScriptedRows:
    """Rows inside a script: at a line that begins with a backslash and a point psql would end them, and obey the rest.

    COPY writes no such line, but who signs a false snapshot does.
    """

    def __init__(self, file: NewFile) -> None:
        self._file = file
        self._end = b"\n"

    def write(self, data: bytes | memoryview) -> None:
        """Write a piece of the rows. Raises DamageError where they are none that COPY writes."""
        text = self._end + data
        if b"\n\\." in text:
            raise DamageError(
                "a row of a table is none that COPY writes, and would be obeyed as a command",
                hint="Its signer made the snapshot up. Restore another one (`backupd manual incidents`).",
            )
        self._end = text[-2:]
        self._file.write(data)


class NewFolder:
    """A folder under its temporary name; only its owner may read what is in it."""

    def __init__(self, path: Path, token: str) -> None:
        self.path = path
        self._temporary = path.parent / f"{TEMPORARY}{token}"
        self._lock = -1

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Make the folder; when the block ends well it gets its name, and otherwise nothing of it is left.

        Raises RefusedError when there is something of that name, or it cannot be written; SpoolFullError.
        """
        with translated():
            self._require_new()
            self._temporary.mkdir(mode=0o700)
            self._lock = _locked(self._temporary)
        try:
            with translated():
                yield
                _flush(self._temporary)
                self._require_new()
                self._temporary.rename(self.path)
                _fsync(self.path.parent)
        except BaseException:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise
        finally:
            os.close(self._lock)

    @contextmanager
    def create(self, path: str) -> Iterator[NewFile]:
        """Open a new file at a path relative to the folder."""
        full = self._temporary / path
        for parent in reversed(full.relative_to(self._temporary).parents[:-1]):
            (self._temporary / parent).mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            yield NewFile(file)

    def _require_new(self) -> None:
        if os.path.lexists(self.path):
            raise RefusedError("the folder to restore into exists already", hint="Name one that does not exist yet.")


def require_room(parent: Path, needed: int) -> None:
    """Raise SpoolFullError when a folder's disk has less room in bytes, RefusedError when there is no such folder."""
    with translated():
        free = shutil.disk_usage(parent).free
    if free < needed:
        raise SpoolFullError(
            f"the files need {needed >> 20} MiB, and there are {free >> 20} MiB left",
            hint="Name a folder on a larger disk.",
        )


def leftovers(parent: Path) -> list[Path]:
    """Return the folders of killed restores into files: under a temporary name, owned by this user, and not in use."""
    found = []
    for path in sorted(parent.iterdir()) if parent.is_dir() else ():
        if (
            _NAME.fullmatch(path.name)
            and path.is_dir()
            and not path.is_symlink()
            and path.stat().st_uid == os.geteuid()
        ):
            with suppress(OSError):
                os.close(_locked(path))
                found.append(path)
    return found


@contextmanager
def translated() -> Iterator[None]:
    """Turn an OSError in the block into SpoolFullError for a full disk, and into RefusedError otherwise."""
    try:
        yield
    except BackupdError:
        raise
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            raise SpoolFullError("the disk to restore to is full", hint="Name a folder on a larger disk.") from None
        raise RefusedError(
            f"the folder to restore into cannot be written ({error.strerror})",
            hint="Its parent must exist, and you may make folders in it.",
        ) from None


def _locked(path: Path) -> int:
    """Return a descriptor that locks the folder as long as it is open.

    Raises OSError when another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _flush(folder: Path) -> None:
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            _fsync(Path(place, name))
        _fsync(Path(place))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
