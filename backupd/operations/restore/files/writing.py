"""A snapshot's contents written into a new folder: steps 3 to 7 of a restore, with files for a database."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backupd.operations.restore.anew.filling import LOADING, Filling
from backupd.operations.restore.anew.values import Built
from backupd.operations.restore.files.folder import NewFile, NewFolder, leftovers, require_room
from backupd.operations.restore.files.guide import Written, guide
from backupd.operations.restore.files.layout import load_lines, refresh_lines, table_files, tenant_folders
from backupd.postgres.target.scripts import database_script, large_objects_script, section_script
from backupd.postgres.tools import find_programs
from backupd.trace import Warned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.operations.phases import Phases
    from backupd.operations.restore.anew.values import Snapshot
    from backupd.operations.restore.files.layout import TableFile
    from backupd.operations.restore.values import RestoreEnvironment, RestoreRequest
    from backupd.planning.restoring.restore import Piece

MANIFEST = "MANIFEST.json"
_BESIDE = 16 << 20
"""Bytes for what is small."""
_SCRIPTED = 4
"""A schema or a large object as SQL takes at most so many times its room, the archive it is made of included."""


class ListedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file, as MANIFEST.json has it."""

    path: str
    bytes: int
    sha256: str
    table: tuple[str, str] | None = None
    rows: int | None = None


class Manifest(msgspec.Struct, frozen=True):
    """What is in a folder. There is none before everything is."""

    snapshot: str
    exported: str
    database: str
    rows: int
    bytes: int
    """Of COPY text."""
    exact: bool
    """Whether all of the snapshot is there."""
    files: list[ListedFile]


class FolderWriter:
    """One folder under way."""

    def __init__(self, request: RestoreRequest, world: RestoreEnvironment, phases: Phases, snapshot: Snapshot) -> None:
        """`request.folder` says where to."""
        folder = (request.folder or Path()).absolute()
        self._request = request
        self._world = world
        self._phases = phases
        self._snapshot = snapshot
        self._path = folder
        self._folder = NewFolder(folder, world.random(4).hex())
        self._listed: list[ListedFile] = []

    def run(self) -> Built:
        """Write everything; returns when the folder has its name.

        Raises RefusedError when it exists or cannot be made, SpoolFullError, ConfigError when PostgreSQL's programs are
        missing, SourceError when they fail, DamageError or the store's errors; then nothing of it is left.
        """
        plan = self._snapshot.plan
        for path in leftovers(self._path.parent):
            self._world.trace.emit(
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
        """Scripts; how many of them were joined for the roles."""
        contents, plan, schema = self._snapshot.contents, self._snapshot.plan, self._snapshot.schema
        programs = find_programs(self._request.target.client_folders, self._snapshot.server)
        globals_ = contents.file(plan, "globals")
        if globals_:
            self._write("globals.sql", globals_)
        self._write("database.sql", [database_script(schema.database).encode(errors="surrogateescape")])
        keys = [*(entry.dump_id for entry in schema.keys), *schema.event_triggers]
        for name, section, only in (
            ("schema-before.sql", "pre-data", None),
            ("schema-after.sql", "post-data", schema.others),
            *([("foreign-keys.sql", "post-data", keys)] if keys else []),
        ):
            with section_script(programs, schema, section, self._snapshot.server, only=only) as script:
                self._write(name, script)
        archives = list(plan.files.get("large-objects", []))
        if archives:
            with self._create("large-objects.sql") as out:
                for archive in contents.streamed(plan, "large-objects"):
                    with large_objects_script(programs, archive, self._snapshot.server, self._path.parent) as script:
                        for piece in script:
                            out.write(piece)
        return len(globals_)

    def _write_rows(self) -> None:
        snapshot, request = self._snapshot, self._request
        folders = tenant_folders(snapshot.segments)
        files = table_files(snapshot.plan, snapshot.segments, folders)

        @contextmanager
        def opened(piece: Piece) -> Iterator[NewFile]:
            with self._open_table(files[piece]) as out:
                yield out

        Filling(snapshot.contents, opened, self._world.trace).run(snapshot.plan, request.readers)
        self._write("load.sql", (line.encode() for line in load_lines(snapshot.plan, files.values())))
        if snapshot.plan.refresh:
            self._write("refresh.sql", (line.encode() for line in refresh_lines(snapshot.plan)))
        self._write_json("tenants.json", {folder: tenant for tenant, folder in folders.items()})
        self._write_json("facts.json", snapshot.plan.facts.members)

    @contextmanager
    def _open_table(self, file: TableFile) -> Iterator[NewFile]:
        with self._create(file.path, table=(file.table.schema, file.table.name), rows=file.rows) as out:
            if file.inline:
                out.write(f"COPY {file.target} FROM STDIN;\n".encode())
            yield out
            if file.inline:
                out.write(b"\\.\n")

    def _write_guide(self, roles: int) -> None:
        snapshot, plan = self._snapshot, self._snapshot.plan
        top = frozenset(listed.path for listed in self._listed if "/" not in listed.path)
        text = guide(
            Written(snapshot.name, self._path, plan.rows, snapshot.exact, plan.facts.database.name, roles, top)
        )
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
