"""The last steps of a restore: values of sequences, contents of materialized views, statistics, roles."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from backupd.errors import SourceError
from backupd.postgres.connect import Connection, qualified
from backupd.postgres.failures import reason, translate
from backupd.postgres.schema.roles import grantor_of, without_grantor
from backupd.postgres.schema.statements import split_statements, words_in
from backupd.postgres.target import session

if TYPE_CHECKING:
    from backupd.model.manifest import SequenceValue

_SETVAL = """
SELECT pg_catalog.count(pg_catalog.setval(pg_catalog.format('%%I.%%I', s, n)::pg_catalog.regclass, v, c))
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::int8[]),
  pg_catalog.unnest(%s::bool[])) AS t (s, n, v, c)
"""
_IF_THERE = "WHERE pg_catalog.to_regclass(pg_catalog.format('%%I.%%I', s, n)) IS NOT NULL"
_BATCH = 1000


def set_sequences(connection: Connection, values: Sequence[SequenceValue], *, present: bool = False) -> None:
    """Set the value of every sequence, or of those that are `present`.

    Raises SourceError.
    """
    statement = (_SETVAL + _IF_THERE if present else _SETVAL).encode()
    for start in range(0, len(values), _BATCH):
        columns = [list(column) for column in zip(*values[start : start + _BATCH], strict=True)]
        connection.execute(statement, columns)


def disable_event_triggers(connection: Connection) -> None:
    """Keep the database's own event triggers from firing for what a restore does.

    Only superusers can make such triggers, and only they can do this.
    """
    if session.is_superuser(connection):
        late = connection.info.server_version >= 170000
        connection.execute("SET event_triggers = off" if late else "SET session_replication_role = replica")


@dataclass(frozen=True, slots=True)
class UnfilledView:
    """A materialized view that cannot be filled here. It has no schema, as a schema may be named after a tenant."""

    view: str
    reason: str
    """PostgreSQL's name of the error, and its SQLSTATE."""


def refresh(connection: Connection, views: Sequence[Sequence[str]]) -> list[UnfilledView]:
    """Fill materialized views, in this order, and return those that cannot be: they hold no row of their own.

    Raises SourceGoneError when the connection breaks.
    """
    unfilled: list[UnfilledView] = []
    # Each is refreshed as its owner, to whom row security applies as it did at the source.
    connection.execute("SET row_security = on")
    for schema, name in views:
        try:
            connection.execute(f"REFRESH MATERIALIZED VIEW {qualified(schema, name)}".encode())
        except psycopg.Error as error:
            if connection.broken:
                raise translate(error) from None
            unfilled.append(UnfilledView(name, reason(error)))
    return unfilled


def analyze(connection: Connection) -> None:
    connection.execute("ANALYZE")


def create_roles(connection: Connection, scripts: Iterable[str], unwanted: Collection[str] = ()) -> int:
    """Make the roles of `globals` files that do not exist yet, with settings and memberships; return how many.

    Those that are `unwanted` are not made. Existing roles, and tablespaces, whose folders are the other machine's, are
    left unchanged. Raises SourceError.
    """
    every = [statement for script in scripts for statement in split_statements(script)]
    statements = [statement for statement in every if not unwanted or not set(_names(statement)) & set(unwanted)]
    known = {name for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()}
    new = {_names(statement)[0] for statement in statements if statement.startswith("CREATE ROLE ")} - known
    with connection.transaction():
        # Scripts of several segments refer to each other's roles, so all are made before any is granted.
        for beginnings in (("CREATE ROLE ",), ("ALTER ROLE ", "COMMENT ON ROLE ", "SECURITY LABEL "), ("GRANT ",)):
            for statement in statements:
                if statement.startswith(beginnings) and not new.isdisjoint(_names(statement)):
                    _run_as_granted(connection, statement, known | new)
    return len(new)


def _names(statement: str) -> list[str]:
    return [word.text for word in words_in(statement) if not word.key]


_BY_SUPERUSER = (
    "Have a superuser of the target make the roles, as superusers and BYPASSRLS always want it; or give what they own "
    "to others, without --globals: --role-map, --no-owner, --no-acl."
)


def _run_as_granted(connection: Connection, statement: str, known: set[str]) -> None:
    """Run a statement; a membership is granted by whom it was, or else by the role that restores.

    From 16 on a grantor has the role with ADMIN OPTION, or is the superuser that initdb made: on another server that
    may be another one, and the origin's is a superuser like others.
    """
    if grantor_of(statement) in known:
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(statement.encode(errors="surrogateescape"))
            return
    _run(connection, without_grantor(statement))


def _run(connection: Connection, statement: str) -> None:
    try:
        connection.execute(statement.encode(errors="surrogateescape"))
    except psycopg.Error as error:
        refused = translate(error)
        hint = _BY_SUPERUSER if error.sqlstate == "42501" else refused.hint
        raise SourceError(f"a role cannot be made as it was: {refused.message}", hint=hint) from None
