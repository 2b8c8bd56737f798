"""What the role may do to the live tables, and what else would act when they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from backupd.planning.restoring.inplace import Conflict, ConflictKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from backupd.postgres.connect import Connection
    from backupd.postgres.inplace.live import Live, LiveTable

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
"""28 are the bits of a trigger for rows inserted, deleted or updated."""
_READ, _WRITTEN = ["SELECT"], ["SELECT", "INSERT", "UPDATE", "DELETE"]


def right_conflicts(connection: Connection, live: Live) -> Iterator[Conflict]:
    """Tables that the role does not see whole, or may not write. Raises psycopg's errors."""
    around = {oid for reference in live.references for oid in (reference.referring, *reference.leaves)}
    for oids, wanted in ((set(live.tables), _WRITTEN), (around - set(live.tables), _READ)):
        for oid, secured, allowed in connection.execute(_ALLOWED, (wanted, list(oids))).fetchall():
            if secured:
                yield Conflict(live.names[oid].dotted, ConflictKind.ROW_SECURITY, 1)
            if not allowed:
                yield Conflict(live.names[oid].dotted, ConflictKind.PRIVILEGE, 1)


def may_quiet(connection: Connection) -> bool:
    """Switch triggers and rules off for the transaction at hand, and say whether the role may. Raises psycopg's."""
    try:
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def firing_conflicts(
    connection: Connection, tables: Iterable[LiveTable], circles: Collection[frozenset[int]], *, quiet: bool
) -> Iterator[Conflict]:
    """What would act when these tables are written: all that is on, or what stays on when triggers are off.

    `circles` are of foreign keys that cannot be deferred. Raises psycopg's errors.
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
