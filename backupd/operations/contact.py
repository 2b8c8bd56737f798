"""Trying out what a configuration leads to: every database a backup would read, every store it would write."""

from __future__ import annotations

from backupd.catalog.repository import Repository
from backupd.errors import BackupdError, UnmappedError
from backupd.model.findings import Finding, Severity
from backupd.model.inventory import Inventory
from backupd.model.tenancy import Tenancy
from backupd.operations.members import find_members
from backupd.planning.source.tenancy import map_tables, require_mapped, tenant_columns
from backupd.postgres.connect import Source, connect, elsewhere
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight

UNMAPPED = "unmapped"
"""The code of a finding about the tables' tenants, not the role or the server."""


def look_at_source(source: Source, tenancy: Tenancy) -> tuple[Finding, ...]:
    """Everything that stands in the way of a complete backup, of each database the label stands for; errors first."""
    found: list[Finding] = []
    try:
        for member in find_members(source, tenancy):
            place = source if member is None else elsewhere(source, member)
            with connect(place) as connection:
                inventory = read_inventory(connection, tenant_columns(tenancy))
                found += preflight(connection, place, inventory)
                found += _mapping_findings(tenancy, inventory)
    except BackupdError as error:
        found.append(_refusal(error))
    # The databases of one server mostly want the same mended.
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity is not Severity.ERROR))


def _mapping_findings(tenancy: Tenancy, inventory: Inventory) -> tuple[Finding, ...]:
    """What a backup would refuse about the tables' tenants."""
    try:
        require_mapped(map_tables(tenancy, inventory))
    except UnmappedError as error:
        return (Finding(Severity.ERROR, UNMAPPED, error.message, error.hint),)
    return ()


def look_at_store(repository: Repository) -> tuple[Finding, ...]:
    """Whether the store answers, and holds a repository we believe."""
    try:
        if not repository.exists():
            return (
                Finding(
                    Severity.WARNING, "no-repository", "there is no repository yet", "`backupd init REGION` makes it."
                ),
            )
        repository.info()
    except BackupdError as error:
        return (_refusal(error),)
    return ()


def _refusal(error: BackupdError) -> Finding:
    return Finding(Severity.ERROR, "unreachable" if error.retryable else "refused", error.message, error.hint)
