"""Where a region's databases are restored to, and whether one is there already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import RefusedError
from backupd.model.jsontext import UnreadableError, from_json
from backupd.operations.restore.files.folder import translated
from backupd.operations.restore.files.layout import safe
from backupd.operations.restore.files.writing import MANIFEST, Manifest
from backupd.operations.restore.run import restore
from backupd.postgres.scratch.looking import system_identifier
from backupd.postgres.target import database, session

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backupd.catalog.repository import Repository
    from backupd.operations.restore.region.finding import FoundDatabase, RegionContents
    from backupd.operations.restore.values import RestoreEnvironment, RestoreReport, RestoreRequest

_KEPT = 10_000
"""Databases that are remembered, the oldest forgotten first."""


class Done(msgspec.Struct, frozen=True):
    """A database that a restore of a region has completed. It names none: cluster and oid tell it from all others."""

    cluster: str
    oid: int
    snapshot: str


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """A server, or a folder for plain files."""

    request: RestoreRequest
    """For every database, but for snapshot and name."""
    suffix: str
    """Added to each database's name."""
    journal: Path
    """What earlier runs have completed on servers."""

    def restore(
        self, found: FoundDatabase, finding: RegionContents, repository: Repository, world: RestoreEnvironment
    ) -> RestoreReport | None:
        """Restore one database; None when that was done already. Raises what `restore` raises."""
        request = self.wanted(found)
        if self._is_done(request):
            return None
        if self.request.folder is not None:
            with translated():
                self.request.folder.mkdir(mode=0o700, exist_ok=True)
        report = restore(request, repository, world, finding.history)
        if request.folder is None:
            self._note(request)
        return report

    def wanted(self, found: FoundDatabase) -> RestoreRequest:
        """The request for one database."""
        request = replace(self.request, label=found.label, snapshot=found.snapshot)
        if request.folder is None:
            return replace(request, name=found.name + self.suffix)
        stem = safe(found.label) if found.member is None else f"{safe(found.label)}-{safe(found.name)}"
        return replace(request, folder=request.folder / (stem + self.suffix))

    def require_apart(self, databases: Iterable[FoundDatabase]) -> None:
        """Raises RefusedError when two databases would get one name."""
        names = [(one.name, one.folder) for one in map(self.wanted, databases)]
        if len(set(names)) < len(names):
            raise RefusedError(
                "two databases of the region would get one name", hint="Restore them one by one, each with a --target."
            )

    def _is_done(self, request: RestoreRequest) -> bool:
        if request.folder is not None:
            return _manifest(request.folder) == request.snapshot
        known = _read(self.journal)
        return bool(known) and self._now(request) in known

    def _now(self, request: RestoreRequest) -> Done | None:
        """What the server has under the name; None when that cannot be told."""
        with session.connect(request.target, session.MAINTENANCE) as connection:
            cluster, oid = system_identifier(connection), database.oid_of(connection, request.name)
        return None if cluster is None or oid is None else Done(cluster, oid, request.snapshot)

    def _note(self, request: RestoreRequest) -> None:
        """Remember; a machine that cannot write there restores again what it is asked to restore again."""
        done = self._now(request)
        if done is None:
            return
        try:
            self.journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.journal.write_bytes(msgspec.json.encode([*_read(self.journal), done][-_KEPT:]))
        except OSError:
            return


def _manifest(folder: Path) -> str | None:
    """The snapshot that is complete in a folder."""
    try:
        return from_json((folder / MANIFEST).read_bytes(), Manifest).snapshot
    except (OSError, UnreadableError):
        return None


def _read(path: Path) -> list[Done]:
    try:
        return from_json(path.read_bytes(), list[Done])
    except (OSError, UnreadableError):
        return []
