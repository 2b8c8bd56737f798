"""The new database: made under a temporary name, given its properties, and renamed when everything is in it."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import psycopg

from backupd.errors import RefusedError, SourceError
from backupd.postgres.connect import Connection, Source, identifier
from backupd.postgres.failures import reason, translate
from backupd.postgres.schema.statements import TEMPORARY, renamed, split_statements, without_provider, words_in
from backupd.postgres.target import session
from backupd.postgres.target.pg_restore import DatabaseSql
from backupd.postgres.target.subscriptions import drop_subscriptions

_RENAMES = 6
"""Tries to rename; in each the server itself waits five seconds for others to leave the database."""
_LONGEST = 63
_PROVIDERS = 150000
"""The `server_version_num` from which locales have providers."""

_LEFT = """
SELECT datname FROM pg_catalog.pg_database d WHERE pg_catalog.starts_with(datname::text, %s)
AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.backend_type = 'client backend')
ORDER BY 1
"""


def check_name(connection: Connection, name: str) -> None:
    """Refuse a name that is taken, or that the server would cut short. Raises RefusedError."""
    if not name or len(name.encode()) > _LONGEST:
        raise RefusedError(
            "the name of the new database is empty or longer than 63 bytes", hint="Choose another in --target."
        )
    taken = connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchall()
    if taken:
        raise RefusedError(
            "the target names a database that exists already",
            hint="A restore makes new databases: give a name that is free in --target, or a region another --suffix, "
            "or drop it first.",
        )


def oid_of(connection: Connection, name: str) -> int | None:
    """Return a database's oid, which differs from that of earlier ones of the same name; None when there is none."""
    found = connection.execute("SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchall()
    return int(found[0][0]) if found else None


def leftovers(connection: Connection) -> list[str]:
    """List databases of interrupted restores: they have a temporary name, and nobody is connected to them."""
    return [name for (name,) in connection.execute(_LEFT, (TEMPORARY,)).fetchall()]


def create(connection: Connection, sql: DatabaseSql, name: str, *, strict: bool = True) -> None:
    """Make the database as the archive does, under another name, with its owner and without its other properties.

    The owner comes first, as pg_restore has it: what is made in the database may need its owner's rights. Where not
    `strict`, an owner that cannot be set is left out. Raises SourceError.
    """
    made = renamed(sql.create, name)
    try:
        connection.execute((made if connection.info.server_version >= _PROVIDERS else without_provider(made)).encode())
    except psycopg.Error as error:
        refused = translate(error)
        raise SourceError(
            f"the database cannot be made as it was: {refused.message}",
            hint="Give the user of --target CREATEDB, or name a superuser there."
            if error.sqlstate == "42501"
            else "Its locale, its tablespace or ICU may be missing on this server.",
        ) from None
    if sql.owner:
        with suppress(*(() if strict else (psycopg.Error,))):
            connection.execute(f"ALTER DATABASE {identifier(name)} OWNER TO {identifier(sql.owner)}".encode())


def drop_public(source: Source, name: str) -> bool:
    """Remove the schema `public` of a new database; return False where the role may not. Raises SourceError."""
    with session.connect(source, name) as connection:
        try:
            connection.execute("DROP SCHEMA IF EXISTS public")
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True


def publish(
    connection: Connection, sql: DatabaseSql, temporary: str, name: str, left_out: list[str] | None = None
) -> None:
    """Give the database comment, privileges, settings and its final name, in one transaction.

    With `left_out`, the reasons of what PostgreSQL refuses are put into it, and the rest is done. Raises SourceError;
    SourceBusyError when others stay connected to it.
    """
    for left in reversed(range(_RENAMES)):
        try:
            with connection.transaction():
                connection.execute("SET LOCAL synchronous_commit = on")
                if left_out is None:
                    set_properties(connection, sql, temporary)
                else:
                    left_out[:] = _set_what_can_be(connection, sql, temporary)
                connection.execute(f"ALTER DATABASE {identifier(temporary)} RENAME TO {identifier(name)}".encode())
        except psycopg.errors.ObjectInUse as error:
            if not left:
                raise translate(error) from None
        else:
            return


def set_properties(connection: Connection, sql: DatabaseSql, name: str) -> None:
    """Give the database `name` the archive's comment, privileges, settings and limits. Raises psycopg's errors."""
    for statements in sql.properties:
        connection.execute(renamed(statements, name).encode())


def _set_what_can_be(connection: Connection, sql: DatabaseSql, name: str) -> list[str]:
    """Set the properties that the server takes; returns the reasons of those that it refuses."""
    refused: list[str] = []
    for statement in (one for text in sql.properties for one in split_statements(renamed(text, name))):
        try:
            with connection.transaction():
                connection.execute(statement.encode(errors="surrogateescape"))
        except psycopg.Error as error:
            if connection.broken:
                raise
            refused.append(f"{database_part(statement)}: {reason(error)}")
    return refused


def database_part(statement: str) -> str:
    """Return what a statement about the database does, without the names of database and roles."""
    words = list(words_in(statement))
    for word, following in pairwise(words):
        if word.key and word.text == "SET":
            return f"setting {following.text}"
    return " ".join(word.text for word in words[:2] if word.key) or "statement"


def drop(source: Source, name: str) -> bool:
    """Remove a database that was not completed; return whether it is gone."""
    with suppress(SourceError), session.connect(source, session.MAINTENANCE) as connection:
        drop_subscriptions(connection, name)
        connection.execute(f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)".encode())
        return True
    return False
