"""The entries of an archive that only a superuser can restore, as PostgreSQL's own rules have it. Pure.

Extensions are not among them: the server says which of those it trusts. Settings and privileges are tried there, too.
"""

from __future__ import annotations

import re

from backupd.postgres.schema.archive import Entry

_ALWAYS = frozenset(
    {
        "ACCESS METHOD",
        "EVENT TRIGGER",
        "FOREIGN DATA WRAPPER",
        "OPERATOR CLASS",
        "OPERATOR FAMILY",
        "PROCEDURAL LANGUAGE",
        "PUBLICATION TABLES IN SCHEMA",
        "SUBSCRIPTION",
        "TEXT SEARCH PARSER",
        "TEXT SEARCH TEMPLATE",
    }
)
_ROUTINES = frozenset({"FUNCTION", "PROCEDURE"})
_LANGUAGE = re.compile(r"^    LANGUAGE (?P<name>\S+)(?P<rest>.*)$", re.MULTILINE)
"""The line of a routine that pg_dump writes before its body."""
_UNTRUSTED = re.compile(r"c|internal|\w+u")
_WHERE = {
    # What others than the owner granted is granted as them.
    "ACL": re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE),
    "CAST": re.compile(r"WITHOUT FUNCTION"),
    "DEFAULT ACL": re.compile(r"^SET SESSION AUTHORIZATION ", re.MULTILINE),
    "PUBLICATION": re.compile(r"FOR ALL TABLES"),
    "TYPE": re.compile(r"CREATE TYPE [^;]*?\(\s*INTERNALLENGTH = "),
}
"""Marks in the statements of other kinds of objects, where some of them are only a superuser's."""


def needs_superuser(entry: Entry) -> bool:
    """Check whether a role that is no superuser, but a member of all owners, is refused this entry."""
    if entry.description in _ROUTINES:
        line = _LANGUAGE.search(entry.definition)
        return line is not None and (_UNTRUSTED.fullmatch(line["name"]) is not None or " LEAKPROOF" in line["rest"])
    mark = _WHERE.get(entry.description)
    return mark.search(entry.definition) is not None if mark else entry.description in _ALWAYS
