"""Comparison of the tenant's live rows with the staged ones: rows to delete, update and insert; and digests of rows.

Whole rows are compared as text, because some types have no equality, and others call different values equal (1.0 and
1.00, or -0 and 0).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from backupd.postgres.connect import Connection, identifier, literal
from backupd.postgres.inplace.live import LiveTable
from backupd.postgres.inplace.session import staged


@dataclass(frozen=True, slots=True)
class Pair:
    """A live table and its staged columns; `columns` is None when the snapshot has no row of it."""

    live: LiveTable
    columns: tuple[str, ...] | None

    @property
    def compared(self) -> tuple[str, ...]:
        """Return the columns that are compared."""
        return self.live.columns if self.columns is None else self.columns

    @property
    def source(self) -> str | None:
        """Return the temporary table of the staged rows; None when there are none."""
        return None if self.columns is None else staged(self.live.oid)

    @property
    def key(self) -> tuple[str, ...]:
        """Return the columns that identify a row; empty when only the whole row does.

        Identity columns that cannot be updated belong to the key: a row with another value of one is another row.
        """
        key = self.live.identity
        if not key or not set(key) <= set(self.compared):
            return ()
        return (*key, *sorted((self.live.always & set(self.compared)) - set(key)))


@dataclass(frozen=True, slots=True)
class Changes:
    """The changes to one table, in rows."""

    deletes: int
    updates: int
    inserts: int

    @property
    def any(self) -> bool:
        """Check whether there is any change."""
        return bool(self.deletes or self.updates or self.inserts)


class Digest(NamedTuple):
    """A digest of rows in any order: their number, and the sums of both halves of each row's MD5.

    A change that leaves the digest equal would have to hit 128 bits by chance. Sums count rows that are there twice,
    unlike exclusive or.
    """

    rows: int
    high: int
    low: int


def changed(oid: int) -> str:
    """Return the temporary table of the rows that differ, as pairs of addresses: `old` (live) and `new` (staged)."""
    return f"pg_temp.changed_{oid}"


def compare(connection: Connection, pair: Pair) -> Changes:
    """Make the table of changes, for the transaction at hand, and count the changes. Raises psycopg's errors."""
    live = f"SELECT {_identified(pair, 't')} FROM ONLY {pair.live.sql} AS t WHERE {pair.live.belonging.ours()}"  # noqa: S608  # names are quoted
    new = f"SELECT {_identified(pair, 's')} FROM {pair.source} AS s" if pair.source else f"{live} AND false"  # noqa: S608  # as above
    connection.execute(
        f"CREATE TEMPORARY TABLE {changed(pair.live.oid)} AS WITH l AS ({live}), s AS ({new}) "  # noqa: S608  # as above
        "SELECT l.id AS old, s.id AS new FROM l FULL JOIN s ON l.k = s.k AND l.n = s.n "
        "WHERE l.r IS DISTINCT FROM s.r".encode()
    )
    connection.execute(f"ANALYZE {changed(pair.live.oid)}".encode())
    ((deletes, updates, inserts),) = connection.execute(
        "SELECT pg_catalog.count(*) FILTER (WHERE new IS NULL), "  # noqa: S608  # as above
        "pg_catalog.count(*) FILTER (WHERE old IS NOT NULL AND new IS NOT NULL), "
        f"pg_catalog.count(*) FILTER (WHERE old IS NULL) FROM {changed(pair.live.oid)}".encode()
    ).fetchall()
    return Changes(deletes, updates, inserts)


def _identified(pair: Pair, alias: str) -> str:
    row = _text(alias, pair.compared)
    key = _text(alias, pair.key) if pair.key else row
    # Where only the whole row identifies a row, equal rows may be there several times.
    number = "1::int8" if pair.key else f"pg_catalog.row_number() OVER (PARTITION BY {row})"
    return f"{alias}.ctid AS id, {key} AS k, {row} AS r, {number} AS n"


def _text(alias: str, columns: Sequence[str]) -> str:
    listed = ", ".join(f"{alias}.{identifier(column)}" for column in columns)
    return f'ROW({listed})::pg_catalog.text COLLATE pg_catalog."C"'


def digest(connection: Connection, rows: str, columns: Sequence[str], condition: str = "true") -> Digest:
    """Return the digest of rows that meet a condition; `rows` is SQL of a table, with the alias `t`.

    Raises psycopg's errors.
    """
    # OFFSET keeps the planner from working the hash out twice.
    half = "pg_catalog.sum(('x' || pg_catalog.substr(h, {}, 16))::bit(64)::int8)"
    ((count, high, low),) = connection.execute(
        f"SELECT pg_catalog.count(*), {half.format(1)}, {half.format(17)} FROM "  # noqa: S608  # names are quoted
        f"(SELECT pg_catalog.md5({_text('t', columns)}) AS h FROM {rows} AS t WHERE {condition} OFFSET 0) AS d".encode()
    ).fetchall()
    return Digest(count, int(high or 0), int(low or 0))


def digest_ours(connection: Connection, pair: Pair) -> Digest:
    """Return the digest of the tenant's live rows, in the compared columns."""
    return digest(connection, f"ONLY {pair.live.sql}", pair.compared, pair.live.belonging.ours())


def digest_staged(connection: Connection, pair: Pair) -> Digest:
    """Return the digest that the tenant's live rows must have after the restore."""
    return digest(connection, pair.source, pair.compared) if pair.source else Digest(0, 0, 0)


def digest_others(connection: Connection, table: LiveTable) -> Digest:
    """Return the digest of all other tenants' rows, in all columns."""
    columns = (*table.columns, *sorted(table.generated))
    return digest(connection, f"ONLY {table.sql}", columns, table.belonging.others())


def changed_keys(connection: Connection, pair: Pair) -> Iterator[tuple[str, str]]:
    """Yield `delete`, `update` or `insert`, and the key as JSON, for each row that differs; nothing without a key."""
    if not pair.key:
        return
    for word, place, where in (
        ("delete", "old", "c.new IS NULL"),
        ("update", "old", "c.old IS NOT NULL AND c.new IS NOT NULL"),
        ("insert", "new", "c.old IS NULL"),
    ):
        source = pair.source if place == "new" else f"ONLY {pair.live.sql}"
        if source is None:
            continue
        members = ", ".join(f"{literal(column)}, t.{identifier(column)}" for column in pair.key)
        for (key,) in connection.execute(
            f"SELECT pg_catalog.json_build_object({members})::pg_catalog.text FROM {source} AS t "  # noqa: S608  # as above
            f"JOIN {changed(pair.live.oid)} AS c ON c.{place} = t.ctid WHERE {where}".encode()
        ):
            yield word, key
