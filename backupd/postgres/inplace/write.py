"""The transaction that replaces a tenant's live rows by the staged ones; and sequences, which are only ever raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from backupd.errors import SourceError
from backupd.postgres.connect import Connection, identifier, qualified
from backupd.postgres.inplace.compare import Changes, Pair, changed

_STEPS = 10_000
"""Values by which a sequence is advanced one after another, so that it cannot fall behind concurrent users.

A larger distance is set at once; it could only fall behind if others took that many values in between.
"""

_SEQUENCES = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, u.relation, u.column, u.type
FROM (
  SELECT d.objid, d.refobjid, a.attname, a.atttypid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION
  SELECT d.refobjid, f.adrelid, a.attname, a.atttypid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
  WHERE d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
) u (sequence, relation, "column", type)
JOIN pg_catalog.pg_sequence s ON s.seqrelid = u.sequence
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE u.relation = ANY (%s) ORDER BY 1, 2, 6, 7
"""
_INTEGERS = frozenset({20, 21, 23})
"""Oids of the types int8, int2 and int4."""


def lock_tables(connection: Connection, written: Iterable[str], read: Iterable[str]) -> None:
    """Lock tables against truncation and alteration; others still read and write them. Raises psycopg's errors."""
    for tables, mode in ((list(written), "ROW EXCLUSIVE"), (list(read), "ACCESS SHARE")):
        if tables:
            listed = ", ".join(f"ONLY {table}" for table in tables)
            connection.execute(f"LOCK TABLE {listed} IN {mode} MODE".encode())


def lock_rows(connection: Connection, pair: Pair) -> None:
    """Lock the tenant's rows against changes, removal and new references by others. Raises psycopg's errors."""
    rows = f"SELECT FROM ONLY {pair.live.sql} AS t WHERE {pair.live.belonging.ours()} FOR UPDATE OF t"
    connection.execute(f"SELECT pg_catalog.count(*) FROM ({rows}) AS locked".encode())  # noqa: S608  # as above


class ChangeWriter:
    """The writer of changes to some tables, in a given order: a table that others refer to stands before them."""

    def __init__(self, connection: Connection, pairs: Sequence[Pair], *, quiet: bool) -> None:
        """Write over this connection; `quiet` means that triggers are off, and foreign keys with them."""
        self._connection = connection
        self._pairs = pairs
        self._quiet = quiet

    def write(self, changes: Mapping[int, Changes]) -> None:
        """Delete, then update, then insert rows; in the reverse order where foreign keys forbid this one.

        Raises psycopg's errors, and SourceError when something kept a row from being written.
        """
        steps = self._deletes, self._updates, self._inserts
        if self._quiet:
            self._all(steps, changes)
            return
        self._connection.execute("SET CONSTRAINTS ALL DEFERRED")
        try:
            with self._connection.transaction():
                self._all(steps, changes)
        except psycopg.errors.ForeignKeyViolation:
            # A row that is updated refers to one that is not there before the inserts.
            with self._connection.transaction():
                self._all(reversed(steps), changes)
        self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    @staticmethod
    def _all(steps: Iterable[Callable[[Mapping[int, Changes]], None]], changes: Mapping[int, Changes]) -> None:
        for step in steps:
            step(changes)

    def _deletes(self, changes: Mapping[int, Changes]) -> None:
        for pair in reversed(self._pairs):
            count = changes[pair.live.oid]
            self._run(self._delete(pair), count.deletes + (count.updates if self._replaces(pair) else 0))

    def _updates(self, changes: Mapping[int, Changes]) -> None:
        for pair in self._pairs:
            if not self._replaces(pair):
                self._run(self._update(pair), changes[pair.live.oid].updates)

    def _inserts(self, changes: Mapping[int, Changes]) -> None:
        for pair in self._pairs:
            count = changes[pair.live.oid]
            self._run(self._insert(pair), count.inserts + (count.updates if self._replaces(pair) else 0))

    def _replaces(self, pair: Pair) -> bool:
        """Check whether rows are deleted and inserted instead of updated, as two might swap a unique value.

        Rows are replaced only where nobody notices: without triggers, and without a column that the snapshot lacks.
        """
        several = len(pair.live.keys) > 1
        return several and self._quiet and set(pair.compared) == set(pair.live.columns)

    def _run(self, statement: str, expected: int) -> None:
        if not expected:
            return
        cursor = self._connection.execute(statement.encode())
        if cursor.rowcount != expected:
            raise SourceError(
                f"PostgreSQL wrote {cursor.rowcount} of {expected} rows; nothing was changed",
                hint="A trigger or rule keeps rows from being written: disable it for the restore.",
            )

    def _delete(self, pair: Pair) -> str:
        which = "" if self._replaces(pair) else " AND c.new IS NULL"
        return f"DELETE FROM ONLY {pair.live.sql} AS t USING {changed(pair.live.oid)} AS c WHERE t.ctid = c.old{which}"  # noqa: S608  # names are quoted

    def _update(self, pair: Pair) -> str:
        columns = [column for column in pair.compared if column not in pair.live.always]
        given = ", ".join(f"{identifier(column)} = s.{identifier(column)}" for column in columns)
        return (
            f"UPDATE ONLY {pair.live.sql} AS t SET {given} FROM {changed(pair.live.oid)} AS c "  # noqa: S608  # as above
            f"JOIN {pair.source} AS s ON s.ctid = c.new WHERE t.ctid = c.old"
        )

    def _insert(self, pair: Pair) -> str:
        listed = ", ".join(map(identifier, pair.compared))
        given = ", ".join(f"s.{identifier(column)}" for column in pair.compared)
        which = "" if self._replaces(pair) else " WHERE c.old IS NULL"
        return (
            f"INSERT INTO {pair.live.sql} ({listed}) OVERRIDING SYSTEM VALUE SELECT {given} "  # noqa: S608  # as above
            f"FROM {changed(pair.live.oid)} AS c JOIN {pair.source} AS s ON s.ctid = c.new{which} ORDER BY s.ctid"
        )


