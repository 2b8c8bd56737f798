"""Holding an exported snapshot of a database that can be backed up completely, or saying what is in the way."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.errors import SourceError
from backupd.model.findings import Severity, errors_among
from backupd.planning.source.tenancy import tenant_columns
from backupd.postgres.connect import connect
from backupd.postgres.source.exported import hold
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight
from backupd.trace import Warned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backupd.model.findings import Finding
    from backupd.model.inventory import Inventory
    from backupd.operations.backup.values import BackupJob, Node
    from backupd.postgres.connect import Source
    from backupd.postgres.source.exported import Holder


@dataclass(frozen=True, slots=True)
class HeldSource:
    """A database under an exported snapshot, until the holder lets it go."""

    source: Source
    holder: Holder
    inventory: Inventory
    since: float
    """When it began, by the monotonic clock."""


@contextmanager
def held_source(source: Source, job: BackupJob, node: Node) -> Iterator[HeldSource]:
    """An exported snapshot with its tables locked, what it shows, and the certainty that the role may read all of it.

    No other backup of the database begins before the block ends, also when the snapshot was let go. Raises SourceError
    naming the first thing that is missing and how to mend it, and what `hold` does.
    """
    columns, since = tenant_columns(job.tenancy), node.clock.monotonic()
    with ExitStack() as stack:
        try:
            holder = stack.enter_context(hold(source, lock_timeout=node.lock_timeout, clock=node.clock))
        except SourceError as error:
            if not error.retryable:
                # Locking needs the very rights that preflight looks for, and PostgreSQL's refusal names no GRANT.
                with connect(source) as connection:
                    _refuse(preflight(connection, source, read_inventory(connection, columns)))
            raise
        inventory = read_inventory(holder.connection, columns)
        findings = preflight(holder.connection, source, inventory)
        _refuse(findings)
        for finding in findings:
            if finding.severity is Severity.WARNING:
                node.trace.emit(Warned(f"{job.label}: {finding.message}", finding.hint))
        yield HeldSource(source, holder, inventory, since)


def _refuse(findings: Sequence[Finding]) -> None:
    errors = errors_among(findings)
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise SourceError(f"{errors[0].message}{more}", hint=errors[0].hint)
