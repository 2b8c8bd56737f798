"""The things that a schema needs of the server it is restored into, as its archive names them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from backupd.postgres.schema.archive import Entry
from backupd.postgres.schema.changes import database_tablespace
from backupd.postgres.schema.privileged import needs_superuser
from backupd.postgres.schema.roles import named_roles

OWNER_OF_DATABASE = "pg_database_owner"
"""PostgreSQL's own role, whose only member is the owner of the database; nobody can be made one."""
_TRIED = frozenset({"EVENT TRIGGER", "PUBLICATION", "SUBSCRIPTION"})


@dataclass(frozen=True, slots=True)
class SchemaNeeds:
    """The names of what has to be there, or has to be allowed, before anything is loaded."""

    roles: frozenset[str] = field(default=frozenset(), repr=False)
    owners: frozenset[str] = field(default=frozenset(), repr=False)
    """Roles of those that own something: the restoring role has to be a member of each."""
    tablespaces: frozenset[str] = frozenset()
    extensions: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    """Kinds of objects that are made after the rows, and not by every role."""
    privileged: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Kind and name of each object that only a superuser can make; a name may hold a tenant's."""


def schema_needs(entries: Iterable[Entry]) -> SchemaNeeds:
    """Return what an archive's entries need."""
    roles: set[str] = set()
    owners: set[str] = set()
    tablespaces: set[str] = set()
    extensions: set[str] = set()
    kinds: set[str] = set()
    privileged: list[tuple[str, str]] = []
    for entry in entries:
        roles |= named_roles(entry)
        owners.add(entry.owner)
        tablespaces.add(entry.tablespace)
        if needs_superuser(entry):
            privileged.append((entry.description, entry.tag))
        if entry.description == "EXTENSION":
            extensions.add(entry.tag)
        elif entry.description == "DATABASE":
            tablespaces.add(database_tablespace(entry.definition))
        elif entry.description in _TRIED and (entry.description != "PUBLICATION" or "ALL TABLES" in entry.definition):
            kinds.add(entry.description)
    none = frozenset({""})
    return SchemaNeeds(
        frozenset(roles),
        frozenset(owners) - none,
        frozenset(tablespaces) - none,
        frozenset(extensions),
        frozenset(kinds),
        tuple(privileged),
    )
