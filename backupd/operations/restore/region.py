"""Restore a region: find the databases it had at a time, and restore each by its snapshot's full name, or report why
not. A database that an earlier run has completed is not restored again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from backupd.errors import BackupdError, DamageError, ObjectMissingError, RefusedError, UsageError
from backupd.model.documents import Record
from backupd.model.ids import SnapshotName
from backupd.model.text import UnreadableError, from_json
from backupd.operations.ledger.history import LedgerHistory
from backupd.operations.restore.choose import GenerationKeys, read_history, real_name
from backupd.operations.restore.files import MANIFEST, Manifest, translated
from backupd.operations.restore.files_layout import safe
from backupd.operations.restore.run import restore
from backupd.operations.restore.types import RestoreEnvironment, RestoreReport, RestoreRequest
from backupd.planning.selection import candidates, same_second
from backupd.postgres.scratch.watch import system_identifier
from backupd.postgres.target import database, session
from backupd.repository.keys import SecretKeys
from backupd.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    """A database of the region, and the snapshot of it to restore."""

    label: str
    member: str | None
    """Opaque mark of one of several databases under the label; None where there is only one."""
    snapshot: SnapshotName
    exported: str
    server: int
    """The source's version as PostgreSQL's `server_version_num`."""
    name: str = field(repr=False)
    """Real name of the database where the label stands for several; otherwise the label."""


@dataclass(frozen=True, slots=True)
class RegionContents:
    """The databases of a region that can be restored, and those that cannot."""

    databases: tuple[FoundDatabase, ...]
    """Sorted by label and then by member."""
    missing: tuple[str, ...]
    """Labels without any snapshot at that time."""
    purged: int
    """Members of which a purge lists everything."""
    faults: tuple[tuple[SnapshotName, BackupdError], ...]
    """Records that cannot be read or believed: such a database may be missing from the list, or be there with an older
    snapshot."""
    history: LedgerHistory = field(repr=False)


def find_databases(
    wanted: str, labels: Mapping[str, bool], repository: Repository, environment: RestoreEnvironment
) -> RegionContents:
    """Return the region's databases at a time; `labels` are the configured ones, and whether each stands for several.

    `wanted` is `latest` or a time. Raises UsageError when it is a snapshot's name or nothing fits, DamageError for a
    ledger that cannot be believed, KeyRefusedError.
    """
    names, one = candidates(repository.snapshots(), wanted)
    if one:
        raise UsageError(
            "a snapshot is of one database, not of a region", hint="Give a time, or name the DATABASE, too."
        )
    history = read_history(repository, environment)
    faults: list[tuple[SnapshotName, BackupdError]] = []
    newest = _newest(names, labels, repository, faults)
    generations = GenerationKeys(repository, environment.identity)
    databases: list[FoundDatabase] = []
    purged = 0
    for name, record in newest.values():
        try:
            found = _found(name, record, generations.keys(record.generation), history, repository)
        except (DamageError, RefusedError) as error:
            faults.append((name, error))
        else:
            databases += [found] if found else []
            purged += found is None
    missing = set(labels) - {record.database for _, record in newest.values()}
    if not newest and not faults:
        raise UsageError(
            "no snapshot of the region fits what is asked for", hint="`backupd snapshots` lists what there is."
        )
    databases.sort(key=lambda found: (found.label, found.member or ""))
    return RegionContents(tuple(databases), tuple(sorted(missing)), purged, tuple(faults), history)


def _newest(
    names: list[SnapshotName],
    labels: Mapping[str, bool],
    repository: Repository,
    faults: list[tuple[SnapshotName, BackupdError]],
) -> dict[tuple[str, str | None], tuple[SnapshotName, Record]]:
    """Return the newest record of every database; all records need to be read only where labels stand for several."""
    newest: dict[tuple[str, str | None], tuple[SnapshotName, Record]] = {}
    single = set() if any(labels.values()) else {(label, None) for label in labels}
    for name, record in _records(names, repository, faults):
        if single and newest.keys() >= single and not any(same_second(name, found) for found, _ in newest.values()):
            break
        key = record.database, record.member
        if record.database not in labels:
            continue
        # A name has the second only.
        if key not in newest or (same_second(name, newest[key][0]) and record.exported > newest[key][1].exported):
            newest[key] = name, record
    return newest


def _records(
    names: list[SnapshotName], repository: Repository, faults: list[tuple[SnapshotName, BackupdError]]
) -> Iterator[tuple[SnapshotName, Record]]:
    for name in names:
        try:
            yield name, repository.record(name)
        except (DamageError, RefusedError) as error:
            faults.append((name, error))
        except ObjectMissingError:
            continue  # removed since it was listed


def _found(
    name: SnapshotName, record: Record, keys: SecretKeys, history: LedgerHistory, repository: Repository
) -> FoundDatabase | None:
    """Return the database of a record; None when a purge lists everything of it."""
    called = record.database if record.member is None else real_name(repository, record, keys, history.explained)
    return (
        None
        if called is None
        else FoundDatabase(record.database, record.member, name, record.exported, record.server, called)
    )


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DatabaseOutcome(Generic[T]):
    """The result of restoring one database."""

    found: FoundDatabase
    result: T | None
    """None without an error when an earlier run has restored this snapshot there."""
    error: BackupdError | None


def restore_region(
    databases: Iterable[FoundDatabase], each: Callable[[FoundDatabase], T | None]
) -> Iterator[DatabaseOutcome[T]]:
    """Call `each` with every database; an error becomes that database's outcome, and does not stop the others.

    Raises InterruptedRunError.
    """
    for found in databases:
        try:
            yield DatabaseOutcome(found, each(found), None)
        except BackupdError as error:
            yield DatabaseOutcome(found, None, error)


_MOST_REMEMBERED = 10_000
"""Completed restores that are remembered; the oldest are forgotten first."""


class CompletedRestore(msgspec.Struct, frozen=True):
    """A database that a restore of a region has completed. It is known by cluster and oid, not by a name."""

    cluster: str
    oid: int
    snapshot: str


@dataclass(frozen=True, slots=True)
class RestoreTarget:
    """The server, or the folder for plain files, that a region is restored to."""

    request: RestoreRequest
    """The request for every database, but for snapshot and name."""
    suffix: str
    """Text that is added to each database's name."""
    journal: Path
    """File of the restores that earlier runs have completed on servers."""

    def restore(
        self, found: FoundDatabase, contents: RegionContents, repository: Repository, environment: RestoreEnvironment
    ) -> RestoreReport | None:
        """Restore one database; returns None when that was done already. Raises what `restore` raises."""
        request = self.wanted(found)
        if self._is_done(request):
            return None
        if self.request.folder is not None:
            with translated():
                self.request.folder.mkdir(mode=0o700, exist_ok=True)
        report = restore(request, repository, environment, contents.history)
        if request.folder is None:
            self._note(request)
        return report

    def wanted(self, found: FoundDatabase) -> RestoreRequest:
        """Return the request for one database."""
        request = replace(self.request, label=found.label, snapshot=found.snapshot)
        if request.folder is None:
            return replace(request, name=found.name + self.suffix)
        stem = safe(found.label) if found.member is None else f"{safe(found.label)}-{safe(found.name)}"
        return replace(request, folder=request.folder / (stem + self.suffix))

    def require_apart(self, databases: Iterable[FoundDatabase]) -> None:
        """Raise RefusedError when two databases would get one name."""
        names = [(one.name, one.folder) for one in map(self.wanted, databases)]
        if len(set(names)) < len(names):
            raise RefusedError(
                "two databases of the region would get one name", hint="Restore them one by one, each with a --target."
            )

    def _is_done(self, request: RestoreRequest) -> bool:
        if request.folder is not None:
            return _manifest(request.folder) == request.snapshot
        known = _read(self.journal)
        return bool(known) and self._current(request) in known

    def _current(self, request: RestoreRequest) -> CompletedRestore | None:
        """Return what the server has under the name; None when that is unknown."""
        with session.connect(request.target, session.MAINTENANCE) as connection:
            cluster, oid = system_identifier(connection), database.oid_of(connection, request.name)
        return None if cluster is None or oid is None else CompletedRestore(cluster, oid, request.snapshot)

    def _note(self, request: RestoreRequest) -> None:
        """Remember the completed restore; where the journal cannot be written, it is repeated when asked again."""
        done = self._current(request)
        if done is None:
            return
        try:
            self.journal.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.journal.write_bytes(msgspec.json.encode([*_read(self.journal), done][-_MOST_REMEMBERED:]))
        except OSError:
            return


def _manifest(folder: Path) -> str | None:
    """Return the snapshot that is complete in a folder; None without one."""
    try:
        return from_json((folder / MANIFEST).read_bytes(), Manifest).snapshot
    except (OSError, UnreadableError):
        return None


def _read(path: Path) -> list[CompletedRestore]:
    try:
        return from_json(path.read_bytes(), list[CompletedRestore])
    except (OSError, UnreadableError):
        return []
