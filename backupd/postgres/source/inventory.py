"""Reading the inventory of a database from its system tables, on a connection that sees the exported snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from itertools import starmap
from typing import Any

from backupd.model.inventory import ForeignKey, Inventory, Table, TableKind, TableName
from backupd.postgres.connect import Connection, identifier, qualified
from backupd.postgres.source.foreign_code import keys_with_foreign_code
from backupd.postgres.source.identity import ambiguous_columns

_SYSTEM = "n.nspname IN ('pg_catalog', 'information_schema') OR n.nspname ~ '^pg_(toast|temp)'"

_TABLES = f"""
SELECT c.oid, n.nspname, c.relname, c.relkind, c.relispartition, c.relpersistence,
  CASE WHEN c.relkind = 'r' THEN
    pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int8 ELSE 0 END,
  CASE WHEN c.relkind = 'r' THEN pg_catalog.pg_table_size(c.oid) ELSE 0 END,
  c.reltuples, d.extname,
  (SELECT e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)]
   FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig) LIMIT 1)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT e.extname FROM pg_catalog.pg_depend m JOIN pg_catalog.pg_extension e ON e.oid = m.refobjid
  WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objid = c.oid AND m.objsubid = 0
    AND m.deptype = 'e' AND m.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass) d ON true
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
  AND (NOT ({_SYSTEM}) OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
"""  # noqa: S608  # made of constants of this module
"""Query for relations, with sizes of tables only: reading a materialized view's size would wait for its refresh."""

_NULLABLE = """(NOT a.attnotnull OR EXISTS (SELECT FROM pg_catalog.pg_constraint x
  WHERE x.contype = 'n' AND x.conrelid = a.attrelid AND x.conkey = ARRAY[a.attnum] AND NOT x.convalidated))"""
"""Condition that a column `a` may hold nulls: from version 18 on, NOT NULL may have been declared without a look."""

_COLUMNS = f"""
SELECT a.attrelid,
  COALESCE(pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''), '{{}}'),
  COALESCE(pg_catalog.array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attgenerated <> ''), '{{}}'),
  COALESCE(pg_catalog.array_agg(a.attname ORDER BY a.attname) FILTER (WHERE {_NULLABLE}), '{{}}')
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND (NOT ({_SYSTEM}) OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
GROUP BY 1
"""  # noqa: S608  # made of constants of this module

_COMPARES_ALIKE = """EXISTS (
    SELECT FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey),
      pg_catalog.unnest(k.conffeqop), pg_catalog.unnest(k.conpfeqop)) f(own, target, own_equal, equal)
    JOIN pg_catalog.pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = f.target
    JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[n]
    JOIN pg_catalog.pg_am m ON m.oid = c.opcmethod AND m.amname = 'btree'
    WHERE f.own = i.indkey[n] AND i.indcollation[n] = t.attcollation AND (
      SELECT pg_catalog.count(DISTINCT o.amopopr) FROM pg_catalog.pg_amop o
      WHERE o.amopfamily = c.opcfamily AND o.amopstrategy = 3 AND o.amopopr IN (f.own_equal, f.equal))
      = CASE WHEN f.own_equal = f.equal THEN 1 ELSE 2 END)"""
"""Condition that an index `i` compares its column at place `n` as a key `k` does: by the same equality and collation.
What equals the same value is equal, by all operators of a family."""

_FOREIGN_KEYS = f"""
SELECT k.conrelid, k.conname, k.confrelid,
  (SELECT pg_catalog.array_agg(a.attname ORDER BY u.place)
   FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(number, place)
   JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.number),
  (SELECT pg_catalog.array_agg(a.attname ORDER BY u.place)
   FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY u(number, place)
   JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.number),
  (SELECT pg_catalog.array_agg(ARRAY[n.nspname, o.oprname, cn.nspname, c.collname] ORDER BY u.place)
   FROM ROWS FROM (pg_catalog.unnest(k.conpfeqop), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conkey))
     WITH ORDINALITY u(operator, target, own, place)
   JOIN pg_catalog.pg_operator o ON o.oid = u.operator JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
   JOIN pg_catalog.pg_attribute t ON t.attrelid = k.confrelid AND t.attnum = u.target
   JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.own
   LEFT JOIN pg_catalog.pg_collation c ON c.oid = t.attcollation AND a.attcollation NOT IN (0, t.attcollation)
   LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace),
  k.convalidated AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
   WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) AND {_NULLABLE}),
  k.convalidated, COALESCE(pg_catalog.to_jsonb(k) ->> 'conperiod', 'false') = 'true', k.confdeltype = 'c',
  (WITH RECURSIVE above(name, parent) AS (
    SELECT p.conname, p.conparentid FROM pg_catalog.pg_constraint p WHERE p.oid = k.conparentid
    UNION ALL SELECT p.conname, p.conparentid FROM above b JOIN pg_catalog.pg_constraint p ON p.oid = b.parent)
   SELECT b.name FROM above b WHERE b.parent = 0),
  EXISTS (SELECT FROM pg_catalog.pg_index i
   WHERE i.indrelid = k.conrelid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
     AND NOT EXISTS (SELECT FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) n WHERE NOT {_COMPARES_ALIKE}))
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_constraint p WHERE p.oid = k.conparentid AND p.conrelid = k.conrelid)
ORDER BY k.conrelid, k.conname
"""  # noqa: S608  # made of constants of this module
"""Foreign keys, one row each. A key to a partitioned table has one more entry per partition, below its own, which
adds nothing."""

_UNIQUE = """
SELECT i.indrelid, i.indisprimary, pg_catalog.array_agg(a.attname ORDER BY u.place)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY u(number, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number
WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indrelid >= 16384
GROUP BY i.indexrelid, 1, 2 ORDER BY 1, 2 DESC, 3
"""
_PARENTS = """
SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid WHERE c.relispartition
"""

_WIDTHS = """
SELECT c.oid, pg_catalog.sum(s.avg_width)::int8 FROM pg_catalog.pg_stats s
JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
WHERE NOT s.inherited AND n.nspname NOT IN ('pg_catalog', 'information_schema') GROUP BY 1
"""
_DISTINCT = """
SELECT c.oid, s.attname, s.n_distinct FROM pg_catalog.pg_stats s
JOIN pg_catalog.pg_namespace n ON n.nspname = s.schemaname
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
WHERE NOT s.inherited AND s.attname = ANY (%s) ORDER BY 1, 2
"""

_KINDS = {"p": TableKind.PARTITIONED, "m": TableKind.MATVIEW, "f": TableKind.FOREIGN}


def read_inventory(connection: Connection, tenant_columns: Collection[str] = ()) -> Inventory:
    """Read the inventory; columns of the given names get n_distinct and a check whether they can identify a tenant."""
    rows = connection.execute(_TABLES.encode()).fetchall()
    names = {row[0]: TableName(row[1], row[2]) for row in rows}
    details = _Details(connection, names, tenant_columns)
    database = connection.execute("SELECT pg_catalog.current_database()").fetchall()[0][0]
    return Inventory(database, tuple(sorted((details.table(row) for row in rows), key=lambda table: table.name)))


class _Details:
    """The facts that are read once for all tables, and returned by oid."""

    def __init__(self, connection: Connection, names: dict[int, TableName], tenant_columns: Collection[str]) -> None:
        self._names = names
        shared: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._columns: dict[int, tuple[str, ...]] = {}
        self._generated: dict[int, tuple[str, ...]] = {}
        self._nullable: dict[int, frozenset[str]] = {}
        for oid, plain, generated, nullable in connection.execute(_COLUMNS.encode()):
            listed = tuple(plain)
            self._columns[oid] = shared.setdefault(listed, listed)
            self._generated[oid], self._nullable[oid] = tuple(generated), frozenset(nullable)
        self._primary: dict[int, tuple[str, ...]] = {}
        self._unique: defaultdict[int, list[frozenset[str]]] = defaultdict(list)
        for oid, primary, listed in connection.execute(_UNIQUE):
            self._unique[oid].append(frozenset(listed))
            if primary:
                self._primary[oid] = tuple(listed)
        self._parents: dict[int, int] = dict(connection.execute(_PARENTS.encode()).fetchall())
        self._widths: dict[int, int] = dict(connection.execute(_WIDTHS.encode()).fetchall())
        self._keys: defaultdict[int, list[ForeignKey]] = defaultdict(list)
        foreign = keys_with_foreign_code(connection)
        for row in connection.execute(_FOREIGN_KEYS.encode()):
            if row[0] in names and row[2] in names:
                key = _foreign_key(row, names[row[2]])
                self._keys[row[0]].append(replace(key, foreign_code=(row[0], row[1]) in foreign))
        self._distinct: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
        self._ambiguous: dict[int, dict[str, str]] = {}
        if tenant_columns:
            self._ambiguous = ambiguous_columns(connection, tenant_columns)
            for oid, column, share in connection.execute(_DISTINCT.encode(), (list(tenant_columns),)):
                self._distinct[oid].append((column, share))

    def table(self, row: tuple[Any, ...]) -> Table:
        oid, schema, table, kind, partition, persistence, blocks, size, tuples, extension, condition = row
        return Table(
            name=TableName(schema, table),
            oid=oid,
            kind=_KINDS.get(kind, TableKind.PARTITION if partition else TableKind.TABLE),
            columns=self._columns.get(oid, ()),
            generated=self._generated.get(oid, ()),
            primary=self._primary.get(oid, ()),
            unique=tuple(self._unique.get(oid, ())),
            nullable=self._nullable.get(oid, frozenset()),
            foreign_keys=tuple(self._keys.get(oid, ())),
            parents=self._ancestors(oid),
            blocks=blocks,
            size=size,
            rows=int(tuples) if tuples > 0 or (tuples == 0 and blocks == 0) else None,
            width=self._widths.get(oid),
            distinct=tuple(self._distinct.get(oid, ())),
            ambiguous=tuple(self._ambiguous.get(oid, {}).items()),
            logged=persistence == "p",
            extension=extension,
            condition=condition,
        )

    def _ancestors(self, oid: int) -> tuple[TableName, ...]:
        found = []
        while (oid := self._parents.get(oid, 0)) in self._names:
            found.append(self._names[oid])
        return tuple(found)


def _foreign_key(row: tuple[Any, ...], target: TableName) -> ForeignKey:
    _, name, _, columns, target_columns, operators, required, validated, temporal, cascades, root, single = row
    return ForeignKey(
        name=name,
        columns=tuple(columns),
        target=target,
        target_columns=tuple(target_columns),
        operators=tuple(starmap(_operator, operators)),
        required=required and not temporal,
        temporal=temporal,
        validated=validated,
        cascades=cascades,
        root=root,
        single=single and not temporal,
    )


def _operator(schema: str, name: str, collation_schema: str | None, collation: str | None) -> str:
    operator = f"OPERATOR({identifier(schema)}.{name})"
    if collation_schema is None or collation is None:
        return operator
    return f"COLLATE {qualified(collation_schema, collation)} {operator}"
