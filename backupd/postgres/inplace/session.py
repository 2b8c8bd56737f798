"""The session of a restore in place: its transaction, the staged rows, and the conditions that select a tenant's rows.

The snapshot's rows are staged in temporary tables of the session that compares and writes. Nobody else sees temporary
tables: no backup that runs meanwhile copies a tenant's rows a second time or finds tables that belong to nobody, and
nothing goes to replicas. They end with the session, however it ends, so nothing has to be cleaned up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field

import psycopg

from backupd.clock import Clock
from backupd.errors import RefusedError
from backupd.model.tenancy import Column, ForeignKeyPath, Route, Tenant
from backupd.postgres.connect import Connection, identifier, literal, qualified, refuse_pooler
from backupd.postgres.failures import translated
from backupd.postgres.settings import SHORT_WAIT, copied, milliseconds
from backupd.postgres.source.select import matched

_PAUSE = 0.5
"""Seconds between two tries, in which nothing is locked."""

_INSTANCE = """
SELECT pg_catalog.pg_postmaster_start_time()::text, d.oid FROM pg_catalog.pg_database d
WHERE d.datname = pg_catalog.current_database()
"""


def refuse_unfit(connection: Connection) -> None:
    """Refuse a pooler, whose sessions are not ours alone, and a standby; have commits waited for.

    Raises SourceError, RefusedError.
    """
    refuse_pooler(connection)
    if connection.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() != (False,):
        raise RefusedError("the target is a standby", hint="Give the server that takes writes.")
    connection.execute("RESET synchronous_commit")


def instance(connection: Connection) -> tuple[str, int]:
    """Return the start time of the server and the database's oid, which together identify this running database."""
    ((started, oid),) = connection.execute(_INSTANCE).fetchall()
    return started, oid


@contextmanager
def open_transaction(
    connection: Connection, lock: Callable[[], object], lock_timeout: float, clock: Clock
) -> Iterator[None]:
    """Open a transaction that sees one instant and its own changes; roll it back unless the block commits it.

    `lock` takes the locks it needs, in as many short tries as fit into `lock_timeout` seconds: others must not wait for
    what we have locked while we wait for the rest. The instant is that of the first query: table locks can be taken
    before it. PostgreSQL's errors leave the block as SourceErrors: SourceBusyError when somebody else holds a lock, or
    changed a row that was to be locked.
    """
    with translated():
        try:
            _begin(connection, lock, lock_timeout, clock)
            connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(lock_timeout)}'".encode())
            yield
        finally:
            _roll_back(connection)


def _begin(connection: Connection, lock: Callable[[], object], lock_timeout: float, clock: Clock) -> None:
    deadline = clock.monotonic() + lock_timeout
    while True:
        connection.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE")
        wait = min(SHORT_WAIT, deadline - clock.monotonic())
        connection.execute(f"SET LOCAL lock_timeout = '{milliseconds(wait)}'".encode())
        try:
            lock()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            _roll_back(connection)
            if clock.monotonic() >= deadline:
                raise
            clock.sleep(_PAUSE)
        else:
            return


def _roll_back(connection: Connection) -> None:
    if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")


def commit(connection: Connection) -> None:
    """Commit the transaction. Raises psycopg's errors."""
    connection.execute("COMMIT")


_UNFIT = (psycopg.DataError, psycopg.IntegrityError)
"""Errors of a type or a domain that does not accept a value."""


def staged(oid: int) -> str:
    """Return the temporary table of a snapshot's rows, by the live table's oid."""
    return f"pg_temp.staged_{oid}"


def stage(
    connection: Connection,
    table: tuple[int, str],
    columns: Mapping[str, str | None],
    rows: Iterable[memoryview],
    encoding: str,
) -> bool:
    """Put rows into a temporary table with the live table's types; return whether it gives them back byte for byte.

    The rows come in `encoding`. The table is given by its oid and its name in SQL; a column's type is the one it is
    given here, if any.
    Rows of a type that has changed since the snapshot come back differently, or are refused; then there is no table.
    Raises psycopg's errors, and the errors of `rows`.
    """
    oid, live = table
    listed = ", ".join(map(identifier, columns))
    typed = ", ".join(f"{identifier(name)}{f'::{type_}' if type_ else ''}" for name, type_ in columns.items())
    given = hashlib.sha256()
    connection.execute("BEGIN")
    try:
        connection.execute(
            f"CREATE TEMPORARY TABLE {staged(oid)} AS SELECT {typed} FROM ONLY {live} WITH NO DATA".encode()  # noqa: S608  # names are quoted
        )
        with ExitStack() as copying:
            # In the transaction that made the table, FREEZE keeps rows in their order.
            named = f" ({listed})" if listed else ""
            text = f"COPY {staged(oid)}{named} FROM STDIN WITH (FREEZE, ENCODING {literal(encoding)})"
            copy = copying.enter_context(connection.cursor().copy(text.encode()))
            for piece in rows:
                given.update(piece)
                copy.write(piece)
        same = _digest(connection, oid, encoding) == given.digest()
    except _UNFIT:
        connection.execute("ROLLBACK")
        return False
    except BaseException:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT" if same else "ROLLBACK")
    if same:
        connection.execute(f"ANALYZE {staged(oid)}".encode())
    return same


def _digest(connection: Connection, oid: int, encoding: str) -> bytes:
    found = hashlib.sha256()
    with connection.cursor().copy(copied(f"COPY {staged(oid)} TO STDOUT", encoding).encode()) as copy:
        for piece in copy:
            found.update(piece)
    return found.digest()


@dataclass(frozen=True, slots=True)
class Belonging:
    """Two conditions on the rows of a table under an alias; for every row exactly one is true."""

    route: Route
    tenant: str = field(repr=False)

    def ours(self, alias: str = "t") -> str:
        """Return the condition that the row is the tenant's.

        It is `false` for shared tables and for other tenants' tables.
        """
        match self.route:
            case Column(column):
                return _named(alias, column, self.tenant)
            case ForeignKeyPath():
                return f"EXISTS ({_led(self.route, alias, self.tenant)})"
            case Tenant(owner) if owner == self.tenant:
                return "true"
        return "false"

    def others(self, alias: str = "t") -> str:
        """Return the condition that the row is not the tenant's."""
        ours = self.ours(alias)
        return f"NOT {ours}" if isinstance(self.route, ForeignKeyPath) else f"({ours}) IS NOT TRUE"


def _named(alias: str, column: str, tenant: str) -> str:
    """Compare a column with the tenant by type, so that an index serves, and as text, by which a backup routes.

    The text is that of the type's output, as COPY writes it; a cast to text may be the application's own.
    """
    name, value = f"{alias}.{identifier(column)}", literal(tenant)
    return f"{name} = {value} AND pg_catalog.concat({name}) = {value}"


def _led(route: ForeignKeyPath, alias: str, tenant: str) -> str:
    tables, conditions, left = [], [], alias
    for number, step in enumerate(route.steps, start=1):
        right, target = f"p{number}", step.key.target
        tables.append(f"{'' if step.whole else 'ONLY '}{qualified(target.schema, target.table)} AS {right}")
        conditions.append(matched(step.key, left, right))
        left = right
    conditions.append(_named(left, route.column, tenant))
    return f"SELECT FROM {', '.join(tables)} WHERE {' AND '.join(conditions)}"
