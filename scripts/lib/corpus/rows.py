"""Rows for tables that somebody else made: a few for each table and tenant, each allowed by all constraints.

A turn makes rows of one tenant: foreign keys lead to rows of the same turn, where their table got any in it, else to
rows that the application itself had made. So rows of different tenants never refer to each other, and what a tenant
has can be found by following keys. Rows that a table's checks and triggers refuse are left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

_TABLES = """
    SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema$)'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                      AND d.deptype = 'e')
    ORDER BY 2, 3"""
_COLUMNS = """
    SELECT a.attrelid, a.attname, a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '',
           a.attidentity = 'a', format_type(b.oid, CASE WHEN b.oid = t.oid THEN a.atttypmod ELSE t.typtypmod END),
           b.typtype, b.typcategory, a.atttypmod
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum"""
_KEYS = """
    SELECT conrelid, confrelid,
           ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY k(n, o)
                 JOIN pg_attribute ON attrelid = conrelid AND attnum = n ORDER BY o),
           ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY k(n, o)
                 JOIN pg_attribute ON attrelid = confrelid AND attnum = n ORDER BY o)
    FROM pg_constraint WHERE contype = 'f' AND conparentid = 0"""
_CHECKS = "SELECT conrelid, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
_LABELS = """
    SELECT DISTINCT ON (enumtypid) format_type(enumtypid, NULL), enumlabel FROM pg_enum
    ORDER BY enumtypid, enumsortorder"""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    required: bool
    has_default: bool
    type: str
    kind: str
    category: str


@dataclass(frozen=True, slots=True)
class _Key:
    target: int
    columns: tuple[str, ...]
    names: tuple[str, ...]
    """Of the target's columns."""


@dataclass(slots=True)
class _Table:
    oid: int
    full: str
    name: sql.Identifier
    columns: list[_Column] = field(default_factory=list)
    keys: list[_Key] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """Texts that its checks speak of."""
    seeds: list[Mapping[str, Any]] = field(default_factory=list)
    """Some rows that were there before."""
    turn: list[Mapping[str, Any]] = field(default_factory=list)
    """Rows of this turn."""
    made: int = 0


@dataclass(frozen=True, slots=True)
class Filled:
    """How far it got."""

    rows: int
    tables: int
    empty: int
    """Tables in which no row could be made and none was."""


def fill(connection: psycopg.Connection[Any], tenants: int, width: int, single: str, column: str = "") -> Filled:
    """Make rows of so many tenants, `width` a table and tenant, but one in the table `single`. Needs autocommit.

    A column called `column` leads to the table `single`, whether a key says so or not.
    """
    connection.execute("SET search_path = public, pg_catalog")
    tables = _tables(connection)
    labels = dict(connection.execute(_LABELS).fetchall())
    owner = next((table for table in tables.values() if table.full == single), None)
    for table in tables.values() if owner is not None and column else ():
        keyed = {name for key in table.keys for name in key.columns}
        if table is not owner and column in {one.name for one in table.columns} - keyed:
            table.keys.append(_Key(owner.oid, (column,), (_primary(connection, owner),)))
    ordered = _ordered(tables)
    for table in ordered:
        table.seeds = _some(connection, table)
    for turn in range(1, tenants + 1):
        for table in ordered:
            table.turn = []
            for number in range(1 if table.full == single else width):
                _insert(connection, tables, table, turn * 1000 + number, labels)
    made = sum(table.made for table in ordered)
    empty = sum(1 for table in ordered if not table.made and not table.seeds)
    return Filled(made, len(ordered), empty)


def _tables(connection: psycopg.Connection[Any]) -> dict[int, _Table]:
    found = {
        oid: _Table(oid, ".".join(name), sql.Identifier(*name)) for oid, *name in connection.execute(_TABLES).fetchall()
    }
    for oid, name, required, default, generated, always, *kind, _ in connection.execute(_COLUMNS).fetchall():
        if oid in found and not generated and not always:
            found[oid].columns.append(_Column(name, required, default, *kind))
    for oid, target, columns, names in connection.execute(_KEYS).fetchall():
        if oid in found:
            found[oid].keys.append(_Key(target, tuple(columns), tuple(names)))
    for oid, text in connection.execute(_CHECKS).fetchall():
        if oid in found:
            found[oid].texts += re.findall(r"'([^']+)'::", text)
    return found


def _ordered(tables: Mapping[int, _Table]) -> list[_Table]:
    """Targets before what refers to them by keys that are required; those in circles last."""
    left, done = list(tables.values()), []
    placed: set[int] = set()
    for strict in (False, True):  # first by all keys, then by those that are required, then as it comes
        going = True
        while going:
            going = False
            for table in list(left):
                if all(target in placed or target == table.oid for target in _needed(table, strict)):
                    placed.add(table.oid)
                    done.append(table)
                    left.remove(table)
                    going = True
                    if strict:
                        break
    return done + left


def _needed(table: _Table, strict: bool) -> Iterator[int]:
    required = {column.name for column in table.columns if column.required}
    for key in table.keys:
        if not strict or required.issuperset(key.columns):
            yield key.target


