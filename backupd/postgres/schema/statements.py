"""SQL text, as PostgreSQL's own programs write it, cut into statements and searched for names.

Names a database has while it is restored, and SQL rewritten to them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from backupd.postgres.connect import identifier

_TOKEN = re.compile(
    r"""(?P<skip>--[^\n]*|(?:^|(?<=\n))\\[^\n]*)"""
    r"""|(?P<string>[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\$(?P<mark>\w*)\$.*?\$(?P=mark)\$)"""
    r"""|(?P<quoted>"(?:[^"]|"")*")"""
    r"""|(?P<word>[^\W\d][\w$]*)"""
    r"""|(?P<end>;)""",
    re.DOTALL,
)


def split_statements(text: str) -> Iterator[str]:
    """Each statement with its semicolon, without comments and without psql's own commands."""
    pieces: list[str] = []
    position = 0
    for token in _TOKEN.finditer(text):
        pieces.append(text[position : token.start()])
        position = token.end()
        if token["skip"] is None:
            pieces.append(token[0])
        if token["end"]:
            yield "".join(pieces).strip()
            pieces = []
    rest = "".join([*pieces, text[position:]]).strip()
    if rest:
        yield rest


@dataclass(frozen=True, slots=True)
class Word:
    """A name or a key word outside strings and comments."""

    text: str
    """Unquoted."""
    key: bool
    """Whether it is a key word: pg_dump writes those in capitals, and quotes names in capitals."""


def words_in(statement: str) -> Iterator[Word]:
    for token in _TOKEN.finditer(statement):
        if token["quoted"]:
            yield Word(token["quoted"][1:-1].replace('""', '"'), key=False)
        elif token["word"]:
            yield Word(token["word"], key=token["word"].isupper())


def grouped(statements: Iterator[str]) -> Iterator[str]:
    """Statements, with those run under another session authorization kept together with what sets and resets it."""
    group: list[str] = []
    for statement in statements:
        group.append(statement)
        inside = group[0].startswith("SET SESSION AUTHORIZATION") and not statement.startswith("RESET SESSION")
        if not inside:
            yield "\n".join(group)
            group = []
    if group:
        yield "\n".join(group)


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