@dataclass(frozen=True, slots=True)
class _Sequence:
    schema: str
    name: str
    increment: int
    lowest: int
    highest: int


def raise_sequences(
    connection: Connection,
    pairs: Iterable[Pair],
    above: Mapping[int, Iterable[int]],
    then: Mapping[tuple[str, str], int],
) -> int:
    """Raise the sequences of these tables to their values at the snapshot, or past the rows' values; return how many.

    `above` gives a table's partitioned tables, `then` the last values at the snapshot. No sequence is lowered, even
    when others take values meanwhile. A raised sequence stays raised when the transaction is rolled back: numbers are
    skipped, nothing else. Raises psycopg's errors.
    """
    sources: dict[int, list[Pair]] = {}
    for pair in pairs:
        for oid in (pair.live.oid, *above.get(pair.live.oid, ())):
            sources.setdefault(oid, []).append(pair)
    wanted: dict[_Sequence, list[int]] = {}
    for *facts, relation, column, kind in connection.execute(_SEQUENCES, (list(sources),)).fetchall():
        sequence = _Sequence(*facts)
        used = [_last(connection, pair, column, sequence) for pair in sources[relation] if kind in _INTEGERS]
        known = then.get((sequence.schema, sequence.name))
        wanted.setdefault(sequence, []).extend(value for value in (*used, known) if value is not None)
    return sum(_raise(connection, sequence, values) for sequence, values in wanted.items())


def _last(connection: Connection, pair: Pair, column: str, sequence: _Sequence) -> int | None:
    """Return the staged value that the sequence would reach last; None when the column was not staged."""
    if pair.columns is None or column not in pair.columns:
        return None
    which = "max" if sequence.increment > 0 else "min"
    ((value,),) = connection.execute(
        f"SELECT pg_catalog.{which}(s.{identifier(column)})::int8 FROM {pair.source} AS s".encode()  # noqa: S608  # names are quoted
    ).fetchall()
    return None if value is None else int(value)


def _raise(connection: Connection, sequence: _Sequence, values: list[int]) -> bool:
    name, increment = qualified(sequence.schema, sequence.name), sequence.increment
    query = f"SELECT last_value, is_called FROM {name}"  # noqa: S608  # as above
    ((last, called),) = connection.execute(query.encode()).fetchall()
    now = last if called else last - increment
    inside = [min(max(value, sequence.lowest), sequence.highest) for value in values]
    # Rounded down: a value between two steps is never given out.
    steps = max(((value - now) // increment for value in inside), default=0)
    if steps <= 0:
        return False
    if steps <= _STEPS:
        advance = (
            "SELECT pg_catalog.count(pg_catalog.nextval(%s::text::regclass)) FROM pg_catalog.generate_series(1, %s)"
        )
        connection.execute(advance, (name, steps))
    else:
        connection.execute("SELECT pg_catalog.setval(%s::text::regclass, %s, true)", (name, now + steps * increment))
    return True
