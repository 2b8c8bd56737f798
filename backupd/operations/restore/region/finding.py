"""Which databases a region had at a time: the newest snapshot of each, members of a label told apart by their mark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.errors import (
    BackupdError,
    DamageError,
    ObjectMissingError,
    RefusedError,
    UsageError,
)
from backupd.operations.restore.choosing import GenerationKeys, read_history, real_name
from backupd.planning.restoring.selection import candidates, same_second

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backupd.catalog.keys import SecretKeys
    from backupd.catalog.repository import Repository
    from backupd.model.ids import SnapshotName
    from backupd.model.stored.documents import Record
    from backupd.operations.restore.values import RestoreEnvironment
    from backupd.operations.verify.ledger import LedgerHistory


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    """A database of the region, and the snapshot of it that is meant."""

    label: str
    member: str | None
    """Which of several databases under the label; opaque."""
    snapshot: SnapshotName
    exported: str
    server: int
    """PostgreSQL's `server_version_num`."""
    name: str = field(repr=False)
    """What it was called, where the label stands for several; else the label."""


@dataclass(frozen=True, slots=True)
class RegionContents:
    """What there is to restore, and what there is not."""

    databases: tuple[FoundDatabase, ...]
    """By label and member."""
    missing: tuple[str, ...]
    """Labels without any snapshot at that time."""
    purged: int
    """Members of which a purge lists everything."""
    faults: tuple[tuple[SnapshotName, BackupdError], ...]
    """Records that cannot be read or believed: the database may be one that is not listed, or there with an older
    snapshot."""
    history: LedgerHistory = field(repr=False)


def find_databases(
    wanted: str, labels: Mapping[str, bool], repository: Repository, world: RestoreEnvironment
) -> RegionContents:
    """The region's databases at a time; `labels` are the configured ones, and whether each stands for several.

    `wanted` is `latest` or a time. Raises UsageError when it is a snapshot's name or nothing fits, DamageError for a
    ledger that cannot be believed, KeyRefusedError.
    """
    names, one = candidates(repository.snapshots(), wanted)
    if one:
        raise UsageError(
            "a snapshot is of one database, not of a region", hint="Give a time, or name the DATABASE, too."
        )
    history = read_history(repository, world)
    faults: list[tuple[SnapshotName, BackupdError]] = []
    newest = _newest(names, labels, repository, faults)
    generations = GenerationKeys(repository, world.identity)
    databases: list[FoundDatabase] = []
    purged = 0
    for name, record in newest.values():
        try:
            found = _found(name, record, generations.keys(record.generation), history)
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
    """The newest record of every database; only where labels stand for several must all be looked at."""
    newest: dict[tuple[str, str | None], tuple[SnapshotName, Record]] = {}
    single = set() if any(labels.values()) else {(label, None) for label in labels}
    for name, record in _records(names, repository, faults):
        if single and newest.keys() >= single and not any(same_second(name, found) for found, _ in newest.values()):
            break
        key = record.database, record.member
        if record.database not in labels:
            continue
        # A name tells the second only.
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


def _found(name: SnapshotName, record: Record, keys: SecretKeys, history: LedgerHistory) -> FoundDatabase | None:
    """None when a purge lists everything of it."""
    called = record.database if record.member is None else real_name(record, keys, history.explained)
    return (
        None
        if called is None
        else FoundDatabase(record.database, record.member, name, record.exported, record.server, called)
    )
