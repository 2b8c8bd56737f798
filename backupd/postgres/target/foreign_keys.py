"""Foreign keys made one by one, where rows may break some of them: PostgreSQL itself says which.

Each key is made for new rows first, which reads no row, and then validated for the existing rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from backupd.postgres.connect import Connection, identifier, qualified
from backupd.postgres.failures import translated
from backupd.postgres.schema.archive import Entry
from backupd.postgres.target.pg_restore import FOREIGN_KEYS

_UNCHECKED = ("NOT VALID", "NOT ENFORCED")
_MADE = """
SELECT n.nspname, c.relname, k.conname FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND k.xmin = pg_catalog.pg_current_xact_id()::xid
"""


@dataclass(frozen=True, slots=True)
class BrokenKey:
    """A foreign key that rows break. It has no schema, because a schema may be named after a tenant."""

    table: str
    constraint: str
    kept: bool
    """Whether it is kept for new rows (NOT VALID); older servers cannot keep a partitioned table's key so."""


def make_keys(connection: Connection, entries: Sequence[Entry]) -> list[BrokenKey]:
    """Make an archive's missing foreign keys with their comments, and return those that rows break.

    Raises SourceError when PostgreSQL refuses a key for another reason.
    """
    broken: list[BrokenKey] = []
    absent: set[int] = set()
    with translated():
        for entry in entries:
            if entry.description in FOREIGN_KEYS:
                found = _make(connection, entry)
                broken += [found] if found else []
                absent |= {entry.dump_id} if found and not found.kept else set()
            elif absent.isdisjoint(entry.dependencies):
                connection.execute(_encoded(entry.definition))
    return broken


def _make(connection: Connection, entry: Entry) -> BrokenKey | None:
    definition = entry.definition.rstrip().removesuffix(";")
    unchecked = definition.endswith(_UNCHECKED)
    try:
        with connection.transaction():
            connection.execute(_encoded(definition if unchecked else f"{definition} NOT VALID"))
            ((schema, table, constraint),) = connection.execute(_MADE).fetchall()
    except psycopg.errors.DuplicateObject:
        return None
    except (psycopg.errors.WrongObjectType, psycopg.errors.FeatureNotSupported):
        return _make_at_once(connection, entry)
    if unchecked:
        return None
    check = f"ALTER TABLE {qualified(schema, table)} VALIDATE CONSTRAINT {identifier(constraint)}"
    try:
        connection.execute(check.encode())
    except psycopg.errors.ForeignKeyViolation:
        return BrokenKey(table, constraint, kept=True)
    return None


def _make_at_once(connection: Connection, entry: Entry) -> BrokenKey | None:
    """Make a key of a partitioned table, which servers before 18 cannot make as NOT VALID."""
    try:
        connection.execute(_encoded(entry.definition))
    except psycopg.errors.ForeignKeyViolation:
        table, _, constraint = entry.tag.partition(" ")
        return BrokenKey(table, constraint, kept=False)
    return None


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