def _primary(connection: psycopg.Connection[Any], table: _Table) -> str:
    found = connection.execute(
        "SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
        " WHERE indisprimary AND indrelid = %s::oid",
        [table.oid],
    ).fetchone()
    if found is None:
        raise RuntimeError(f"{table.full} has no primary key")
    return str(found[0])


def _some(connection: psycopg.Connection[Any], table: _Table) -> list[Mapping[str, Any]]:
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 20").format(table.name)).fetchall()


def _insert(
    connection: psycopg.Connection[Any],
    tables: Mapping[int, _Table],
    table: _Table,
    number: int,
    labels: Mapping[str, str],
) -> None:
    for values in _attempts(tables, table, number, labels):
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        places = sql.SQL(", ").join(sql.Literal(value) for value in values.values())
        into = sql.SQL("({}) VALUES ({})").format(names, places) if values else sql.SQL("DEFAULT VALUES")
        try:
            with connection.transaction(), connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                row = cursor.execute(sql.SQL("INSERT INTO {} {} RETURNING *").format(table.name, into)).fetchone()
        except psycopg.Error:
            continue
        if row is not None:
            table.turn.append(row)
            table.made += 1
        return


def _attempts(
    tables: Mapping[int, _Table], table: _Table, number: int, labels: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Rows to try: everything filled, then what must be, with other texts and numbers."""
    leads = _leads(tables, table, number)
    if leads is None:
        return
    for text in ("", *dict.fromkeys(table.texts)):
        for sparse in (False, True):
            for small in (False, True):
                made = {}
                for column in table.columns:
                    if column.name in leads:
                        made[column.name] = leads[column.name]
                    elif not column.has_default and (column.required or not sparse):
                        made[column.name] = _value(column, number, text, labels, small)
                yield {name: value for name, value in made.items() if value is not None}


def _leads(tables: Mapping[int, _Table], table: _Table, number: int) -> dict[str, Any] | None:
    """Values of the columns of foreign keys; None when a required one has no row to lead to."""
    required = {column.name for column in table.columns if column.required}
    found: dict[str, Any] = {}
    for key in sorted(table.keys, key=lambda one: -len(one.columns)):
        target = tables.get(key.target)
        rows = (target.turn or (target.seeds if target.oid != table.oid else [])) if target is not None else []
        fitting = [
            row
            for row in rows
            if all(found.get(c, row[n]) == row[n] for c, n in zip(key.columns, key.names, strict=True))
        ]
        if fitting:
            row = fitting[number % len(fitting)]
            found.update({c: row[n] for c, n in zip(key.columns, key.names, strict=True)})
        elif required.issuperset(key.columns):
            return None
        else:
            found.update({c: None for c in key.columns if c not in required})
    return found


_VALUES: tuple[tuple[str, str], ...] = (
    (r"^(bigint|integer|numeric|double|real)", "{n}"),
    (r"^smallint", "{s}"),
    (r"^boolean", "{b}"),
    (r"^(text|character|citext|name|bpchar)", "{t}"),
    (r"^uuid", "{u}"),
    (r"^(json|jsonb)$", '{{"n": {n}}}'),
    (r"^bytea", "\\x{h}"),
    (r"^date$", "2026-{m:02}-{d:02}"),
    (r"^timestamp", "2026-{m:02}-{d:02} 10:00:00"),
    (r"^time", "10:{d:02}:00"),
    (r"^interval", "{d} days"),
    (r"^inet$", "10.1.{m}.{d}"),
    (r"^cidr$", "10.1.{m}.0/24"),
    (r"^macaddr$", "02:00:00:00:{m:02}:{d:02}"),
    (r"^(int|num|date|ts|tstz).*range$", "empty"),
    (r"multirange$", "{{}}"),
    (r"\[\]$", "{{}}"),
    (r"^tsvector", "word{n}"),
    (r"^ltree", "top.n{n}"),
    (r"^hstore", '"n"=>"{n}"'),
    (r"^xml", "<n>{n}</n>"),
    (r"^point", "({d},{m})"),
    (r"^bit", "0"),
    (r"^money", "{d}"),
)


def _value(column: _Column, number: int, text: str, labels: Mapping[str, str], small: bool) -> Any:
    if column.kind == "e":
        return labels.get(column.type)
    if column.category == "A":
        return "{}"
    if text and column.category == "S":
        return text
    digest = hashlib.md5(f"{column.name} {number}".encode()).hexdigest()
    shape = next((shape for kind, shape in _VALUES if re.search(kind, column.type)), None)
    if shape is None:
        return None
    count = number % 3 if small else number
    words = f"{column.name} {number} {digest}"
    limit = re.search(r"character.*\((\d+)\)", column.type)
    most = int(limit.group(1)) if limit else 60
    words = words if len(words) <= most else digest[:most]
    return shape.format(
        n=count, s=count % 30000, b="true" if number % 2 else "false", t=words, u=digest, h=digest,
        m=1 + number // 1000 % 12, d=1 + number % 28,
    )  # fmt: skip
