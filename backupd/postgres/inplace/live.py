"""The live tables as they are now: columns, keys, checks and foreign keys, read from the system tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backupd.model.inventory import ForeignKey, Inventory, TableKind, TableName
from backupd.model.tenancy import ClassPolicy, MappedTable, Shared, TenancyMap, Tenant
from backupd.postgres.connect import Connection, identifier, qualified
from backupd.postgres.inplace.session import Belonging
from backupd.postgres.source.foreign_code import ForeignCode, read_foreign_code

_COLUMNS = """
SELECT a.attrelid, a.attname, a.attgenerated <> '', a.attidentity = 'a',
  a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attnotnull
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum
"""

_KEYS = """
SELECT i.indrelid, i.indexrelid, c.oid, i.indisprimary, i.indisexclusion,
  (SELECT pg_catalog.array_agg(pg_catalog.pg_get_indexdef(i.indexrelid, g, false) ORDER BY g)
   FROM pg_catalog.generate_series(1, i.indnkeyatts) g),
  (SELECT pg_catalog.array_agg(ARRAY[n.nspname, o.oprname] ORDER BY g.place)
   FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) g (place)
   JOIN pg_catalog.pg_opclass k ON k.oid = i.indclass[g.place]
   LEFT JOIN pg_catalog.pg_amop m ON m.amopfamily = k.opcfamily AND m.amoplefttype = k.opcintype
     AND m.amoprighttype = k.opcintype AND m.amopstrategy = 3 AND NOT i.indisexclusion
   JOIN pg_catalog.pg_operator o ON o.oid = CASE WHEN i.indisexclusion THEN c.conexclop[g.place + 1] ELSE m.amopopr END
   JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace),
  pg_catalog.pg_get_expr(i.indpred, i.indrelid), pg_catalog.to_jsonb(i) -> 'indnullsnotdistinct' = 'true'::jsonb,
  NOT i.indimmediate,
  CASE WHEN i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND NOT i.indisexclusion THEN
    (SELECT pg_catalog.array_agg(a.attname ORDER BY g.place)
     FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) g (place)
     JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[g.place] AND a.attnotnull
     HAVING pg_catalog.count(*) = i.indnkeyatts) END
FROM pg_catalog.pg_index i
LEFT JOIN pg_catalog.pg_constraint c ON c.conindid = i.indexrelid AND c.conexclop IS NOT NULL
WHERE i.indrelid = ANY (%s) AND i.indisvalid AND (i.indisunique OR i.indisexclusion)
ORDER BY i.indrelid, NOT i.indisprimary, i.indexrelid
"""

_CHECKS = """
SELECT c.conrelid, c.oid, pg_catalog.pg_get_expr(c.conbin, c.conrelid) FROM pg_catalog.pg_constraint c
WHERE c.contype = 'c' AND c.conrelid = ANY (%(tables)s)
  AND COALESCE(pg_catalog.to_jsonb(c) ->> 'conenforced', 'true') = 'true'
UNION ALL
SELECT c.oid, c.oid, pg_catalog.pg_get_partition_constraintdef(c.oid) FROM pg_catalog.pg_class c
WHERE c.relispartition AND c.oid = ANY (%(tables)s)
ORDER BY 1, 2
"""

_REFERENCES = """
SELECT k.conrelid, k.conname, k.confrelid, k.condeferrable, k.convalidated
FROM pg_catalog.pg_constraint k
WHERE k.contype = 'f' AND COALESCE(pg_catalog.to_jsonb(k) ->> 'conenforced', 'true') = 'true'
"""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index or an exclusion constraint."""

    primary: bool
    exclusion: bool
    expressions: tuple[str, ...]
    operators: tuple[str, ...]
    """Operators such as `OPERATOR(schema.=)`; two rows conflict when all of them are true."""
    condition: str | None
    nulls_equal: bool
    deferrable: bool
    columns: tuple[str, ...] = ()
    """Plain columns, none of which is ever null, when the key identifies rows; else empty."""


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table whose rows belong to tenants, with the rules that decide whether rows fit into it."""

    oid: int
    name: TableName
    data_class: str
    belonging: Belonging
    columns: tuple[str, ...]
    """Columns that are neither generated nor dropped."""
    generated: frozenset[str]
    always: frozenset[str]
    """Identity columns (GENERATED ALWAYS), which an update cannot give a value."""
    required: frozenset[str]
    """Columns that are NOT NULL and have no default."""
    filled: frozenset[str]
    """Columns that are NOT NULL."""
    keys: tuple[UniqueKey, ...]
    checks: tuple[str, ...]
    untried: int = 0
    """Number of keys, checks and bounds that run code of a role that is no superuser, and are not listed here."""

    @property
    def sql(self) -> str:
        return qualified(self.name.schema, self.name.table)

    @property
    def identity(self) -> tuple[str, ...]:
        """Return columns that identify a row; empty when only the whole row does."""
        return next((key.columns for key in self.keys if key.columns), ())


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key that is in force between two relations."""

    key: ForeignKey
    referring: int
    """Oid of the referring table."""
    target: int
    leaves: tuple[int, ...]
    """Oids of the tables that hold the target's rows: itself, or its partitions."""
    whole: bool
    """Whether the target is a partitioned table."""
    deferrable: bool
    validated: bool


