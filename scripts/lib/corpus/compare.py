"""Databases compared by what pg_dump prints of them, and by the rows of their tables."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from doubles.servers.postgres import Server
from psycopg import sql

_WIDTH = 160
"""Characters of a line that a difference shows."""


@dataclass(frozen=True, slots=True)
class Dump:
    """The text that pg_dump prints, without the lines that are new in each run, and rows of a table in order."""

    lines: tuple[str, ...]

    def same(self, other: Dump) -> bool:
        return self.lines == other.lines

    def rows(self) -> Dump:
        """Return the rows alone, table by table in the order of names: pg_dump orders tables by their keys."""
        blocks: list[tuple[str, ...]] = []
        block: list[str] = []
        for line in self.lines:
            if block or line.startswith("COPY "):
                block.append(line)
            if line == "\\.":
                blocks.append(tuple(block))
                block = []
        return Dump(tuple(line for block in sorted(blocks) for line in block))

    def difference(self, other: Dump) -> list[str]:
        with tempfile.NamedTemporaryFile() as one, tempfile.NamedTemporaryFile() as two:
            for file, dump in ((one, self), (two, other)):
                file.write("\n".join(dump.lines).encode("utf-8", "surrogateescape"))
                file.flush()
            done = subprocess.run(["diff", "-a", one.name, two.name], check=False, capture_output=True)
        found = done.stdout.decode(errors="replace").split("\n")
        return [line[:_WIDTH] for line in found if line.startswith(("<", ">"))]


def dumped(server: Server, database: str, *options: str) -> Dump:
    done = subprocess.run(
        [server.bin / "pg_dump", "-d", server.conninfo(database), *options],
        check=True,
        capture_output=True,
    )
    return Dump(tuple(_sorted(done.stdout.decode("utf-8", "surrogateescape").split("\n"))))


def _sorted(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines, those of each table's rows in order: rows come back tenant by tenant."""
    rows: list[str] | None = None
    for line in lines:
        if rows is None:
            if not line.startswith(("\\restrict", "\\unrestrict")):
                yield line
            if line.startswith("COPY ") and line.endswith("FROM stdin;"):
                rows = []
        elif line == "\\.":
            yield from sorted(rows)
            yield line
            rows = None
        else:
            rows.append(line)


def counts(server: Server, database: str) -> dict[str, int]:
    """Count the rows of each table; a partitioned one counts by its partitions."""
    with server.connect(database) as connection:
        return {
            f"{schema}.{table}": connection.execute(
                sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
            ).fetchall()[0][0]
            for schema, table in connection.execute(
                "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                " WHERE relkind = 'r' AND nspname !~ '^(pg_|information_schema$)' ORDER BY 1, 2"
            ).fetchall()
        }


@dataclass(frozen=True, slots=True)
class Gone:
    """A tenant that is taken out."""

    tenants: str
    """The tenants' table."""
    tenant: str
    column: str
    """A column that names tenants where no key does; may be empty."""


def without_tenant(server: Server, database: str, gone: Gone, nobodys: Sequence[str]) -> None:
    """Take a tenant's row out, then each row that refers to one that is gone, until none does.

    Tables in `nobodys` keep their rows, whatever they refer to. It follows keys, and asks no configuration.
    """
    schema, _, table = gone.tenants.partition(".")
    with server.connect(database) as connection:
        ((place,),) = connection.execute("SELECT format('%%I.%%I', %s::text, %s::text)", [schema, table]).fetchall()
        connection.execute("SET session_replication_role = replica")
        keys = connection.execute(
            "SELECT conrelid::regclass::text, confrelid::regclass::text, n.nspname || '.' || c.relname,"
            " ARRAY(SELECT quote_ident(attname) FROM unnest(conkey) WITH ORDINALITY k(n, o)"
            " JOIN pg_attribute ON attrelid = conrelid AND attnum = n ORDER BY o),"
            " ARRAY(SELECT quote_ident(attname) FROM unnest(confkey) WITH ORDINALITY k(n, o)"
            " JOIN pg_attribute ON attrelid = confrelid AND attnum = n ORDER BY o)"
            " FROM pg_constraint JOIN pg_class c ON c.oid = conrelid JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE contype = 'f' AND conparentid = 0"
        ).fetchall()
        broken = [(key, _broken(connection, *key)) for key in keys]
        _execute(
            connection,
            f"DELETE FROM {place} WHERE ctid IN (SELECT t.ctid FROM {place} t"
            f" WHERE to_jsonb(t) ->> {_key(connection, schema, table)} = {_quoted(gone.tenant)})",
        )
        for other, alike, column in _named_alike(connection, gone.column) if gone.column else ():
            if other not in (gone.tenants, *nobodys):
                _execute(connection, f"DELETE FROM {alike} WHERE {column}::text = {_quoted(gone.tenant)}")
        while True:
            deleted = 0
            for (_, _, name, *_), (statement, before) in broken:
                if name not in nobodys and not before:
                    deleted += _execute(connection, statement)
            if not deleted:
                return


def _broken(
    connection: psycopg.Connection[Any],
    source: str,
    target: str,
    _name: str,
    columns: Sequence[str],
    names: Sequence[str],
) -> tuple[str, int]:
    """A statement that deletes rows without a target, and how many had none from the start."""
    filled = " AND ".join(f"f.{column} IS NOT NULL" for column in columns)
    met = " AND ".join(f"p.{name} = f.{column}" for column, name in zip(columns, names, strict=True))
    where = f"FROM {source} f WHERE {filled} AND NOT EXISTS (SELECT FROM {target} p WHERE {met})"
    return f"DELETE {where}", connection.execute(f"SELECT count(*) {where}".encode()).fetchall()[0][0]


def _named_alike(connection: psycopg.Connection[Any], column: str) -> list[tuple[str, str, str]]:
    """Name the tables that have the column: as the configuration does, and with the column as statements do."""
    return connection.execute(
        "SELECT nspname || '.' || relname, format('%%I.%%I', nspname, relname), quote_ident(attname)"
        " FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
        " JOIN pg_namespace n ON n.oid = relnamespace WHERE attname = %s AND relkind = 'r'",
        [column],
    ).fetchall()


def _key(connection: psycopg.Connection[Any], schema: str, table: str) -> str:
    ((name,),) = connection.execute(
        "SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]"
        " WHERE indisprimary AND indrelid = format('%%I.%%I', %s::text, %s::text)::regclass",
        [schema, table],
    ).fetchall()
    return _quoted(name)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _execute(connection: psycopg.Connection[Any], statement: str) -> int:
    return connection.execute(statement.encode()).rowcount
