"""Tables filled by COPY, each in one transaction on a connection of its own, by several threads at once. Tables that
refer to each other in a circle share one. Partitions whose rows may belong elsewhere here are filled through a root.

`TRUNCATE` and `COPY … WITH (FREEZE)` in that same transaction keep the rows in the order they were sent; without them,
a server may put rows of mixed width elsewhere (`backupd manual design`, Order of rows). Rows that all fit into the
first page cannot be put anywhere else, so a small table needs neither: thousands are filled in a third of the time.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import psycopg
from psycopg.copy import LibpqWriter

from backupd.errors import DamageError, SourceBusyError, SourceError, SourceGoneError
from backupd.model.inventory import TableName
from backupd.postgres.connect import Connection, Source, identifier, literal, qualified
from backupd.postgres.failures import reason, translate
from backupd.postgres.target import session
from backupd.postgres.target.early_keys import check_deferred, defer
from backupd.postgres.target.partition_roots import moving_partitions

if TYPE_CHECKING:
    from backupd.planning.load_order import Circle, EarlyKey
    from backupd.planning.restore import TablePlan

_ROW = re.compile(r"\ACOPY .*?, line (\d+)", re.DOTALL)
_NEWLINE = 0x0A
_BATCH = 128 << 10
"""Bytes sent at once: of many tenants, a table's pieces are smaller than what sending costs."""

_UNSENT = 256 << 10
"""Bytes that may wait in a connection for the server; there may be many connections."""

_NOT_FOUND = ("42P01", "42883", "42704", "42703")
_BY_PATH = (
    "A check, a default or a generated column of it calls something that it finds by search_path only, as pg_restore "
    "would not either. --keep-going names the table, leaves its rows out and restores the rest."
)
_BY_CHECK = (
    "A check of it does not hold for rows as they are here: it may look into a table that has other rows now, or none "
    "yet. --keep-going names the table, leaves its rows out and restores the rest, as pg_restore does."
)
_BY_VALUE = (
    "A value of it names something that is not there, as those of a column of type regrole or regclass do. Make that "
    "first (roles: --globals). --keep-going names the table, leaves its rows out and restores the rest."
)
_HINTS = {**dict.fromkeys(_NOT_FOUND, _BY_PATH), "23514": _BY_CHECK}
_OF_EXTENSIONS = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
WHERE d.deptype = 'e'
"""


_OWN_FILLFACTOR = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND EXISTS (SELECT FROM pg_catalog.unnest(c.reloptions) o WHERE o LIKE 'fillfactor=%')
"""
_PAGE = 7_900
"""Bytes for rows in an empty page of a table that leaves no space for later."""
_OF_A_ROW, _OF_A_VALUE, _OF_A_CHARACTER = 32, 72, 8
"""Bytes that a row takes at most of a page besides its values, and a value besides and for the characters of its text:
a name takes 64 always, and each number of an array of one digit 8."""


def fits_one_page(table: TablePlan) -> bool:
    """Check whether a table's rows surely lie in one page, of any types."""
    return (
        table.rows * (_OF_A_ROW + _OF_A_VALUE * len(table.columns)) + _OF_A_CHARACTER * table.bytes <= _PAGE
        or table.rows == 1
    )


