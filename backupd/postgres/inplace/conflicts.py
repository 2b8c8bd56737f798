"""Conflicts of a restore in place, as counts only.

They are keys, exclusions and checks of staged rows that other rows break, foreign keys before and after the write,
rights that the role lacks, and triggers and rules that would fire.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import psycopg

from backupd.model.inventory import ForeignKey
from backupd.planning.inplace import Conflict, ConflictKind
from backupd.postgres.connect import Connection, identifier
from backupd.postgres.inplace.compare import Pair, changed
from backupd.postgres.inplace.live import Live, LiveTable, Reference, UniqueKey
from backupd.postgres.inplace.session import staged
from backupd.postgres.source.select import matched


def key_conflicts(connection: Connection, pair: Pair) -> Iterator[Conflict]:
    """Yield keys of staged rows that other tenants' rows have, or two staged rows. Raises psycopg's errors."""
    if pair.source is None:
        return
    table = pair.live.name.dotted
    for key in pair.live.keys:
        count = _count(connection, _taken(pair, key)) + _count(connection, _twice(pair, key))
        if count:
            kind = (
                ConflictKind.EXCLUDED
                if key.exclusion
                else ConflictKind.PRIMARY_KEY
                if key.primary
                else ConflictKind.UNIQUE_KEY
            )
            yield Conflict(table, kind, count)


def check_conflicts(connection: Connection, pair: Pair) -> Iterator[Conflict]:
    """Yield staged rows that break NOT NULL, a check or the bounds of their partition. Raises psycopg's errors."""
    if pair.source is None:
        return
    filled = (f"{identifier(column)} IS NULL" for column in pair.columns or () if column in pair.live.filled)
    count = 0
    for broken in (filled, (f"({check}) IS FALSE" for check in pair.live.checks)):
        if condition := " OR ".join(broken):
            count += _count(connection, f"SELECT pg_catalog.count(*) FROM {pair.source} WHERE {condition}")  # noqa: S608  # the server's own words
    if count:
        yield Conflict(pair.live.name.dotted, ConflictKind.CHECK, count)


def untried(live: Live, oid: int) -> Iterator[Conflict]:
    """Yield how much of a table is decided by code of its owner, which is run by nothing but the write itself.

    `backupd manual trust`, row *checks, indexes, domains of live tables, before a restore in place*.
    """
    own = sum(reference.referring == oid and reference.key.foreign_code for reference in live.references)
    count = live.tables[oid].untried + len(live.foreign_code.columns.get(oid, ())) + own
    if count:
        yield Conflict(live.names[oid].dotted, ConflictKind.FOREIGN_CODE, count)


def _taken(pair: Pair, key: UniqueKey) -> str:
    others = _expressed(key, f"ONLY {pair.live.sql} AS t", pair.live.belonging.others(), "t.ctid")
    return f"SELECT pg_catalog.count(*) FROM ({_ours(pair, key)}) AS a WHERE EXISTS (SELECT FROM ({others}) AS b WHERE {_met(key)})"  # noqa: S608, E501  # as above


def _twice(pair: Pair, key: UniqueKey) -> str:
    ours = _ours(pair, key)
    met = f"a.id < b.id AND {_met(key)}"
    return f"SELECT pg_catalog.count(*) FROM ({ours}) AS a WHERE EXISTS (SELECT FROM ({ours}) AS b WHERE {met})"  # noqa: S608  # as above


def _ours(pair: Pair, key: UniqueKey) -> str:
    return _expressed(key, f"{pair.source} AS s", "true", "s.ctid")


def _expressed(key: UniqueKey, rows: str, condition: str, address: str) -> str:
    listed = ", ".join(f"{expression} AS e{place}" for place, expression in enumerate(key.expressions))
    partial = f" AND ({key.condition})" if key.condition else ""
    return f"SELECT {address} AS id, {listed} FROM {rows} WHERE {condition}{partial}"  # noqa: S608  # as above


def _met(key: UniqueKey) -> str:
    pairs = []
    for place, operator in enumerate(key.operators):
        equal = f"a.e{place} {operator} b.e{place}"
        pairs.append(f"({equal} OR a.e{place} IS NULL AND b.e{place} IS NULL)" if key.nulls_equal else equal)
    return " AND ".join(pairs)


def _count(connection: Connection, query: str) -> int:
    """Run a query that counts rows; 0 when it names a column that the snapshot does not have.

    The server itself checks such a column when it writes.
    """
    try:
        with connection.transaction():
            ((count,),) = connection.execute(query.encode()).fetchall()
    except psycopg.errors.UndefinedColumn:
        return 0
    return int(count)


