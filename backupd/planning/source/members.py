"""Which databases of a server one configured label stands for (tenancy by database)."""

from __future__ import annotations

from collections.abc import Iterable

from backupd.errors import UnmappedError
from backupd.model.tenancy import Tenancy
from backupd.planning.source.names import named_tenant

MAINTENANCE = "postgres"
"""Made by initdb for connecting to; nobody's data unless the configuration leads there or its pattern matches."""


def choose_members(tenancy: Tenancy, own: str, names: Iterable[str]) -> list[str]:
    """The databases to back up: those named after tenants, and with `unclassified = "shared"` the others, too.

    `own` is the database the configuration leads to; it and `postgres` are left out when they are no tenant's. Raises
    UnmappedError, which names none of them, for others that match nothing.
    """
    matched = [name for name in names if named_tenant(tenancy.database_pattern, name) is not None]
    others = [name for name in names if name not in {*matched, own, MAINTENANCE}]
    if others and tenancy.unclassified == "refuse":
        raise UnmappedError(
            f"{len(others)} database(s) of the server are named after no tenant",
            hint='Widen database_pattern, or set unclassified = "shared" to back them up as nobody\'s.',
        )
    return sorted([*matched, *others])
