"""The segment that each schema object and each role belongs to.

An object is a tenant's when it lies in the tenant's schema, or when it cannot exist without an object that is. An
object that needs objects of several tenants is shared. Grants and settings are divided statement by statement: those
for a tenant's role are that tenant's, so that the role's name does not stay in the shared segment. The owner of an
object decides nothing: a shared table stays shared even when a tenant's role owns it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from backupd.planning.incremental.steady_numbers import Numbering, SteadyNumber
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres.schema.archive import ArchiveReader, Entry, Shape, pack_entry, renumbered, with_definition
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


@dataclass(frozen=True, slots=True)
class _Piece:
    """An entry, or a tenant's part of one."""

    tenant: str | None
    ordinal: int
    dump_id: int
    raw: bytes
    needs: tuple[int, ...]
    needs_at: int
    """Offset in `raw` at which they stand."""
    name: tuple[str, ...]


def divide_archive(read: Callable[[int], bytes], names: NamePatterns, numbering: Numbering | None = None) -> Ddl:
    """Read an archive and give each segment its own entries.

    Entries keep pg_dump's dump ids and places, which depend on all other entries, unless there is a `numbering`. Raises
    SourceError for an archive that is cut or unknown.
    """
    reader = ArchiveReader(read)
    pieces = _pieces(reader, _Router(names))
    if numbering is not None:
        pieces = _renumbered(pieces, reader.shape, numbering)
    packed: dict[str | None, list[bytes]] = {}
    for piece in pieces:
        packed.setdefault(piece.tenant, []).append(pack_entry(piece.ordinal, piece.raw))
    return Ddl(reader.head, {tenant: b"".join(parts) for tenant, parts in packed.items()})


def _pieces(reader: ArchiveReader, router: _Router) -> list[_Piece]:
    found: list[_Piece] = []
    cut: list[tuple[int, str, Entry, str]] = []
    highest = 0
    for entry in reader.entries():
        highest = max(highest, entry.dump_id)
        parts = router.parts(entry)
        for tenant, definition in parts.items():
            if len(parts) > 1 and tenant is not None:
                cut.append((len(found), tenant, entry, definition))
            raw = entry.raw if len(parts) == 1 else with_definition(entry, reader.shape, entry.dump_id, definition)
            found.append(_piece(tenant, entry, entry.dump_id, raw))
    for dump_id, (at, tenant, entry, definition) in enumerate(cut, start=highest + 1):
        found[at] = _piece(tenant, entry, dump_id, with_definition(entry, reader.shape, dump_id, definition))
    return found


def _piece(tenant: str | None, entry: Entry, dump_id: int, raw: bytes) -> _Piece:
    needs_at = entry.dependencies_at + len(raw) - len(entry.raw)
    name = (entry.description, entry.namespace, entry.tag)
    return _Piece(tenant, entry.ordinal, dump_id, raw, entry.dependencies, needs_at, name)


def _renumbered(pieces: list[_Piece], shape: Shape, numbering: Numbering) -> list[_Piece]:
    """Return the pieces, in order, with the dump ids and places that a numbering gives them.

    What pieces need and the archive lacks, as it does the schema `public`, is numbered as one more member.
    """
    there = {piece.dump_id for piece in pieces}
    keys: list[bytes] = []
    at: list[int] = []
    lacking: dict[int, int] = {}
    alike: Counter[bytes] = Counter()
    for piece in pieces:
        key = "\0".join((piece.tenant or "", *piece.name)).encode(errors="surrogateescape")
        alike[key] += 1
        key = b"%b\0%d" % (key, alike[key])
        for place, needed in enumerate(piece.needs):
            if needed not in there and needed not in lacking:
                lacking[needed] = len(keys)
                keys.append(b"%b\0%d" % (key, place))
        at.append(len(keys))
        keys.append(key)
    given = numbering(keys)
    ids = {needed: given[place].number for needed, place in lacking.items()}
    ids |= {piece.dump_id: given[place].number for piece, place in zip(pieces, at, strict=True)}
    return [
        # pg_dump lists what an entry needs in any order, which changes from one dump to the next; it means nothing.
        _numbered(piece, shape, given[place], sorted(ids[needed] for needed in piece.needs))
        for piece, place in zip(pieces, at, strict=True)
    ]


def _numbered(piece: _Piece, shape: Shape, given: SteadyNumber, needs: list[int]) -> _Piece:
    raw = renumbered(piece.raw, shape, piece.needs_at, given.number, needs)
    return replace(piece, ordinal=given.place, raw=raw)


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
