"""Restore one tenant in place:

1. Read the ledger; choose the snapshot; stage the tenant's rows, and shared rows they refer to, in temporary tables.
2. Look for drift of the schema; compare with the live rows.
3. Look for everything that conflicts. Until here, and without `apply`, nothing is written.
4. Back the database up, or take the reference of a backup that was made.
5. Compare again and write, in one transaction, which checks itself before it is committed.
6. Append to the ledger, and report.

A failure at any step leaves the database as it was. There is nothing to clean up: staged rows belong to the session.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from backupd.errors import RefusedError, SourceError
from backupd.operations.backup.region import BackupTarget, back_up
from backupd.operations.inplace.apply import Applied, accepted, apply, settled
from backupd.operations.inplace.compare import compare_rows, lock_to_look, report_keys
from backupd.operations.inplace.session import TenantContents, prepare_session
from backupd.operations.inplace.types import InPlaceReport
from backupd.operations.phases import Phases
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.contents import SnapshotContents
from backupd.operations.restore.run import note_restore
from backupd.operations.restore.types import RestoreEnvironment, RestoreRequest
from backupd.planning.selection import Selection
from backupd.postgres.connect import Source, connect
from backupd.postgres.inplace.session import instance, open_transaction
from backupd.repository.repository import Repository
from backupd.trace import Warned

if TYPE_CHECKING:
    from backupd.operations.inplace.compare import InPlaceComparison
    from backupd.operations.inplace.session import PreparedSession
    from backupd.operations.inplace.types import InPlaceRequest

PURPOSE = "tenant-in-place"


def restore_in_place(request: InPlaceRequest, repository: Repository, environment: RestoreEnvironment) -> InPlaceReport:
    """Preview, or with `apply` restore; a report with `blocked` says that nothing was written because of conflicts.

    Raises what `restore` raises, RefusedError also when there is no backup before, UnmappedError, and SourceBusyError
    when the tenant is being written to.
    """
    if request.apply and request.before is None:
        raise RefusedError(
            "the tenant is not backed up before",
            hint="Run this where backups are made, or name one with --no-backup-before.",
        )
    phases = Phases(environment.clock, environment.trace, request.label)
    wanted = RestoreRequest(
        request.label,
        request.snapshot,
        request.target,
        request.database,
        selection=Selection(frozenset({request.tenant})),
        purpose=PURPOSE,
    )
    with ExitStack() as stack:
        with phases.phase("planning"):
            choice = choose(wanted, repository, environment, read_history(repository, environment))
            contents = stack.enter_context(SnapshotContents(repository, choice, 1))
            plan = contents.plan(wanted.selection, exact=choice.exact)
        ours = TenantContents(choice, contents, plan, request.tenant)
        with phases.phase("staging"):
            ready = stack.enter_context(prepare_session(request, ours, plan.facts.settings))
        first = _first_look(ready, request, phases)
        done, before = Applied(first, committed=False), None
        if request.apply and not first.blocked(accepted(request)):
            before = _before(request, phases)
            done = apply(ready, request, phases, None if isinstance(request.before, str) else first)
        still = _settled(ready, environment, phases) if done.committed else None
        return InPlaceReport(
            snapshot=choice.snapshot,
            exported=choice.record.exported,
            label=request.label,
            tables=done.found.table_changes(ready),
            rows=sum(ours.rows_of(name) for name in ours.tables),
            conflicts=done.found.conflicts,
            blocked=done.found.blocked(accepted(request)),
            applied=done.committed,
            triggers="off" if done.found.quiet else "fire",
            before=before,
            others=done.others,
            sequences=done.sequences,
            settled=still,
            phases=phases.taken(),
            seconds=phases.seconds(),
            noted=done.committed and note_restore(choice, wanted, environment),
        )


def _first_look(ready: PreparedSession, request: InPlaceRequest, phases: Phases) -> InPlaceComparison:
    locks = partial(lock_to_look, ready)
    with phases.phase("comparing"), open_transaction(ready.connection, locks, request.lock_timeout, phases.clock):
        found = compare_rows(ready, request)
        report_keys(ready, request, found)
        return found


def _before(request: InPlaceRequest, phases: Phases) -> str | None:
    if request.before is None or isinstance(request.before, str):
        return request.before
    with phases.phase("backing up"):
        return request.before()


def _settled(ready: PreparedSession, environment: RestoreEnvironment, phases: Phases) -> bool:
    with phases.phase("checking"):
        still = settled(ready)
    if not still:
        environment.trace.emit(
            Warned(
                "rows were written for this tenant while it was restored, and are there beside those of the snapshot",
                hint="A preview shows which; keep the tenant from being written to and restore again, if need be.",
            )
        )
    return still


@dataclass(frozen=True, slots=True)
class BackupBefore:
    """Backs up, onto every one of these targets, the database that is about to be written to."""

    targets: Sequence[BackupTarget]
    running: Source
    database: str

    def __call__(self) -> str:
        """Back up; returns the name of the snapshot on the first store.

        Raises RefusedError when the target is not the database that is backed up, and what a backup does.
        """
        with connect(self.running, self.database) as connection:
            wanted = instance(connection)
        for job in (job for target in self.targets for job in target.jobs):
            with connect(job.source) as connection:
                if instance(connection) != wanted:
                    raise RefusedError(
                        "the target is not the database that is backed up under this label",
                        hint="Give its own connection in --target, or --no-backup-before with a reference to a backup.",
                    )
        made = []
        for outcome in back_up(self.targets):
            if outcome.error is not None:
                raise outcome.error
            made += [outcome.report] if outcome.report is not None else []
        if not made:
            raise SourceError("nothing was backed up", hint="The configuration names no store for this region.")
        return made[0].snapshot