class References:
    """The foreign keys of some live tables, and the pairs to restore, by the tables' oids."""

    def __init__(self, connection: Connection, live: Live, pairs: Mapping[int, Pair]) -> None:
        self._connection = connection
        self._live = live
        self._pairs = pairs

    def unmet(self) -> Iterator[Conflict]:
        """Yield references of staged rows to rows that neither exist nor are restored, too.

        Raises psycopg's errors.
        """
        for reference in self._live.references:
            pair = self._pairs.get(reference.referring)
            if pair is None or not reference.validated or not _has(pair, reference.key.columns):
                continue
            if reference.key.foreign_code:
                continue  # `violated` looks, once it is written
            missing = f"NOT {_met_by(reference.key, 's', [*self._stay(reference), *self._staged(reference)])}"
            given = _given(reference, "s")
            count = self._count(f"FROM {pair.source} AS s WHERE {given} AND {missing}")
            if count:
                of_others = any(leaf in self._live.tables for leaf in reference.leaves)
                kind = ConflictKind.REFERENCE_LOST if of_others else ConflictKind.REFERENCE_GONE
                yield Conflict(pair.live.name.dotted, kind, count)

    def referred(self) -> Iterator[Conflict]:
        """Yield rows that are not restored and refer to rows that would be missing. Raises psycopg's errors."""
        for reference in self._live.references:
            gone = [
                f"SELECT FROM {changed(leaf)} AS c JOIN ONLY {self._live.sql(leaf)} AS v ON v.ctid = c.old "
                f"WHERE {matched(reference.key, 't', 'v')}"
                for leaf in reference.leaves
                if leaf in self._pairs
            ]
            if not gone or not reference.validated or reference.key.foreign_code:
                continue
            # A period may be covered by several rows, and some of them stay.
            left = [*self._staged(reference), *(self._stay(reference) if reference.key.temporal else ())]
            conditions = [
                self._kept(reference.referring, "t"),
                f"({' OR '.join(f'EXISTS ({one})' for one in gone)})",
                f"NOT {_met_by(reference.key, 't', left)}",
            ]
            rows = f"FROM ONLY {self._live.sql(reference.referring)} AS t"
            count = self._count(f"{rows} WHERE {' AND '.join(conditions)}")
            if count:
                yield Conflict(self._live.names[reference.referring].dotted, ConflictKind.REFERRED, count)

    def altered(self, shared: Mapping[int, tuple[str, ...]]) -> Iterator[Conflict]:
        """Yield shared rows that staged rows refer to and that have changed since the snapshot.

        `shared` gives the staged columns by table. Raises psycopg's errors.
        """
        for reference in self._live.references:
            pair, target = self._pairs.get(reference.referring), reference.target
            if pair is None or target not in shared or not _has(pair, reference.key.columns):
                continue
            if reference.key.foreign_code:
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
        """Count the rows, over all foreign keys in question, that refer to nothing now. Raises psycopg's errors."""
        found = 0
        for reference in self._live.references:
            if not reference.validated:
                continue
            whole = "" if reference.whole else "ONLY "
            target = _Target(f"{whole}{self._live.sql(reference.target)} AS x", "x")
            rows = f"FROM ONLY {self._live.sql(reference.referring)} AS t"
            missing = f"NOT {_met_by(reference.key, 't', [target])}"
            found += self._count(f"{rows} WHERE {_given(reference, 't')} AND {missing}")
        return found

    def watched(self, connection: Connection) -> tuple[int, ...]:
        """Count the rows of others that refer to the tenant's, for each foreign key. Raises psycopg's errors."""
        counts = []
        for reference in self._live.references:
            for leaf in reference.leaves:
                if leaf not in self._pairs:
                    continue
                ours = self._pairs[leaf].live.belonging.ours("v")
                query = (
                    f"SELECT pg_catalog.count(*) FROM ONLY {self._live.sql(reference.referring)} AS t WHERE "  # noqa: S608  # as above
                    f"{self._kept(reference.referring, 't')} AND EXISTS (SELECT FROM ONLY {self._live.sql(leaf)} AS v "
                    f"WHERE {matched(reference.key, 't', 'v')} AND {ours})"
                )
                ((count,),) = connection.execute(query.encode()).fetchall()
                counts.append(int(count))
        return tuple(counts)

    def _stay(self, reference: Reference) -> Iterator[_Target]:
        """Yield the live rows that stay, of a reference's targets."""
        for leaf in reference.leaves:
            yield _Target(f"ONLY {self._live.sql(leaf)} AS k", "k", self._kept(leaf, "k"))

    def _staged(self, reference: Reference) -> Iterator[_Target]:
        """Yield the staged rows of a reference's targets."""
        for leaf in reference.leaves:
            pair = self._pairs.get(leaf)
            if pair is not None and _has(pair, reference.key.target_columns):
                yield _Target(f"{pair.source} AS x", "x")

    def _kept(self, table: int, alias: str) -> str:
        """Return the condition that a table's row is not among the restored ones."""
        return self._pairs[table].live.belonging.others(alias) if table in self._pairs else "true"

    def _count(self, rows: str) -> int:
        ((count,),) = self._connection.execute(f"SELECT pg_catalog.count(*) {rows}".encode()).fetchall()
        return int(count)


