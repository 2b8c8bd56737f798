"""The segment that each schema object and each role belongs to.

An object is a tenant's when it lies in the tenant's schema, or when it cannot exist without an object that is. An
object that needs objects of several tenants is shared. Grants and settings are divided statement by statement: those
for a tenant's role are that tenant's, so that the role's name does not stay in the shared segment. The owner of an
object decides nothing: a shared table stays shared even when a tenant's role owns it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.schema.archive import ArchiveReader, Entry, pack_entry, with_definition
from backupd.postgres.schema.roles import without_grantor
from backupd.postgres.schema.statements import grouped, split_statements, words_in

_CUT = {"ACL", "DEFAULT ACL", "DATABASE PROPERTIES"}
_BEFORE_GRANTEES = {"TO", "FROM"}
_BEFORE_ROLES = {"ROLE", "BY", "AUTHORIZATION", "OWNER"}
"""Key words after which names of roles stand, like those above."""


@dataclass(frozen=True, slots=True)
class Ddl:
    """A schema archive by segment. Sealed data only."""

    head: bytes
    entries: dict[str | None, bytes]
    """The `ddl` file of each tenant that has one, and the shared one (None)."""


def divide_archive(read: Callable[[int], bytes], names: NamePatterns) -> Ddl:
    """Read an archive and give each segment its own entries.

    Raises SourceError for an archive that is cut or unknown.
    """
    reader = ArchiveReader(read)
    router = _Router(names)
    pieces: dict[str | None, list[bytes]] = {}
    cut: list[tuple[str, Entry, str]] = []
    highest = 0
    for entry in reader.entries():
        highest = max(highest, entry.dump_id)
        parts = router.parts(entry)
        for tenant, definition in parts.items():
            if len(parts) == 1:
                pieces.setdefault(tenant, []).append(pack_entry(entry.ordinal, entry.raw))
            elif tenant is None:
                raw = with_definition(entry, reader.shape, entry.dump_id, definition)
                pieces.setdefault(None, []).append(pack_entry(entry.ordinal, raw))
            else:
                cut.append((tenant, entry, definition))
    for dump_id, (tenant, entry, definition) in enumerate(cut, start=highest + 1):
        raw = with_definition(entry, reader.shape, dump_id, definition)
        pieces.setdefault(tenant, []).append(pack_entry(entry.ordinal, raw))
    return Ddl(reader.head, {tenant: b"".join(parts) for tenant, parts in pieces.items()})


class _Router:
    def __init__(self, names: NamePatterns) -> None:
        self._names = names
        self._owners: dict[int, str] = {}
        """Tenants by dump id, of entries that belong to one."""

    def parts(self, entry: Entry) -> dict[str | None, str]:
        """Return the entry's definition by tenant; with several tenants, each gets its own statements."""
        tenant = self._names.whole or self._owner(entry)
        if tenant is not None:
            self._owners[entry.dump_id] = tenant
            return {tenant: entry.definition}
        if entry.description == "POLICY":
            return {_only(_roles(entry.definition, self._names, _BEFORE_GRANTEES)): entry.definition}
        if entry.description not in _CUT:
            return {None: entry.definition}
        parts: dict[str | None, list[str]] = {}
        for statement in grouped(split_statements(entry.definition)):
            parts.setdefault(_beneficiary(statement, self._names), []).append(statement)
        if not parts:
            return {None: entry.definition}
        return {tenant: "".join(f"{statement}\n" for statement in part) for tenant, part in parts.items()}

    def _owner(self, entry: Entry) -> str | None:
        schema = entry.tag if entry.description == "SCHEMA" else entry.namespace
        own = self._names.schema(schema) if schema else None
        if own is not None:
            return own
        return _only({self._owners[needed] for needed in entry.dependencies if needed in self._owners})


def _only(tenants: Iterable[str]) -> str | None:
    found = set(tenants)
    return found.pop() if len(found) == 1 else None


def _roles(statement: str, names: NamePatterns, marks: set[str]) -> Iterator[str]:
    """Yield tenants whose roles stand after one of these key words."""
    behind = False
    for word in words_in(statement):
        if word.key:
            behind = word.text in marks
        elif behind and (tenant := names.role(word.text)) is not None:
            yield tenant


def _beneficiary(statement: str, names: NamePatterns) -> str | None:
    """Return the tenant of a statement about privileges: that of the grantee, else that of the role it concerns."""
    for marks in (_BEFORE_GRANTEES, _BEFORE_ROLES):
        for tenant in _roles(statement, names, marks):
            return tenant
    return None


def divide_globals(text: str, names: NamePatterns, unsaid: Collection[str] = ()) -> dict[str | None, str]:
    """Divide pg_dumpall's SQL by segment: a statement about a tenant's role is that tenant's.

    A membership between roles of two tenants goes to the member's tenant. Who granted one is left out for those that
    are `unsaid`.
    """
    parts: dict[str | None, list[str]] = {}
    for statement in split_statements(text):
        parts.setdefault(_global_owner(statement, names), []).append(without_grantor(statement, unsaid))
    return {tenant: "".join(f"{statement}\n" for statement in part) for tenant, part in parts.items()}


def _global_owner(statement: str, names: NamePatterns) -> str | None:
    if statement.startswith("GRANT ") and (tenant := _beneficiary(statement, names)) is not None:
        return tenant
    named = (names.role(word.text) for word in words_in(statement) if not word.key)
    return next((tenant for tenant in named if tenant is not None), None)
