"""Connections to the server that a database is restored into, under settings that read text as it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from backupd.postgres import settings
from backupd.postgres.connect import Connection, Source, address, parameters, refuse_pooler
from backupd.postgres.failures import translated

MAINTENANCE = "postgres"
"""The database to connect to while another one is created, renamed or dropped."""

_LOADING = {
    **settings.TEXT,
    # Off, it has `NULL` in an array mean a text, without an error; what is written is the same either way.
    "array_nulls": "on",
    "search_path": "",
    "row_security": "off",
    "check_function_bodies": "off",
    "default_transaction_read_only": "off",
    "client_min_messages": "error",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    # Nothing counts before the new database gets its name, and that commit is waited for.
    "synchronous_commit": "off",
    # A new database has no statistics yet, and compiling a query of its catalog takes longer than the query.
    "jit": "off",
}
_SET = """
SELECT pg_catalog.set_config(n, v, false)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS s (n, v)
"""
_SINCE = {140000: "idle_session_timeout", 170000: "transaction_timeout"}


@contextmanager
def connect(source: Source, database: str, text: Mapping[str, str] | None = None) -> Iterator[Connection]:
    """Yield a connection to a database of the target's server, in autocommit, closed afterwards.

    `text` are the settings under which a snapshot's rows were written. PostgreSQL's errors leave the block as
    SourceErrors, which is raised for a pooler, too: it hands our settings on to the next application.
    """
    with translated(address(source)):
        connection = open_connection(source, database, text)
        try:
            refuse_pooler(connection)
            yield connection
        finally:
            connection.close()


def open_connection(source: Source, database: str, text: Mapping[str, str] | None = None) -> Connection:
    """Open a connection as `connect` does; the caller closes it. Raises psycopg's own errors."""
    # From the first moment on: a database's own encoding may be one that Python has no codec for, as EUC_TW is.
    given: dict[str, Any] = {**parameters(source, database), "client_encoding": "UTF8"}
    connection: Connection = psycopg.connect(**given, autocommit=True)
    try:
        connection.prepare_threshold = None
        version = connection.info.server_version
        late = {name: "0" for since, name in _SINCE.items() if version >= since}
        chosen = {**_LOADING, **settings.as_written(text), **late}
        connection.execute(_SET, (list(chosen), list(chosen.values())))
    except BaseException:
        connection.close()
        raise
    return connection


def is_superuser(connection: Connection) -> bool:
    """Check whether the connection's role is a superuser."""
    return connection.info.parameter_status("is_superuser") == "on"
