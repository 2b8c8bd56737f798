"""The tenants that schemas, roles and databases are named after, and the databases that one label stands for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from backupd.errors import ConfigError, UnmappedError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.model.text import counted


def named_tenant(pattern: str | None, name: str) -> str | None:
    """Return the tenant that a schema, database or role is named after; None when it is no tenant's.

    Raises ConfigError for a pattern that is no regular expression with a group `tenant`.
    """
    if pattern is None:
        return None
    try:
        found = re.fullmatch(pattern, name)
        return found.group("tenant") if found else None
    except (re.error, IndexError):
        raise ConfigError(
            "a tenancy pattern is not a regular expression with a group called 'tenant'",
            hint=r"Write it like tenant_(?P<tenant>\d+).",
        ) from None


class NamePatterns:
    """The tenancy's patterns applied to one database; each name is matched once."""

    def __init__(self, tenancy: Tenancy, database: str) -> None:
        self.whole = named_tenant(tenancy.database_pattern, database) if tenancy.kind is TenancyKind.DATABASE else None
        """The tenant that the whole database belongs to (tenancy by database)."""
        self._schema_pattern = tenancy.schema_pattern if tenancy.kind is TenancyKind.SCHEMA else None
        self._role_pattern = tenancy.role_pattern
        self._schemas: dict[str, str | None] = {}
        self._roles: dict[str, str | None] = {}

    def schema(self, name: str) -> str | None:
        """Return the tenant that the schema belongs to, or None."""
        if name not in self._schemas:
            self._schemas[name] = self.whole or named_tenant(self._schema_pattern, name)
        return self._schemas[name]

    def role(self, name: str) -> str | None:
        """Return the tenant that the role belongs to, in every database of the server, or None."""
        if name not in self._roles:
            self._roles[name] = named_tenant(self._role_pattern, name)
        return self._roles[name]


MAINTENANCE = "postgres"
"""A database made by initdb to connect to; nobody's data unless the configuration leads there or its pattern matches.
"""


def choose_members(tenancy: Tenancy, own: str, names: Iterable[str]) -> list[str]:
    """Choose the databases to back up: those named after tenants, and with `unclassified = "shared"` all others.

    `own` is the database that the configuration leads to; it, `postgres`, and those that the tenancy is without, are
    left out when they are no tenant's.
    Raises UnmappedError, which names none of them, when others match nothing.
    """
    matched = [name for name in names if named_tenant(tenancy.database_pattern, name) is not None]
    others = [name for name in names if name not in {*matched, own, MAINTENANCE, *tenancy.without_databases}]
    if others and tenancy.unclassified == "refuse":
        raise UnmappedError(
            f"{counted(len(others), 'database')} of the server named after no tenant",
            hint='Widen database_pattern; or set unclassified = "shared" to back them up as nobody\'s; or list under '
            "without_databases those that nobody needs.",
        )
    return sorted([*matched, *others])
