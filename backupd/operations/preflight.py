"""Try out what a configuration leads to: every database that a backup would read, every store that it would write, and
how each table is mapped to tenants (`backupd tenancy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backupd.errors import BackupdError, UnmappedError
from backupd.model.findings import Finding, Severity
from backupd.model.inventory import Inventory, Table
from backupd.model.tenancy import (
    ClassPolicy,
    Tenancy,
)
from backupd.operations.backup.region import find_members
from backupd.operations.tenant_key import check_tenant_key
from backupd.planning.incremental.facts import Reason
from backupd.planning.mapping.tables import map_tables, never_read, require_mapped, tenant_columns
from backupd.postgres.connect import Source, connect, other_database
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight
from backupd.postgres.source.wal_summaries import cure, find_obstacle
from backupd.repository.repository import Repository
from backupd.seal.tags import TenantTags

UNMAPPED = "unmapped"
"""Code of findings about the tables' tenants, not about the role or the server."""


def check_source(source: Source, tenancy: Tenancy, incremental: str = "off") -> tuple[Finding, ...]:
    """Return everything that prevents a complete backup of each database the label stands for, errors first.

    Unless `incremental` is off, also what its server lacks for parts of tables to be taken over unread.
    """
    found: list[Finding] = []
    try:
        for member in find_members(source, tenancy):
            place = source if member is None else other_database(source, member)
            with connect(place) as connection:
                inventory = read_inventory(connection, tenant_columns(tenancy))
                found += preflight(connection, place, inventory, never_read(tenancy, inventory))
                found += _mapping_findings(tenancy, inventory)
        found += missing_for_unread(source, incremental)
    except BackupdError as error:
        found.append(_refusal(error))
    return _errors_first(found)


def missing_for_unread(source: Source, incremental: str) -> tuple[Finding, ...]:
    """Return what a server lacks for parts of tables to be taken over unread, with the statements that help.

    Where nothing requires it, a server may be too old, or a standby. Raises SourceError, SourceGoneError.
    """
    if incremental == "off":
        return ()
    with connect(source) as connection:
        obstacle, required = find_obstacle(connection), incremental == "require"
        if obstacle is None or (not required and obstacle in (Reason.OLD_SERVER, Reason.STANDBY)):
            return ()
        severity, message = Severity.ERROR if required else Severity.WARNING, f"everything is read: {obstacle.value}"
        return (Finding(severity, "incremental", message, cure(connection, obstacle)),)


@dataclass(frozen=True, slots=True)
class BackupPreview:
    """The tables that a backup of one label would read now. Rows are PostgreSQL's estimates."""

    databases: int
    """The databases that the label stands for."""
    tables: int
    """Tables whose rows would be read."""
    left_out: int
    """Tables of which only the structure would be: their class is never backed up."""
    rows: int
    unknown: int
    """Tables whose rows nobody has estimated: they were never analyzed."""
    bytes: int
    """The size of the tables that would be read, with what is stored out of line, without indexes."""
    findings: tuple[Finding, ...] = ()
    """Everything that stands in the way, errors first."""


def preview_backup(source: Source, tenancy: Tenancy) -> BackupPreview:
    """Look at each database that a label stands for, and count what a backup of it would read.

    Nothing is locked or written. Errors of PostgreSQL become findings.
    """
    found: list[Finding] = []
    read: list[Table] = []
    databases = left_out = 0
    try:
        for member in find_members(source, tenancy):
            place = source if member is None else other_database(source, member)
            with connect(place) as connection:
                inventory = read_inventory(connection, tenant_columns(tenancy))
                found += preflight(connection, place, inventory, never_read(tenancy, inventory))
            found += _mapping_findings(tenancy, inventory)
            tables, databases = inventory.by_name(), databases + 1
            mapped = map_tables(tenancy, inventory).tables
            kept = [tables[one.table] for one in mapped if one.policy is ClassPolicy.STANDARD]
            read += kept
            left_out += len(mapped) - len(kept)
    except BackupdError as error:
        found.append(_refusal(error))
    return BackupPreview(
        databases=databases,
        tables=len(read),
        left_out=left_out,
        rows=sum(table.rows or 0 for table in read),
        unknown=sum(table.rows is None for table in read),
        bytes=sum(table.size for table in read),
        findings=_errors_first(found),
    )


def _errors_first(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return each finding once; the databases of one server mostly have the same."""
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity is not Severity.ERROR))


def _mapping_findings(tenancy: Tenancy, inventory: Inventory) -> tuple[Finding, ...]:
    """Return what a backup would refuse about the tables' tenants."""
    try:
        require_mapped(map_tables(tenancy, inventory))
    except UnmappedError as error:
        return (Finding(Severity.ERROR, UNMAPPED, error.message, error.hint),)
    return ()


def check_store(repository: Repository, tags: TenantTags | None) -> tuple[Finding, ...]:
    """Check whether the store answers and holds a repository of a trusted signer, written under the tenant key of
    `tags`, if there is one; returns nothing when all is so.
    """
    try:
        if not repository.exists():
            return (
                Finding(
                    Severity.WARNING, "no-repository", "there is no repository yet", "`backupd init REGION` makes it."
                ),
            )
        repository.info()
        if tags is not None:
            check_tenant_key(repository, tags)
    except BackupdError as error:
        return (_refusal(error),)
    return ()


def _refusal(error: BackupdError) -> Finding:
    code = UNMAPPED if isinstance(error, UnmappedError) else "unreachable" if error.retryable else "refused"
    return Finding(Severity.ERROR, code, error.message, error.hint)