@dataclass(frozen=True, slots=True)
class Live:
    """The facts about the live tables that concern a tenant."""

    inventory: Inventory = field(repr=False)
    tables: dict[int, LiveTable]
    """Tables, by oid, whose rows belong to tenants and are backed up."""
    references: tuple[Reference, ...]
    """Foreign keys from or to one of these tables."""
    names: dict[int, TableName] = field(repr=False)
    foreign_code: ForeignCode = field(default_factory=ForeignCode)

    def sql(self, oid: int) -> str:
        """Return a table's qualified name, by oid."""
        return qualified(self.names[oid].schema, self.names[oid].table)


def read_live(connection: Connection, inventory: Inventory, mapping: TenancyMap, tenant: str) -> Live:
    """Read the facts about the tables in which rows of this tenant can be.

    Raises psycopg's errors.
    """
    mapped = [one for one in mapping.tables if _is_cut(one, tenant)]
    by_name = inventory.by_name()
    oids = [by_name[one.table].oid for one in mapped]
    columns = _by_table(connection.execute(_COLUMNS.encode(), (oids,)))
    keys = _by_table(connection.execute(_KEYS.encode(), (oids,)))
    checks = _by_table(connection.execute(_CHECKS.encode(), {"tables": oids}))
    code = read_foreign_code(connection, oids)
    tables = {}
    for oid, one in zip(oids, mapped, strict=True):
        untried = code.expressions.get(oid, frozenset())
        facts = LiveTable(
            oid=oid,
            name=one.table,
            data_class=one.data_class,
            belonging=Belonging(one.route, tenant),
            columns=tuple(name for name, generated, *_ in columns[oid] if not generated),
            generated=frozenset(name for name, generated, *_ in columns[oid] if generated),
            always=frozenset(name for name, _, always, *_ in columns[oid] if always),
            required=frozenset(name for name, generated, _, required, _ in columns[oid] if required and not generated),
            filled=frozenset(name for name, *_, filled in columns[oid] if filled),
            keys=tuple(_key(row) for index, constraint, *row in keys[oid] if not {index, constraint} & untried),
            checks=tuple(text for check, text in checks[oid] if text and check not in untried),
            untried=len(untried),
        )
        tables[oid] = facts
    names = {table.oid: table.name for table in inventory.tables}
    return Live(inventory, tables, _references(connection, inventory, frozenset(tables)), names, code)


def _is_cut(mapped: MappedTable, tenant: str) -> bool:
    """Check whether rows of the table can be this tenant's and are backed up."""
    foreign = isinstance(mapped.route, Tenant) and mapped.route.tenant != tenant
    return mapped.policy is not ClassPolicy.NEVER and not isinstance(mapped.route, Shared) and not foreign


def _by_table(rows: Iterable[tuple[Any, ...]]) -> defaultdict[int, list[tuple[Any, ...]]]:
    found: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *rest in rows:
        found[oid].append(tuple(rest))
    return found


def _key(row: list[Any]) -> UniqueKey:
    primary, exclusion, expressions, operators, condition, nulls_equal, deferrable, columns = row
    return UniqueKey(
        primary=primary,
        exclusion=exclusion,
        expressions=tuple(expressions),
        operators=tuple(f"OPERATOR({identifier(schema)}.{operator})" for schema, operator in operators),
        condition=condition,
        nulls_equal=bool(nulls_equal),
        deferrable=deferrable,
        columns=tuple(columns or ()),
    )


def _references(connection: Connection, inventory: Inventory, ours: frozenset[int]) -> tuple[Reference, ...]:
    by_name = inventory.by_name()
    facts = {(row[0], row[1]): row[3:] for row in connection.execute(_REFERENCES.encode())}
    leaves = _leaves(inventory)
    found = []
    listed = [(one, key) for one in inventory.tables if one.dumped for key in one.foreign_keys]
    for table, key in listed:
        fact, target = facts.get((table.oid, key.name)), by_name[key.target]
        below = tuple(leaves[target.oid])
        if fact is not None and (table.oid in ours or not ours.isdisjoint(below)):
            whole = target.kind is TableKind.PARTITIONED
            found.append(Reference(key, table.oid, target.oid, below, whole, *fact))
    return tuple(found)


def _leaves(inventory: Inventory) -> defaultdict[int, list[int]]:
    """Return, for each table, the tables that hold its rows."""
    by_name = inventory.by_name()
    leaves: defaultdict[int, list[int]] = defaultdict(list)
    for table in inventory.tables:
        for one in (table.name, *table.parents) if table.dumped else ():
            leaves[by_name[one].oid].append(table.oid)
    return leaves
