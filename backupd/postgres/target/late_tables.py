"""Tables that may need the rows of others to take their own: a check or a generated column of theirs calls a function
of the database, which may look anywhere, and PostgreSQL knows nothing of where.
"""

from __future__ import annotations

from backupd.postgres.connect import Connection

_LATE = """
WITH own AS (
  SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
  WHERE l.lanname NOT IN ('c', 'internal') AND p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                  AND e.objid = p.oid AND e.deptype = 'e')
), called AS (
  SELECT d.classid, d.objid FROM pg_catalog.pg_depend d JOIN own ON own.oid = d.refobjid
  WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
), checks AS (
  SELECT k.conrelid, k.contypid FROM pg_catalog.pg_constraint k JOIN called ON called.objid = k.oid
  WHERE called.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.contype = 'c'
), late AS (
  SELECT conrelid AS oid FROM checks
  UNION SELECT a.attrelid FROM pg_catalog.pg_attribute a JOIN checks ON checks.contypid = a.atttypid
    WHERE checks.contypid <> 0
  UNION SELECT g.adrelid FROM pg_catalog.pg_attrdef g JOIN called ON called.objid = g.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = g.adrelid AND a.attnum = g.adnum
    WHERE called.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.attgenerated <> ''
)
SELECT n.nspname, c.relname FROM late JOIN pg_catalog.pg_class c ON c.oid = late.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
"""


def late_tables(connection: Connection) -> frozenset[tuple[str, str]]:
    """Return schema and name of the tables that are to be filled after all others. Raises psycopg's errors."""
    return frozenset((schema, name) for schema, name in connection.execute(_LATE))
