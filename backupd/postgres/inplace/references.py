"""Foreign keys, as they would be once the staged rows are in place, and as they are once they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.planning.restoring.inplace import Conflict, ConflictKind
from backupd.postgres.inplace.belonging import matched
from backupd.postgres.inplace.comparing import changed
from backupd.postgres.inplace.staging import staged
from backupd.postgres.quoting import identifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backupd.postgres.connect import Connection
    from backupd.postgres.inplace.comparing import Pair
    from backupd.postgres.inplace.live import Live, Reference


class References:
    """The foreign keys of some live tables and the pairs that are to be restored, by the tables' oids."""

    def __init__(self, connection: Connection, live: Live, pairs: Mapping[int, Pair]) -> None:
        self._connection = connection
        self._live = live
        self._pairs = pairs

    def unmet(self) -> Iterator[Conflict]:
        """References of staged rows to rows that neither exist nor come with them. Raises psycopg's errors."""
        for reference in self._live.references:
            pair = self._pairs.get(reference.referring)
            if pair is None or not reference.validated or not _has(pair, reference.key.columns):
                continue
            missing = [f"NOT EXISTS ({target})" for target in self._targets(reference)]
            given = _given(reference, "s")
            count = self._count(f"FROM {pair.source} AS s WHERE {' AND '.join([given, *missing])}")
            if count:
                of_others = any(leaf in self._live.tables for leaf in reference.leaves)
                kind = ConflictKind.REFERENCE_LOST if of_others else ConflictKind.REFERENCE_GONE
                yield Conflict(pair.live.name.dotted, kind, count)

    def referred(self) -> Iterator[Conflict]:
        """Rows that are not restored and refer to what would be gone. Raises psycopg's errors."""
        for reference in self._live.references:
            gone = [
                f"SELECT FROM {changed(leaf)} AS c JOIN ONLY {self._live.sql(leaf)} AS v ON v.ctid = c.old "
                f"WHERE {matched(reference.key, 't', 'v')}"
                for leaf in reference.leaves
                if leaf in self._pairs
            ]
            if not gone or not reference.validated:
                continue
            there = [f"NOT EXISTS ({text})" for text in self._staged(reference, "t")]
            conditions = [
                self._kept(reference.referring),
                f"({' OR '.join(f'EXISTS ({one})' for one in gone)})",
                *there,
            ]
            rows = f"FROM ONLY {self._live.sql(reference.referring)} AS t"
            count = self._count(f"{rows} WHERE {' AND '.join(conditions)}")
            if count:
                yield Conflict(self._live.names[reference.referring].dotted, ConflictKind.REFERRED, count)

    def altered(self, shared: Mapping[int, tuple[str, ...]]) -> Iterator[Conflict]:
        """Shared rows that staged ones refer to and that are not what they were; `shared` are the columns staged.

        Raises psycopg's errors.
        """
        for reference in self._live.references:
            pair, target = self._pairs.get(reference.referring), reference.target
            if pair is None or target not in shared or not _has(pair, reference.key.columns):
                continue
            same = " AND ".join(
                f"h.{identifier(one)} {operator} t.{identifier(one)}"
                for one, operator in zip(reference.key.target_columns, reference.key.operators, strict=True)
            )
            then, now = (f"ROW({', '.join(f'{alias}.{identifier(c)}' for c in shared[target])})" for alias in "ht")
            count = self._count(
                f"FROM {staged(target)} AS h JOIN ONLY {self._live.sql(target)} AS t ON {same} "
                f"WHERE {then}::pg_catalog.text <> {now}::pg_catalog.text AND "
                f"EXISTS (SELECT FROM {pair.source} AS s WHERE {matched(reference.key, 's', 'h')})"
            )
            if count:
                yield Conflict(self._live.names[target].dotted, ConflictKind.REFERENCE_CHANGED, count)

    def violated(self) -> int:
        """Rows, of all foreign keys in question, that refer to nothing now. Raises psycopg's errors."""
        found = 0
        for reference in self._live.references:
            if not reference.validated:
                continue
            whole = "" if reference.whole else "ONLY "
            target = (
                f"SELECT FROM {whole}{self._live.sql(reference.target)} AS x WHERE {matched(reference.key, 't', 'x')}"
            )
            rows = f"FROM ONLY {self._live.sql(reference.referring)} AS t"
            found += self._count(f"{rows} WHERE {_given(reference, 't')} AND NOT EXISTS ({target})")
        return found

    def watched(self, connection: Connection) -> tuple[int, ...]:
        """How many rows of others refer to the tenant's, by foreign key. Raises psycopg's errors."""
        counts = []
        for reference in self._live.references:
            for leaf in reference.leaves:
                if leaf not in self._pairs:
                    continue
                ours = self._pairs[leaf].live.belonging.ours("v")
                query = (
                    f"SELECT pg_catalog.count(*) FROM ONLY {self._live.sql(reference.referring)} AS t WHERE "  # noqa: S608  # likewise
                    f"{self._kept(reference.referring)} AND EXISTS (SELECT FROM ONLY {self._live.sql(leaf)} AS v "
                    f"WHERE {matched(reference.key, 't', 'v')} AND {ours})"
                )
                ((count,),) = connection.execute(query.encode()).fetchall()
                counts.append(int(count))
        return tuple(counts)

    def _targets(self, reference: Reference) -> Iterator[str]:
        """Queries for what a row under the alias `s` refers to, wherever it will be."""
        for leaf in reference.leaves:
            condition = f"{matched(reference.key, 's', 't')} AND {self._kept(leaf)}"
            yield f"SELECT FROM ONLY {self._live.sql(leaf)} AS t WHERE {condition}"
        yield from self._staged(reference, "s")

    def _staged(self, reference: Reference, referring: str) -> Iterator[str]:
        for leaf in reference.leaves:
            pair = self._pairs.get(leaf)
            if pair is not None and _has(pair, reference.key.target_columns):
                yield f"SELECT FROM {pair.source} AS x WHERE {matched(reference.key, referring, 'x')}"

    def _kept(self, table: int) -> str:
        """The row of a table, under the alias `t`, is not one of those that are restored."""
        return self._pairs[table].live.belonging.others() if table in self._pairs else "true"

    def _count(self, rows: str) -> int:
        ((count,),) = self._connection.execute(f"SELECT pg_catalog.count(*) {rows}".encode()).fetchall()
        return int(count)


def _has(pair: Pair, columns: tuple[str, ...]) -> bool:
    return pair.columns is not None and set(columns) <= set(pair.columns)


def _given(reference: Reference, alias: str) -> str:
    return " AND ".join(f"{alias}.{identifier(column)} IS NOT NULL" for column in reference.key.columns)
