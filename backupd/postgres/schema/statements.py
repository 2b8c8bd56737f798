"""SQL text of PostgreSQL's own programs: divided into statements, searched for names, rewritten for others. Pure."""

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
    """Yield each statement with its semicolon, without comments and without psql's own commands."""
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
    """The word without its quotes."""
    key: bool
    """Whether it is a key word: pg_dump writes those in capitals, and quotes names in capitals."""


@dataclass(frozen=True, slots=True)
class NameAt(Word):
    """A name or a key word with its place in the statement, quotes included."""

    start: int
    end: int


def words_in(statement: str) -> Iterator[Word]:
    """Yield the names and key words of a statement."""
    yield from names_at(statement)


def names_at(statement: str) -> Iterator[NameAt]:
    """Yield the names and key words of a statement with their places."""
    for token in _TOKEN.finditer(statement):
        if token["quoted"]:
            yield NameAt(token["quoted"][1:-1].replace('""', '"'), key=False, start=token.start(), end=token.end())
        elif token["word"]:
            yield NameAt(token["word"], key=token["word"].isupper(), start=token.start(), end=token.end())


def grouped(statements: Iterator[str]) -> Iterator[str]:
    """Yield statements, those under another session authorization together with the ones that set and reset it."""
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
"""Prefix of the name of every database that is not completely restored."""

_STRING = r"[Ee]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'"
_QUOTED = r'"(?:[^"]|"")*"'
_PROVIDER = re.compile(rf"(?P<skip>{_STRING}|{_QUOTED})| LOCALE_PROVIDER = libc\b", re.DOTALL)
_DATABASE = re.compile(rf"(?P<skip>{_STRING}|{_QUOTED})|\bDATABASE\s+(?P<name>{_QUOTED}|[^\s;\"]+)", re.DOTALL)


def temporary_name(token: str) -> str:
    """Return the name of a database during its restore; `token` makes it unique."""
    return TEMPORARY + token


def renamed(sql: str, name: str) -> str:
    """Rewrite pg_dump's statements about one database to the database `name`.

    pg_dump writes key words in capitals, and quotes a name that has any.
    """
    return _DATABASE.sub(lambda found: found[0] if found["skip"] else f"DATABASE {identifier(name)}", sql)


def without_provider(create: str) -> str:
    """Leave libc as a locale's provider out of a CREATE DATABASE: servers before 15 know no other, and not the word.

    pg_dump 15 and newer write it for their databases, too.
    """
    return _PROVIDER.sub(lambda found: found["skip"] or "", create)
