"""Foreign keys that exist before any row is loaded: an extension makes those of its tables when it is created."""

from __future__ import annotations

from collections.abc import Iterable

from backupd.planning.load_order import EarlyKey
from backupd.postgres.connect import Connection, identifier, qualified

_KEYS = """
SELECT n.nspname, c.relname, pn.nspname, p.relname, k.conname, k.condeferrable FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 5
"""


def early_keys(connection: Connection) -> list[EarlyKey]:
    """Return the foreign keys that the database has now. Raises psycopg's errors."""
    found = connection.execute(_KEYS).fetchall()
    return [EarlyKey((row[0], row[1]), (row[2], row[3]), row[4], deferrable=row[5]) for row in found]


def defer(connection: Connection, keys: Iterable[EarlyKey]) -> None:
    """Have the open transaction check foreign keys at its end, these keys too, which are not deferrable.

    Raises psycopg's errors.
    """
    for key in keys:
        connection.execute(_changed(key, "DEFERRABLE"))
    connection.execute("SET CONSTRAINTS ALL DEFERRED")


def check_deferred(connection: Connection, keys: Iterable[EarlyKey]) -> None:
    """Check the deferred keys, and make these what they were before. Raises psycopg's errors."""
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for key in keys:
        connection.execute(_changed(key, "NOT DEFERRABLE"))


def _changed(key: EarlyKey, how: str) -> bytes:
    return f"ALTER TABLE {qualified(*key.table)} ALTER CONSTRAINT {identifier(key.name)} {how}".encode()