class Loader:
    """The loader of a plan's tables into one database; usable by several threads.

    A table's rows are there once the writer of its last piece has ended without an error, and none of them before.
    """

    def __init__(
        self,
        source: Source,
        database: str,
        tables: Sequence[TablePlan],
        text: Mapping[str, str] | None = None,
        circles: Sequence[Circle] = (),
    ) -> None:
        """Prepare the tables; `text` are the settings under which the rows were written.

        The tables of one circle must be written one after another. Raises SourceError.
        """
        self._target = (source, database, text)
        self.encoding = (text or {}).get("client_encoding", "UTF8")
        """PostgreSQL's name of the encoding in which the rows come."""
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        self._connections: list[Connection] = []
        with session.connect(source, database) as connection:
            extension_tables = {(schema, name) for schema, name in connection.execute(_OF_EXTENSIONS).fetchall()}
            self.moving = moving_partitions(connection)
            spread = {(schema, name) for schema, name in connection.execute(_OWN_FILLFACTOR).fetchall()}
        self.left_out: list[tuple[TableName, str]] | None = None
        """Tables whose rows PostgreSQL refuses, with the reason; None where the first of them ends the loading."""
        self.filled: Callable[[int], None] = lambda _: None
        """Called with a table's place as soon as its rows are there for others; what it raises ends the writing."""
        shared = {place: joint for circle in circles for joint in [_joint(self, circle)] for place in circle.tables}
        small = [fits_one_page(plan) and (plan.schema, plan.name) not in spread for plan in tables]
        self._tables = [
            _Table(
                shared.get(place) or _Transaction(self, [place]),
                f"table {place + 1} of {len(tables)}",
                plan,
                keeps_rows=small[place] or (plan.schema, plan.name) in extension_tables,
                root=self.moving.get(TableName(plan.schema, plan.name)),
            )
            for place, plan in enumerate(tables)
        ]

    def piece(self, table: int) -> PieceWriter:
        """Return a writer for the next piece of a table, given by its place in the plan from 0.

        Several pieces of one table may be written at once.
        """
        return PieceWriter(self._tables[table])

    def close(self) -> None:
        """Close every connection. Tables that are not complete stay as they were."""
        for connection in self._connections:
            connection.close()

    def borrow(self) -> Connection:
        """Return a connection that nobody uses. Raises psycopg's errors."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        connection = session.open_connection(*self._target)
        with self._lock:
            self._connections.append(connection)
        return connection

    def leave_out(self, table: TableName, error: psycopg.Error) -> bool:
        """Note that a table's rows are refused; returns False where that, or this error, has to end the loading."""
        if self.left_out is None or isinstance(translate(error), SourceGoneError | SourceBusyError):
            return False
        with self._lock:
            self.left_out.append((table, reason(error)))
        return True

    def give_back(self, connection: Connection) -> None:
        with self._lock:
            self._idle.append(connection)

    def note_filled(self, tables: Iterable[int]) -> None:
        """Call `filled` for these tables; raises what that raises."""
        for table in tables:
            self.filled(table)


class PieceWriter:
    """The writer of one piece of a table's rows; a context manager, to be used once, by one thread.

    Other threads may write to the same table between two of its rows, never within one.
    """

    def __init__(self, table: _Table) -> None:
        self._table = table
        self._held = False

    def __enter__(self) -> Self:
        return self

    def write(self, rows: memoryview) -> None:
        """Send bytes of rows, which may end within one.

        Raises SourceError, without quoting the rows.
        """
        if not self._held:
            self._table.lock.acquire()
            self._held = True
        self._table.put(rows)
        if rows and rows[-1] == _NEWLINE:
            self._release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Complete the piece, unless the block raised an error.

        Raises DamageError when it ends within a row, SourceError when PostgreSQL refuses the table.
        """
        within_row = self._held
        if within_row:
            self._release()
        if error is None:
            if within_row:
                raise DamageError(f"a piece of {self._table.where} ends within a row")
            with self._table.lock:
                self._table.end_piece()

    def _release(self) -> None:
        self._held = False
        self._table.lock.release()


class _Transaction:
    """The transaction that fills one table, or the tables of a circle one after another."""

    def __init__(self, loader: Loader, tables: Collection[int], keys: Sequence[EarlyKey] = ()) -> None:
        """Prepare the transaction; `keys` are those of a circle that are not deferrable."""
        self._loader = loader
        self._tables = tables
        self._left = len(tables)
        self._keys = keys
        self._deferred = len(tables) > 1
        self._connection: Connection | None = None
        self.encoding = loader.encoding
        self.refused = False
        """Whether it was undone: of all its tables, no row is there."""

    def leave_out(self, table: TableName, error: psycopg.Error) -> bool:
        """Undo the transaction, if the loading may go on without its tables; returns whether it may."""
        if not self._loader.leave_out(table, error):
            return False
        self.refused = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return True

    def begin(self) -> Connection:
        """Return the connection to fill a table on, in the transaction. Raises psycopg's errors."""
        if self._connection is None:
            self._connection = self._loader.borrow()
            self._connection.execute("BEGIN")
            if self._deferred:
                defer(self._connection, self._keys)
        return self._connection

    def end_table(self) -> None:
        """Commit if this was the last table. Raises psycopg's errors."""
        self._left -= 1
        if self._left or self._connection is None:
            return
        if self._deferred:
            check_deferred(self._connection, self._keys)
        self._connection.execute("COMMIT")
        self._loader.give_back(self._connection)
        self._loader.note_filled(self._tables)


