"""Restore one snapshot into a new database, as numbered steps.

1. Choose the snapshot, and check its record.
2. Open the segments' keys; read every part's manifest; plan.
3. Look at the target: the name is free, the roles are there, programs fit. Nothing is changed before this.
4. Make the missing roles, if asked to, and the database, under a temporary name.
5. Schema up to the tables; large objects; rows, checked as they pass; values of sequences.
6. Indexes, constraints, triggers; materialized views; statistics, if asked to.
7. Owner, privileges and settings of the database, and its final name.

Whatever fails from step 4 on, the database under the temporary name is dropped. A restore that is killed leaves it
there, and the next one names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.errors import UsageError
from backupd.operations.restore.building import Building, Snapshot
from backupd.operations.restore.contents import Contents
from backupd.operations.restore.timing import Timer
from backupd.operations.restore.values import RestoreReport
from backupd.planning.choosing import candidates
from backupd.postgres.target.schema import joined_schema

if TYPE_CHECKING:
    from backupd.catalog.keys import SecretKeys
    from backupd.catalog.repository import Repository
    from backupd.model.documents import Record
    from backupd.model.ids import SnapshotName
    from backupd.operations.restore.values import RestoreRequest, World


def restore(request: RestoreRequest, repository: Repository, world: World) -> RestoreReport:
    """Restore; returns when the database has its final name.

    Raises UsageError when no snapshot fits, RefusedError when the target does not, KeyRefusedError, DamageError,
    the store's errors, and SourceError when PostgreSQL refuses something.
    """
    timer = Timer(world.clock, world.trace)
    with timer.phase("planning"):
        snapshot, record, keys = choose(request, repository, world.identity)
    with Contents(repository, record, keys, request.readers) as contents:
        with timer.phase("planning"):
            plan = contents.plan()
            files = contents.file(plan, "ddl-head")[0], contents.file(plan, "ddl")
        with joined_schema(*files) as schema:
            del files
            roles = Building(request, world, timer, Snapshot(contents, plan, schema)).run()
    return RestoreReport(
        snapshot=snapshot,
        exported=record.exported,
        label=request.label,
        segments=len(record.parts),
        tables=len(plan.tables),
        rows=plan.rows,
        bytes=plan.bytes,
        verified=plan.spans + contents.verified,
        roles_created=roles,
        phases=timer.phases(),
        seconds=timer.seconds(),
    )


def choose(request: RestoreRequest, repository: Repository, identity: bytes) -> tuple[SnapshotName, Record, SecretKeys]:
    """The snapshot the request means, its record, and the keys of its generation.

    Raises UsageError when there is none, or when it means more than one, and KeyRefusedError.
    """
    names, one = candidates(repository.snapshots(), request.snapshot)
    found: list[tuple[SnapshotName, Record, SecretKeys]] = []
    for name in names:
        record = repository.record(name)
        if record.database != request.label:
            continue
        keys = repository.open_keys(identity, [record.generation])
        if not _means(record, request, keys, one=one):
            continue
        found.append((name, record, keys))
        if not one:
            break
    if not found:
        raise UsageError(
            f"no snapshot of '{request.label}' fits what is asked for", hint="`backupd snapshots` lists what there is."
        )
    if len(found) > 1:
        raise UsageError("several snapshots begin like that", hint="Give more of the snapshot's name.")
    return found[0]


def _means(record: Record, request: RestoreRequest, keys: SecretKeys, *, one: bool) -> bool:
    if request.member is not None:
        return bool(record.parts) and keys[record.parts[0][0]].name.database == request.member
    if record.member is not None and not one:
        raise UsageError(
            f"'{request.label}' stands for several databases", hint="Say which, or give the name of a snapshot."
        )
    return True
