"""Subscriptions of a database that is to be dropped: they keep it from being dropped, and must leave the publisher's
replication slot alone, which is that of the database they were copied from.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Any

import psycopg

from backupd.postgres.connect import Connection, identifier, resolved

_THERE = """
SELECT pg_catalog.count(*) FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = %s
"""
_OWN = """
SELECT s.subname FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
WHERE d.datname = pg_catalog.current_database()
"""


def count_subscriptions(connection: Connection, database: str) -> int:
    """Count the subscriptions of a database of this server. Raises psycopg's errors."""
    return int(connection.execute(_THERE, (database,)).fetchall()[0][0])


def drop_subscriptions(connection: Connection, database: str) -> None:
    """Drop the subscriptions of another database of the connection's server, if we may, and no replication slot."""
    with suppress(psycopg.Error):
        if not count_subscriptions(connection, database):
            return
        given: dict[str, Any] = {**resolved(connection), "dbname": database}
        with closing(psycopg.connect(**given, autocommit=True)) as inside:
            for (name,) in inside.execute(_OWN).fetchall():
                inside.execute(f"ALTER SUBSCRIPTION {identifier(name)} DISABLE".encode())
                inside.execute(f"ALTER SUBSCRIPTION {identifier(name)} SET (slot_name = NONE)".encode())
                inside.execute(f"DROP SUBSCRIPTION {identifier(name)}".encode())
