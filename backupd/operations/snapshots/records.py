"""List the snapshots of a repository as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.errors import DamageError, ObjectMissingError, RefusedError
from backupd.model.documents import REDUCED, Record, Totals
from backupd.model.ids import GenerationId, SnapshotName
from backupd.model.text import parse_stamp

if TYPE_CHECKING:
    from backupd.repository.repository import Repository


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as its record describes it."""

    name: SnapshotName
    generation: GenerationId
    database: str
    """The database's configured label."""
    member: str | None
    """Opaque mark of one of several databases under the label; None where there is only one."""
    exported: datetime
    published: datetime
    server: int
    """PostgreSQL's version as `server_version_num`."""
    segments: int
    totals: Totals
    packs: int
    """Number of packs that hold its sections."""
    follows: tuple[SnapshotName, ...] | None = None
    """Records that its writer wrote before, newest first; None for what a hold keeps of one."""

    @property
    def group(self) -> str:
        """Return the label with the member: retention looks at the snapshots of one group together."""
        return snapshot_group(self.database, self.member)


@dataclass(frozen=True, slots=True)
class UnreadableSnapshot:
    """A snapshot whose record cannot be believed, with the reason."""

    name: SnapshotName
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotList:
    """The readable and the unreadable snapshots, each list oldest first."""

    snapshots: list[SnapshotInfo]
    unreadable: list[UnreadableSnapshot]


def list_snapshots(repository: Repository, *, database: str | None = None, newest: int | None = None) -> SnapshotList:
    """List every snapshot, or those of one database label, or only the `newest` so many; each record is checked.

    Records that are damaged are listed with the reason, not raised. Raises what `repository.info()` raises and the
    store's errors.
    """
    found = SnapshotList([], [])
    repository.info()
    for name in reversed(repository.snapshots()):
        if newest is not None and len(found.snapshots) >= newest:
            break
        try:
            info = described(name, repository.record(name))
        except (DamageError, RefusedError) as error:
            found.unreadable.append(UnreadableSnapshot(name, error.message))
        except ObjectMissingError:
            continue  # removed since it was listed
        else:
            if database in (None, info.database):
                found.snapshots.append(info)
    found.snapshots.reverse()
    found.unreadable.reverse()
    return found


def described(name: SnapshotName, record: Record) -> SnapshotInfo:
    """Return what a record says of its snapshot. Raises DamageError for an impossible date."""
    try:
        exported, published = parse_stamp(record.exported), parse_stamp(record.published)
    except ValueError as error:
        raise DamageError(f"snapshot '{name}' has an impossible date") from error
    return SnapshotInfo(
        name=name,
        generation=record.generation,
        database=record.database,
        member=record.member,
        exported=exported,
        published=published,
        server=record.server,
        segments=record.segments,
        totals=record.totals,
        packs=len(record.packs),
        follows=None if REDUCED in record.extra else record.follows,
    )


def snapshot_group(database: str, member: str | None) -> str:
    """Return the name of the group that retention puts a snapshot into; it may hold a tenant's: never print it."""
    return f"{database} {member or ''}".rstrip()
