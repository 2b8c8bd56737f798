"""Which schemas, roles and databases are named after tenants."""

from __future__ import annotations

import re

from backupd.errors import ConfigError
from backupd.model.tenancy import Tenancy, TenancyKind


def named_tenant(pattern: str | None, name: str) -> str | None:
    """The tenant a schema, database or role is named after; None when it is nobody's.

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
    """The tenancy's patterns applied to one database; each name is looked at once."""

    def __init__(self, tenancy: Tenancy, database: str) -> None:
        self.whole = named_tenant(tenancy.database_pattern, database) if tenancy.kind is TenancyKind.DATABASE else None
        """Whom the whole database belongs to (tenancy by database)."""
        self._schema_pattern = tenancy.schema_pattern if tenancy.kind is TenancyKind.SCHEMA else None
        self._role_pattern = tenancy.role_pattern
        self._schemas: dict[str, str | None] = {}
        self._roles: dict[str, str | None] = {}

    def schema(self, name: str) -> str | None:
        """The tenant whose schema it is."""
        if name not in self._schemas:
            self._schemas[name] = self.whole or named_tenant(self._schema_pattern, name)
        return self._schemas[name]

    def role(self, name: str) -> str | None:
        """The tenant whose role it is, whatever the database."""
        if name not in self._roles:
            self._roles[name] = named_tenant(self._role_pattern, name)
        return self._roles[name]
