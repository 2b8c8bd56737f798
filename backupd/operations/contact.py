"""Trying out what a configuration leads to: every database a backup would read, every store it would write."""

from __future__ import annotations

from backupd.catalog.repository import Repository
from backupd.errors import BackupdError
from backupd.model.findings import Finding, Severity
from backupd.model.tenancy import Tenancy
from backupd.operations.members import find_members
from backupd.planning.source.tenancy import tenant_columns
from backupd.postgres.connect import Source, connect, elsewhere
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.preflight import preflight


def look_at_source(source: Source, tenancy: Tenancy) -> tuple[Finding, ...]:
    """Everything that stands in the way of a complete backup, of each database the label stands for; errors first."""
    found: list[Finding] = []
    try:
        for member in find_members(source, tenancy):
            place = source if member is None else elsewhere(source, member)
            with connect(place) as connection:
                found += preflight(connection, place, read_inventory(connection, tenant_columns(tenancy)))
    except BackupdError as error:
        found.append(_refusal(error))
    # The databases of one server mostly want the same mended.
    return tuple(sorted(dict.fromkeys(found), key=lambda finding: finding.severity is not Severity.ERROR))


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