class _Target(NamedTuple):
    """Rows that may be referred to, as SQL."""

    rows: str
    alias: str
    condition: str = "true"


def _met_by(key: ForeignKey, referring: str, targets: Iterable[_Target]) -> str:
    """Return the condition that a row's reference is met: by one target, or where periods are compared, by several.

    The operator of a period finds what overlaps; together that must cover it, as PostgreSQL's own trigger asks for.
    """
    every = [
        (one.alias, f"FROM {one.rows} WHERE {matched(key, referring, one.alias)} AND {one.condition}")
        for one in targets
    ]
    if not every:
        return "false"
    if not key.temporal:
        return f"({' OR '.join(f'EXISTS (SELECT {found})' for _, found in every)})"
    periods = (f"SELECT {alias}.{identifier(key.target_columns[-1])} AS p {found}" for alias, found in every)
    covered = f"(SELECT pg_catalog.range_agg(y.p) FROM ({' UNION ALL '.join(periods)}) AS y)"  # noqa: S608  # as above
    return f"COALESCE({referring}.{identifier(key.columns[-1])} OPERATOR(pg_catalog.<@) {covered}, false)"


def _has(pair: Pair, columns: tuple[str, ...]) -> bool:
    return pair.columns is not None and set(columns) <= set(pair.columns)


def _given(reference: Reference, alias: str) -> str:
    return " AND ".join(f"{alias}.{identifier(column)} IS NOT NULL" for column in reference.key.columns)


_ALLOWED = """
SELECT c.oid, pg_catalog.row_security_active(c.oid),
  (SELECT pg_catalog.bool_and(pg_catalog.has_table_privilege(c.oid, p)) FROM pg_catalog.unnest(%s::text[]) p)
FROM pg_catalog.pg_class c WHERE c.oid = ANY (%s) ORDER BY 1
"""
_FIRING = """
SELECT o, pg_catalog.count(*) FILTER (WHERE e = 'O'), pg_catalog.count(*) FILTER (WHERE e IN ('A', 'R')),
  pg_catalog.count(*) FILTER (WHERE e = 'A')
FROM (
  SELECT tgrelid, tgenabled FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgtype & 28 <> 0
  UNION ALL
  SELECT ev_class, ev_enabled FROM pg_catalog.pg_rewrite WHERE ev_type IN ('2', '3', '4')
) f (o, e) WHERE o = ANY (%s) GROUP BY 1 ORDER BY 1
"""
"""Counts of triggers and rules by how they fire; 28 are the bits of a trigger for rows inserted, deleted or updated."""
_READ, _WRITTEN = ["SELECT"], ["SELECT", "INSERT", "UPDATE", "DELETE"]


def right_conflicts(connection: Connection, live: Live) -> Iterator[Conflict]:
    """Yield tables of which the role cannot see all rows, or that it may not write. Raises psycopg's errors."""
    around = {oid for reference in live.references for oid in (reference.referring, *reference.leaves)}
    for oids, wanted in ((set(live.tables), _WRITTEN), (around - set(live.tables), _READ)):
        for oid, secured, allowed in connection.execute(_ALLOWED, (wanted, list(oids))).fetchall():
            if secured:
                yield Conflict(live.names[oid].dotted, ConflictKind.ROW_SECURITY, 1)
            if not allowed:
                yield Conflict(live.names[oid].dotted, ConflictKind.PRIVILEGE, 1)


def disable_triggers(connection: Connection) -> bool:
    """Switch triggers and rules off for the transaction at hand; return whether the role may.

    Raises psycopg's errors.
    """
    try:
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def firing_conflicts(
    connection: Connection, tables: Iterable[LiveTable], circles: Collection[frozenset[int]], *, quiet: bool
) -> Iterator[Conflict]:
    """Yield what would fire when these tables are written, or what still fires when triggers are off (`quiet`).

    `circles` are circles of foreign keys that cannot be deferred. Raises psycopg's errors.
    """
    by_oid = {table.oid: table for table in tables}
    for oid, usual, stubborn, always in connection.execute(_FIRING, (list(by_oid),)).fetchall():
        kind, count = (ConflictKind.ALWAYS_FIRES, stubborn) if quiet else (ConflictKind.TRIGGERS, usual + always)
        if count:
            yield Conflict(by_oid[oid].name.dotted, kind, count)
    for table in by_oid.values() if quiet else ():
        deferrable = sum(key.deferrable for key in table.keys)
        if deferrable:
            yield Conflict(table.name.dotted, ConflictKind.DEFERRABLE, deferrable)
    for circle in () if quiet else circles:
        touched = sorted(circle & set(by_oid))
        if len(touched) > 1:
            yield Conflict(by_oid[touched[0]].name.dotted, ConflictKind.CYCLE, len(circle))