def _joint(loader: Loader, circle: Circle) -> _Transaction:
    return _Transaction(loader, circle.tables, circle.keys)


class _Table:
    """A table that is being filled. The thread that holds `lock` may use its other fields."""

    def __init__(
        self, transaction: _Transaction, where: str, plan: TablePlan, *, keeps_rows: bool, root: TableName | None
    ) -> None:
        """Prepare a table; with `keeps_rows`, it is not emptied: its extension has put rows into it that must stay, or
        it is small and empty.

        Rows of a partition with a `root` are passed to that, which puts them where they belong here.
        """
        self.lock = threading.Lock()
        self.where = where
        self._transaction = transaction
        self._plan = plan
        self._encoding = transaction.encoding
        self._target = root or TableName(plan.schema, plan.name)
        # Others may be filling the same partitions through the root.
        self._keeps_rows = keeps_rows or root is not None
        self._left = plan.pieces
        self._batch = bytearray()
        self._copying = ExitStack()
        self._copy: psycopg.Copy | None = None

    def put(self, rows: memoryview) -> None:
        self._batch += rows
        if len(self._batch) >= _BATCH:
            self._send()

    def _send(self) -> None:
        batch, self._batch = self._batch, bytearray()
        try:
            if self._transaction.refused:
                return
            if self._copy is None:
                self._copy = self._begin(self._transaction.begin())
            self._copy.write(batch)
        except psycopg.Error as error:
            self._refuse(error)

    def end_piece(self) -> None:
        self._left -= 1
        if self._left:
            return
        if self._batch:
            self._send()
        if self._copy is None or self._transaction.refused:
            return
        try:
            self._copying.close()
            taken = self._copy.cursor.rowcount
            if taken != self._plan.rows:
                raise SourceError(f"PostgreSQL took {taken} of {self._plan.rows} rows of {self.where}")
            self._transaction.end_table()
        except psycopg.Error as error:
            self._refuse(error)

    def _begin(self, connection: Connection) -> psycopg.Copy:
        name = qualified(self._target.schema, self._target.table)
        columns = ", ".join(map(identifier, self._plan.columns))
        if not self._keeps_rows:
            connection.execute(f"TRUNCATE ONLY {name}".encode())
        listed = f" ({columns})" if columns else ""
        options = [] if self._keeps_rows else ["FREEZE"]
        options += [] if self._encoding == "UTF8" else [f"ENCODING {literal(self._encoding)}"]
        option = f" WITH ({', '.join(options)})" if options else ""
        cursor = connection.cursor()
        sender = LibpqWriter(cursor, flush_threshold=_UNSENT)
        return self._copying.enter_context(
            cursor.copy(f"COPY {name}{listed} FROM STDIN{option}".encode(), writer=sender)
        )

    def _refuse(self, error: psycopg.Error) -> None:
        with suppress(psycopg.Error):
            self._copying.close()
        if self._transaction.leave_out(TableName(self._plan.schema, self._plan.name), error):
            return
        raise self._refused(error) from None

    def _refused(self, error: psycopg.Error) -> SourceError:
        refused = translate(error)
        row = _ROW.match(error.diag.context or "")
        where = f"{self.where}, row {row[1]}" if row else self.where
        hint = _HINTS.get(error.sqlstate or "", refused.hint)
        if hint == _BY_PATH and row and (error.diag.context or "")[row.end() :].startswith(", column "):
            hint = _BY_VALUE
        return type(refused)(f"{refused.message}, at {where}", hint=hint)
