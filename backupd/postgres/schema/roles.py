"""Roles that an archive's statements name: found, and replaced by others; and who granted a membership. Pure.

pg_dump writes key words in capitals and quotes names in capitals, so that a role is the name behind certain key words.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from backupd.postgres.connect import identifier
from backupd.postgres.schema.archive import Entry
from backupd.postgres.schema.statements import NameAt, names_at, split_statements, words_in

_MARKS = {
    "ACL": frozenset({"TO", "FROM", "AUTHORIZATION"}),
    "DEFAULT ACL": frozenset({"TO", "FROM", "ROLE", "AUTHORIZATION"}),
    "DATABASE PROPERTIES": frozenset({"ROLE"}),
    "USER MAPPING": frozenset({"FOR"}),
    "POLICY": frozenset({"TO"}),
}
"""Key words behind which roles stand, by kind of entry."""
_ENDS = {"POLICY": frozenset({"USING", "WITH"}), "DATABASE PROPERTIES": frozenset({"SET"})}
"""Key words behind which no role stands any more in a statement."""


def named_roles(entry: Entry) -> set[str]:
    """Return the roles that an entry names, its owner among them."""
    found = {entry.owner} - {""}
    if entry.description in _MARKS:
        found |= {name.text for statement in split_statements(entry.definition) for name in _roles(entry, statement)}
    return found


def replaced_roles(entry: Entry, roles: Mapping[str, str]) -> str:
    """Return the entry's definition with other roles in place of these."""
    if entry.description not in _MARKS:
        return entry.definition
    changed = [
        _replaced(statement, _roles(entry, statement), roles) for statement in split_statements(entry.definition)
    ]
    return "".join(f"{statement}\n" for statement in changed)


_GRANTOR = re.compile(r"\s+GRANTED BY\s+(\"(?:[^\"]|\"\")*\"|[^\s;]+)\s*;\Z")


def grantor_of(statement: str) -> str | None:
    """Return who granted the membership that pg_dumpall's statement gives; None where none is named."""
    found = _GRANTOR.search(statement) if statement.startswith("GRANT ") else None
    return next((word.text for word in words_in(found[1]) if not word.key), None) if found else None


def without_grantor(statement: str, grantors: Collection[str] | None = None) -> str:
    """Return a membership's statement that does not say who granted it, if it was one of these, or anybody."""
    found = grantor_of(statement)
    return (
        statement if found is None or (grantors is not None and found not in grantors) else _GRANTOR.sub(";", statement)
    )


def _replaced(statement: str, names: Iterable[NameAt], roles: Mapping[str, str]) -> str:
    pieces: list[str] = []
    position = 0
    for name in names:
        if name.text in roles:
            pieces += [statement[position : name.start], identifier(roles[name.text])]
            position = name.end
    return "".join([*pieces, statement[position:]])


def _roles(entry: Entry, statement: str) -> Iterator[NameAt]:
    marks, ends = _MARKS.get(entry.description, frozenset()), _ENDS.get(entry.description, frozenset())
    behind = False
    for name in names_at(statement):
        if name.key and name.text in ends:
            return
        if name.key:
            behind = name.text in marks
        elif behind and name.text != "public":  # pg_dump writes the mapping for everybody so
            yield name
