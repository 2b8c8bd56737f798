"""The keys, checks, indexes and types that run functions of roles that are no superusers, where they are read or tried.

A function's owner decides what it does, and it does it with the rights of the role that runs it. So a backup, and a
look before a restore in place, must not touch these. `backupd manual trust`, row *foreign keys on the way to a tenant*.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backupd.postgres.connect import Connection

_THEIRS = """
theirs AS (
  SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles r ON r.oid = p.proowner WHERE NOT r.rolsuper),
calling AS (
  SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
  WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid IN (SELECT oid FROM theirs)
  UNION ALL SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_operator o ON o.oid = d.refobjid AND o.oprcode IN (SELECT oid FROM theirs)
  WHERE d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass)
"""
_KEYS = f"""
WITH RECURSIVE {_THEIRS}, converted(source, target) AS (
  SELECT c.castsource, c.casttarget FROM pg_catalog.pg_cast c
  WHERE c.castcontext = 'i' AND c.castfunc IN (SELECT oid FROM theirs)
  UNION SELECT t.oid, c.target FROM converted c JOIN pg_catalog.pg_type t ON t.typbasetype = c.source)
SELECT DISTINCT k.conrelid, k.conname FROM pg_catalog.pg_constraint k
CROSS JOIN LATERAL ROWS FROM (
  pg_catalog.unnest(k.conpfeqop), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conkey)) AS u(operator, target, own)
JOIN pg_catalog.pg_operator o ON o.oid = u.operator
CROSS JOIN LATERAL (VALUES (k.confrelid, u.target), (k.conrelid, u.own)) AS e(relation, number)
JOIN pg_catalog.pg_attribute a ON a.attrelid = e.relation AND a.attnum = e.number
WHERE k.contype = 'f' AND (o.oprcode IN (SELECT oid FROM theirs)
  OR (a.atttypid, o.oprleft) IN (SELECT source, target FROM converted)
  OR (a.atttypid, o.oprright) IN (SELECT source, target FROM converted))
"""  # noqa: S608  # made of constants of this module
_EXPRESSIONS = f"""
WITH {_THEIRS}
SELECT k.conrelid, k.oid FROM pg_catalog.pg_constraint k
JOIN calling c ON c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND c.objid = k.oid
WHERE k.contype IN ('c', 'x') AND k.conrelid = ANY (%(tables)s)
UNION SELECT i.indrelid, i.indexrelid FROM pg_catalog.pg_index i
JOIN calling c ON c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.objid = i.indexrelid
WHERE i.indrelid = ANY (%(tables)s)
UNION SELECT t.oid, t.oid FROM pg_catalog.pg_class t
CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t.oid) AS p(oid)
JOIN calling c ON c.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.objid = p.oid
JOIN pg_catalog.pg_partitioned_table g ON g.partrelid = p.oid AND g.partexprs IS NOT NULL
WHERE t.relispartition AND t.oid = ANY (%(tables)s)
"""  # noqa: S608  # made of constants of this module
_COLUMNS = f"""
WITH RECURSIVE {_THEIRS}, holding(oid) AS (
  SELECT k.contypid FROM pg_catalog.pg_constraint k
  JOIN calling c ON c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND c.objid = k.oid
  WHERE k.contypid <> 0
  UNION SELECT x.oid FROM holding h CROSS JOIN LATERAL (
    SELECT t.oid FROM pg_catalog.pg_type t WHERE h.oid IN (t.typbasetype, t.typelem)
    UNION ALL SELECT c.reltype FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.atttypid = h.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0
    UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngsubtype = h.oid
    UNION ALL SELECT (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid FROM pg_catalog.pg_range r
    WHERE r.rngtypid = h.oid) x WHERE x.oid IS NOT NULL),
below(oid, base, modifier) AS (
  SELECT t.oid, t.typbasetype, t.typtypmod FROM pg_catalog.pg_type t
  WHERE t.typtype = 'd' AND t.oid IN (SELECT oid FROM holding)
  UNION ALL SELECT b.oid, t.typbasetype, t.typtypmod FROM below b
  JOIN pg_catalog.pg_type t ON t.oid = b.base AND t.typtype = 'd')
SELECT a.attrelid, a.attname,
  (SELECT pg_catalog.format_type(b.base, b.modifier) FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.base
   WHERE b.oid = a.atttypid AND t.typtype <> 'd' AND b.base NOT IN (SELECT oid FROM holding))
FROM pg_catalog.pg_attribute a
WHERE a.atttypid IN (SELECT oid FROM holding) AND a.attnum > 0 AND NOT a.attisdropped
"""  # noqa: S608  # made of constants of this module


def keys_with_foreign_code(connection: Connection) -> frozenset[tuple[int, str]]:
    """Return foreign keys, by table and name, whose comparison runs such functions.

    It may be an operator's, or that of an implicit cast to what an operator takes: the owner of a type can make one.
    """
    return frozenset(connection.execute(_KEYS.encode()).fetchall())


@dataclass(frozen=True, slots=True)
class ForeignCode:
    """The expressions and columns of some tables that must not be evaluated."""

    expressions: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """By table, its checks and indexes; the table itself stands for the bounds of the partition that it is."""
    columns: Mapping[int, Mapping[str, str | None]] = field(default_factory=dict)
    """By table, columns whose type checks its values so, and the type under it that does not, where there is one."""


def read_foreign_code(connection: Connection, tables: Sequence[int]) -> ForeignCode:
    """Read what of these tables must not be evaluated, and the columns of all tables."""
    expressions: defaultdict[int, set[int]] = defaultdict(set)
    for table, oid in connection.execute(_EXPRESSIONS.encode(), {"tables": list(tables)}):
        expressions[table].add(oid)
    columns: defaultdict[int, dict[str, str | None]] = defaultdict(dict)
    for table, column, type_ in connection.execute(_COLUMNS.encode()):
        columns[table][column] = type_
    return ForeignCode({table: frozenset(oids) for table, oids in expressions.items()}, dict(columns))
