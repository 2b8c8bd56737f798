"""Partitions whose rows may belong into other ones on this server than at the source.

Which partition a row belongs into is computed from its key, and not all of that is in the dump: enums and names of
relations are hashed by OIDs, which each server gives out by itself, text is sorted by the machine's own locales, and an
operator class of somebody's own does what it likes. Such rows are loaded through the partitioned table.
"""

from __future__ import annotations

from collections.abc import Mapping

from backupd.model.inventory import TableName
from backupd.postgres.connect import Connection

_ROOTS = """
WITH RECURSIVE keys AS (
  SELECT p.partrelid, p.partstrat, o.opcintype, o.opcnamespace, k.sorting,
    (SELECT a.atttypid FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = p.partrelid AND a.attnum = k.number AND k.number <> 0) AS type
  FROM pg_catalog.pg_partitioned_table p CROSS JOIN LATERAL ROWS FROM (
    pg_catalog.unnest(p.partattrs::int2[]), pg_catalog.unnest(p.partclass::oid[]),
    pg_catalog.unnest(p.partcollation::oid[])) AS k(number, class, sorting)
  JOIN pg_catalog.pg_opclass o ON o.oid = k.class),
parts(partrelid, partstrat, type) AS (
  SELECT partrelid, partstrat, coalesce(type, opcintype) FROM keys
  UNION SELECT p.partrelid, p.partstrat, x.oid FROM parts p CROSS JOIN LATERAL (
    SELECT t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = p.type AND t.typtype = 'd'
    UNION ALL SELECT t.typelem FROM pg_catalog.pg_type t WHERE t.oid = p.type AND t.typcategory = 'A'
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
    WHERE p.type IN (r.rngtypid, (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::pg_catalog.oid)
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
    WHERE t.oid = p.type AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) x(oid)),
moving AS (
  SELECT p.partrelid FROM parts p JOIN pg_catalog.pg_type t ON t.oid = p.type
  WHERE t.oid = 'pg_catalog.aclitem'::pg_catalog.regtype
    OR t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace AND t.typname ~ '^reg'
    OR p.partstrat = 'h' AND (t.typtype = 'e' OR t.typtype = 'p')
  UNION SELECT k.partrelid FROM keys k WHERE k.opcnamespace <> 'pg_catalog'::pg_catalog.regnamespace
  UNION SELECT k.partrelid FROM keys k JOIN pg_catalog.pg_collation c ON c.oid = k.sorting
  WHERE NOT c.collisdeterministic OR k.partstrat = 'r' AND c.collprovider <> 'b' AND c.collname NOT IN ('C', 'POSIX')
    AND NOT (c.collprovider = 'd' AND (SELECT d.datcollate IN ('C', 'POSIX') AND
      pg_catalog.to_jsonb(d) ->> 'datlocprovider' IS DISTINCT FROM 'i' FROM pg_catalog.pg_database d
      WHERE d.datname = pg_catalog.current_database())))
SELECT n.nspname, c.relname, rn.nspname, r.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
  SELECT a.relid FROM pg_catalog.pg_partition_ancestors(c.oid) WITH ORDINALITY AS a(relid, place)
  WHERE a.relid <> c.oid AND a.relid IN (SELECT partrelid FROM moving) ORDER BY a.place DESC LIMIT 1) AS top
JOIN pg_catalog.pg_class r ON r.oid = top.relid JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
WHERE c.relispartition AND c.relkind = 'r'
"""


def moving_partitions(connection: Connection) -> Mapping[TableName, TableName]:
    """Return each partition whose rows may belong elsewhere here, with the highest table that decides on it.

    Raises psycopg's errors.
    """
    found = connection.execute(_ROOTS).fetchall()
    return {TableName(schema, name): TableName(root_schema, root) for schema, name, root_schema, root in found}
