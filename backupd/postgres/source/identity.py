"""Types of columns that can identify a tenant: values are equal in the database exactly when their text is equal.

Segments, deletion and attestations know a tenant by the text that COPY writes. A type is on this list when, under the
settings of our sessions, `=` holds between two values if and only if their texts are the same:

- int2, int4, int8, oid: one text for each number. Not numeric, float4, float8 and money: 7 equals 7.00, 0 equals -0.
- text, varchar, name, in a deterministic collation: `=` compares bytes. Not character(n), which ignores trailing
  spaces, not citext, and no column in a nondeterministic collation.
- uuid: always written in lower case, with hyphens. date: always ISO. Enumerations: a label each.
- Domains over these.

Every other type is refused: json, arrays, composites, ranges and types of extensions hold any of the above; interval,
timetz and jsonb have equal values of different text; times of day, bytea, addresses and bool are spelled one way by
COPY and another by `::text` or by a driver.

`backupd manual trust`, row *rows*, says who can write this, and what is checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Final

from backupd.postgres.connect import Connection

_LISTED: Final = (20, 21, 23, 26, 25, 1043, 19, 2950, 1082)
"""Oids of int8, int2, int4, oid, text, varchar, name, uuid and date, the same on every server."""

_ROOTS = """
WITH RECURSIVE below(type, base) AS (
  SELECT t.oid, t.oid FROM pg_catalog.pg_type t WHERE t.typtype <> 'c'
  UNION ALL
  SELECT b.type, t.typbasetype FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype = 'd'),
root AS (
  SELECT b.type, b.base, b.base = ANY (%(listed)s::pg_catalog.oid[]) OR t.typtype = 'e' AS fit
  FROM below b JOIN pg_catalog.pg_type t ON t.oid = b.base WHERE t.typtype <> 'd')
"""
_AMBIGUOUS = f"""{_ROOTS}
SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  CASE WHEN r.base <> a.atttypid THEN pg_catalog.format_type(r.base, NULL) END, l.collname
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN root r ON r.type = a.atttypid
LEFT JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation AND NOT l.collisdeterministic
WHERE c.relkind IN ('r', 'p', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
  AND (a.attname = ANY (%(names)s) OR EXISTS (
    SELECT FROM pg_catalog.pg_constraint k
    WHERE k.contype = 'f' AND ((k.confrelid = a.attrelid AND a.attnum = ANY (k.confkey))
      OR (k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey)))))
  AND (r.fit IS NOT TRUE OR l.oid IS NOT NULL)
ORDER BY 1, 2
"""  # noqa: S608  # made of constants of this module
_TYPE = f"""{_ROOTS}
SELECT pg_catalog.format_type(r.type, NULL) FROM root r WHERE r.type = %(type)s::pg_catalog.oid AND NOT r.fit
UNION ALL
SELECT pg_catalog.format_type(%(type)s::pg_catalog.oid, NULL)
WHERE NOT EXISTS (SELECT FROM root r WHERE r.type = %(type)s::pg_catalog.oid)
"""  # noqa: S608  # made of constants of this module


def ambiguous_columns(connection: Connection, names: Collection[str]) -> dict[int, dict[str, str]]:
    """Return the columns that cannot identify a tenant, by table oid and column, each with its type for messages.

    Columns with the given names are checked, those of foreign keys, and those that foreign keys lead to.
    """
    found: defaultdict[int, dict[str, str]] = defaultdict(dict)
    arguments = {"listed": list(_LISTED), "names": list(names)}
    for oid, column, type_, base, collation in connection.execute(_AMBIGUOUS.encode(), arguments):
        domain = f", a domain over {base}" if base else ""
        blind = f" in the nondeterministic collation {collation}" if collation else ""
        found[oid][column] = f"{type_}{domain}{blind}"
    return dict(found)


def ambiguous_type(connection: Connection, oid: int) -> str | None:
    """Return the name of a query's type that cannot identify a tenant; None for one that can."""
    rows = connection.execute(_TYPE.encode(), {"listed": list(_LISTED), "type": oid}).fetchall()
    return rows[0][0] if rows else None
