"""Names a database has while it is restored, and SQL rewritten to them. Pure."""

from __future__ import annotations

import re

from backupd.postgres.quoting import identifier

TEMPORARY = "backupd_restoring_"
"""Begins the name of every database that is not completely restored."""

_STRING = r"[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'"
_QUOTED = r'"(?:[^"]|"")*"'
_DATABASE = re.compile(rf"(?P<skip>{_STRING}|{_QUOTED})|\bDATABASE\s+(?P<name>{_QUOTED}|[^\s;\"]+)", re.DOTALL)


def temporary_name(token: str) -> str:
    """The name of a database under restore; `token` makes it the only one of its kind."""
    return TEMPORARY + token


def renamed(sql: str, name: str) -> str:
    """pg_dump's statements about one database, turned into the same about the database `name`.

    pg_dump writes key words in capitals, and quotes a name that has any.
    """
    return _DATABASE.sub(lambda found: found[0] if found["skip"] else f"DATABASE {identifier(name)}", sql)
