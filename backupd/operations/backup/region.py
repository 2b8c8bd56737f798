"""Back up several databases onto several stores, each on its own, so that a failure stops nothing else; and list the
databases behind one configured label.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from msgspec.structs import replace as replaced

from backupd.errors import BackupdError, SourceBusyError, StoreError
from backupd.model.answers import BackupReport
from backupd.model.ids import RegionName
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.model.text import counted
from backupd.operations.backup import BackupJob, Node, backup
from backupd.planning.mapping.names import choose_members
from backupd.planning.schedule import TRIES, next_try
from backupd.postgres.connect import Source, list_databases
from backupd.repository.repository import Repository
from backupd.store.base import Store
from backupd.trace import Warned


@dataclass(frozen=True, slots=True)
class BackupTarget:
    """The databases of a region, and one of its stores."""

    region: RegionName
    store: str
    """The store's configured name."""
    open: Callable[[], Store]
    trusted: Collection[str] | None
    """Public keys of signers to believe, 64 hex digits each; None to believe those the repository names."""
    keepers: Collection[str] | None
    jobs: tuple[BackupJob, ...]
    node: Node

    def auditing(self) -> BackupTarget:
        """Return the same target for a run that reads everything and compares it with what would have been skipped."""
        return replace(self, jobs=tuple(replace(job, audit_now=True) for job in self.jobs))


@dataclass(frozen=True, slots=True)
class BackupOutcome:
    """The end of one backup of one database onto one store: a report or an error."""

    region: RegionName
    store: str
    label: str
    report: BackupReport | None
    error: BackupdError | None = None


def back_up(targets: Iterable[BackupTarget]) -> Iterator[BackupOutcome]:
    """Run every backup, one after another, and yield how each ended.

    A store that fails is not tried again for the target's other databases: they fail with the same error. Raises
    InterruptedRunError; faults of backupd itself are not caught.
    """
    for target in targets:
        yield from _target(target)


def _target(target: BackupTarget) -> Iterator[BackupOutcome]:
    try:
        store = target.open()
    except BackupdError as error:
        yield from (_failed(target, job, error) for job in target.jobs)
        return
    broken: StoreError | None = None
    try:
        repository = Repository(store, target.trusted, target.keepers, target.region)
        for job in target.jobs:
            if broken is not None:
                yield _failed(target, job, broken)
                continue
            for outcome in _job(target, job, repository):
                broken = outcome.error if isinstance(outcome.error, StoreError) else broken
                yield outcome
    finally:
        store.close()


def _job(target: BackupTarget, job: BackupJob, repository: Repository) -> Iterator[BackupOutcome]:
    """Back up one database, or each of those the label stands for."""
    try:
        members = find_members(job.source, job.tenancy)
    except BackupdError as error:
        yield _failed(target, job, error)
        return
    for member in members:
        try:
            report = _tried(job, repository, target.node, member)
        except BackupdError as error:
            yield _failed(target, job, error)
            if isinstance(error, StoreError):
                return
        else:
            yield BackupOutcome(target.region, target.store, job.label, report)


def _tried(job: BackupJob, repository: Repository, node: Node, member: str | None) -> BackupReport:
    """Back up one database, again and with a new exported snapshot where it was busy, as long as that is any use.

    Each try begins with nothing of the one before, but what had reached the store by then need not be sent again.
    """
    began, tries = node.clock.monotonic(), 1
    while True:
        try:
            report = backup(job, repository, node, member)
        except SourceBusyError as error:
            pause = next_try(tries, node.clock.monotonic() - began, node.deadline)
            if pause is None:
                raise SourceBusyError(f"{error.message} (after {counted(tries, 'try')})", hint=error.hint) from None
            node.trace.emit(Warned(f"{job.label}: try {tries} of {TRIES} was in vain: {error.message}", error.hint))
            node.clock.sleep(pause)
            tries += 1
        else:
            return replaced(report, tries=tries)


def _failed(target: BackupTarget, job: BackupJob, error: BackupdError) -> BackupOutcome:
    return BackupOutcome(target.region, target.store, job.label, None, error)


def find_members(source: Source, tenancy: Tenancy) -> list[str | None]:
    """Return the real names of a label's databases; they may name tenants, so they must not be printed.

    `[None]` stands for the one database that the source names. Raises SourceError, SourceGoneError, UnmappedError.
    """
    if tenancy.kind is not TenancyKind.DATABASE:
        return [None]
    own, names = list_databases(source)
    return list(choose_members(tenancy, own, names))
