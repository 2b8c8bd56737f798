"""Changes to a schema on its way into another server: owners, privileges, tablespaces and roles. Pure.

Entries of the archive are rewritten, so that a restore, plain files and a drill's comparison all take the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from backupd.postgres.connect import identifier
from backupd.postgres.schema.archive import ArchiveReader, Entry, Shape, join_archive, rewritten
from backupd.postgres.schema.roles import replaced_roles

_PRIVILEGES = frozenset({"ACL", "DEFAULT ACL"})
_QUOTED = r'"(?:[^"]|"")*"'
_TABLESPACE = re.compile(rf"\s+TABLESPACE\s*=\s*(?P<name>{_QUOTED}|[^\s;\"]+)(?=\s*(;|\Z))")
"""The end of CREATE DATABASE for a database in a tablespace of its own."""
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """The changes that somebody asks for; by default, none."""

    no_owner: bool = False
    """Whether everything is to belong to the role that restores."""
    no_privileges: bool = False
    no_tablespaces: bool = False
    """Whether everything goes into the server's default tablespace."""
    tablespaces: Mapping[str, str] = field(default_factory=dict)
    """New names of tablespaces by their old ones."""
    roles: Mapping[str, str] = field(default_factory=dict, repr=False)
    """New names of roles by their old ones; a role may be named after a tenant."""

    def __bool__(self) -> bool:
        return bool(self.no_owner or self.no_privileges or self.no_tablespaces or self.tablespaces or self.roles)

    def applied(self, entry: Entry, shape: Shape) -> bytes | None:
        """Return an entry's changed bytes; None when it is left out."""
        if self.no_privileges and entry.description in _PRIVILEGES:
            return None
        definition = replaced_roles(entry, self.roles) if self.roles else entry.definition
        if entry.description == "DATABASE":
            definition = self._database(definition)
        owner = "" if self.no_owner else self.roles.get(entry.owner, entry.owner)
        return rewritten(
            entry, shape, definition=definition, owner=owner, tablespace=self._tablespace(entry.tablespace)
        )

    def _tablespace(self, name: str) -> str:
        return "" if self.no_tablespaces else self.tablespaces.get(name, name)

    def _database(self, definition: str) -> str:
        def changed(found: re.Match[str]) -> str:
            name = self._tablespace(_unquoted(found["name"]))
            return f" TABLESPACE = {identifier(name)}" if name else ""

        return _TABLESPACE.sub(changed, definition)


def database_tablespace(definition: str) -> str:
    """Return the tablespace that CREATE DATABASE names; empty when it names none."""
    found = _TABLESPACE.search(definition)
    return _unquoted(found["name"]) if found else ""


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def changed_archive(read: Callable[[int], bytes], changes: SchemaChanges) -> Iterator[bytes]:
    """Yield an archive, read once in order, with changed entries; its data stays as it is.

    Raises SourceError for anything but an archive.
    """
    reader = ArchiveReader(read)
    changed = (changes.applied(entry, reader.shape) for entry in reader.entries())
    yield join_archive(reader.head, enumerate(raw for raw in changed if raw is not None))
    while block := read(_BLOCK):
        yield block


def changed_entries(entries: Iterable[Entry], shape: Shape, changes: SchemaChanges) -> list[tuple[int, bytes]]:
    """Return ordinals and bytes of the entries that are left, changed."""
    found = ((entry.ordinal, changes.applied(entry, shape)) for entry in entries)
    return [(ordinal, raw) for ordinal, raw in found if raw is not None]
