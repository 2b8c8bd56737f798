"""The facts that a restore or a comparison needs besides schema and rows (FORMAT.md §7, `facts` and `sequences`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from backupd.errors import SourceBusyError
from backupd.model.manifest import SequenceValue
from backupd.planning.incremental.steady_numbers import Numbering
from backupd.planning.mapping.names import NamePatterns
from backupd.postgres import settings
from backupd.postgres.connect import Connection, literal, qualified

_BATCH = 200

_USER = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
_MEMBER = """EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
  AND d.objid = c.oid AND d.deptype = 'e')"""

_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1
"""
_LABELS = "SELECT oid::int8, enumtypid::int8, enumlabel FROM pg_catalog.pg_enum"
_COLLATIONS = f"""
SELECT n.nspname, c.collname, c.collprovider::text, c.collversion FROM pg_catalog.pg_collation c
JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE {_USER} ORDER BY 1, 2
"""  # noqa: S608  # made of constants of this module
_DATABASE = """
SELECT pg_catalog.to_jsonb(d), pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
  EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public')
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
"""
_MATVIEWS = f"""
SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated AND {_USER} AND NOT {_MEMBER} ORDER BY 2, 3
"""  # noqa: S608  # made of constants of this module
_VIEWS_BELOW = """
SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> r.ev_class
JOIN pg_catalog.pg_class above ON above.oid = r.ev_class AND above.relkind IN ('v', 'm')
JOIN pg_catalog.pg_class below ON below.oid = d.refobjid AND below.relkind IN ('v', 'm') ORDER BY 1, 2
"""
_SEQUENCES = f"""
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {_USER}
  AND (NOT {_MEMBER} OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig)))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend i JOIN pg_catalog.pg_depend d
    ON d.classid = i.refclassid AND d.objid = i.refobjid AND d.deptype = 'e'
    WHERE i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND i.objid = c.oid AND i.deptype = 'i'
      AND i.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE i.refobjid = ANY (e.extconfig)))
  AND NOT (c.relpersistence = 'u' AND pg_catalog.pg_is_in_recovery()) ORDER BY 1, 2
"""  # noqa: S608  # made of constants of this module


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """The facts and sequences of one segment. Sealed data only."""

    facts: dict[str, Any] = field(default_factory=dict)
    sequences: tuple[SequenceValue, ...] = ()


def read_facts(snapshot: Connection) -> dict[str, Any]:
    """Read the database's facts, on a connection that sees the exported snapshot.

    `refresh` lists populated materialized views only, in the order in which to refresh them.
    """
    row, owner, encoding, public = snapshot.execute(_DATABASE).fetchall()[0]
    return {
        "server_version": snapshot.info.server_version,
        "encoding": encoding,
        "settings": {**settings.TEXT, "client_encoding": settings.rows_encoding(encoding)},
        "extensions": [list(row) for row in snapshot.execute(_EXTENSIONS)],
        "collations": [list(row) for row in snapshot.execute(_COLLATIONS.encode())],
        "database": _database(row, owner) | ({} if public else {"public": False}),
        "refresh": _refresh_order(snapshot),
    }


def read_sequences(snapshot: Connection, free: Connection) -> list[SequenceValue]:
    """Read the value of every sequence that the exported snapshot shows.

    Sequences do not obey snapshots: values are those of now, so never behind the rows. `free` is another connection, in
    autocommit: each read takes a lock, and a transaction would keep them all.
    """
    names = [(schema, name) for schema, name in snapshot.execute(_SEQUENCES.encode())]
    values: list[SequenceValue] = []
    for start in range(0, len(names), _BATCH):
        values += free.execute(_values(names[start : start + _BATCH]).encode()).fetchall()
    return sorted(values)


def require_same_labels(snapshot: Connection, free: Connection) -> None:
    """Check that no label of an enum was renamed since the exported snapshot.

    Rows are written with the labels of now, and the types with those of the snapshot, so that rows could not be loaded.
    Nothing keeps labels from being renamed. `free` is another connection, in autocommit. Raises SourceBusyError.
    """
    now = {number: label for number, _, label in free.execute(_LABELS.encode())}
    for number, enum, label in snapshot.execute(_LABELS.encode()):
        if now.get(number, label) != label:
            raise SourceBusyError(
                f"a label of the enum with oid {enum} was renamed while rows were read",
                hint="The next attempt takes the database as it is then.",
            )


def divide_facts(
    facts: dict[str, Any],
    sequences: Sequence[SequenceValue],
    names: NamePatterns,
    numbering: Numbering | None = None,
) -> dict[str | None, SourceFacts]:
    """Divide facts and sequences by segment.

    Facts that name a tenant's own schema are that tenant's; `ranks` beside `refresh` are places in the order of all
    segments: without a `numbering` those in their list, which one more moves.
    """
    refreshed = ["\0".join(matview).encode(errors="surrogateescape") for matview in facts["refresh"]]
    ranks = range(len(refreshed)) if numbering is None else [one.place for one in numbering(refreshed)]
    divided: dict[str | None, dict[str, Any]] = {names.whole: {**facts, "collations": [], "refresh": [], "ranks": []}}
    for collation in facts["collations"]:
        divided.setdefault(names.schema(collation[0]), {}).setdefault("collations", []).append(collation)
    for rank, matview in zip(ranks, facts["refresh"], strict=True):
        own = divided.setdefault(names.schema(matview[0]), {})
        own.setdefault("refresh", []).append(matview)
        own.setdefault("ranks", []).append(rank)
    values: dict[str | None, list[SequenceValue]] = {}
    for value in sequences:
        values.setdefault(names.schema(value[0]), []).append(value)
    tenants = sorted({*divided, *values}, key=lambda tenant: (tenant is not None, tenant or ""))
    return {tenant: SourceFacts(divided.get(tenant, {}), tuple(values.get(tenant, ()))) for tenant in tenants}


def _database(row: dict[str, Any], owner: str) -> dict[str, Any]:
    """Return the facts of the database.

    The names of some columns changed between versions; the oldest supported version has the fewest.
    """
    return {
        "name": row["datname"],
        "owner": owner,
        "provider": row.get("datlocprovider", "c"),
        "collate": row["datcollate"],
        "ctype": row["datctype"],
        "locale": row.get("datlocale", row.get("daticulocale")),
        "collation_version": row.get("datcollversion"),
    }


def _refresh_order(snapshot: Connection) -> list[list[str]]:
    matviews = {oid: [schema, name] for oid, schema, name in snapshot.execute(_MATVIEWS.encode())}
    order: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(matviews, ()))
    for above, below in snapshot.execute(_VIEWS_BELOW):
        order.add(above, below)
    return [matviews[oid] for oid in order.static_order() if oid in matviews]


def _values(names: Sequence[tuple[str, str]]) -> str:
    def each() -> Iterator[str]:
        for schema, name in names:
            columns = f"{literal(schema)}::pg_catalog.text, {literal(name)}::pg_catalog.text, last_value, is_called"
            yield f"SELECT {columns} FROM {qualified(schema, name)}"  # noqa: S608  # every name is quoted

    return " UNION ALL ".join(each())
