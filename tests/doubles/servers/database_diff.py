"""Everything two databases can be compared by, as plain values: those of equal databases are equal."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterable

from doubles.servers.postgres import Server

from backupd.postgres.connect import qualified
from backupd.postgres.settings import TEXT, statements

_FROM = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_TABLES = f"""
SELECT n.nspname, c.relname, c.relkind {_FROM}
WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
  AND (NOT EXISTS (SELECT FROM pg_depend d
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       OR EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY (e.extconfig))) ORDER BY 1, 2
"""
"""Rows of an extension's own tables come with it, and pg_dump leaves them to it."""
_UNPOPULATED = f"SELECT n.nspname, c.relname {_FROM} WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY 1, 2"
_SEQUENCES = f"SELECT n.nspname, c.relname {_FROM} WHERE c.relkind = 'S' ORDER BY 1, 2"
_LARGE_OBJECTS = """
SELECT m.oid, pg_get_userbyid(m.lomowner), m.lomacl::text, obj_description(m.oid, 'pg_largeobject'), md5(lo_get(m.oid))
FROM pg_largeobject_metadata m ORDER BY 1
"""
_EXTENSIONS = "SELECT e.extname, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1"
_NOISE = re.compile(r"^(--.*|\\(un)?restrict .*|)$", re.MULTILINE)


def contents(server: Server, name: str, *, ordered: bool = True) -> dict[str, object]:
    """Rows of every table as COPY writes them (`ordered`: in their order), sequences and large objects."""
    found: dict[str, object] = {}
    with server.connect(name) as connection:
        connection.execute(statements(TEXT).encode())
        connection.execute("SET search_path = ''; SET row_security = off")
        for namespace, table, kind in connection.execute(_TABLES).fetchall():
            what = f"(SELECT * FROM {qualified(namespace, table)})" if kind == "m" else qualified(namespace, table)
            with connection.cursor().copy(f"COPY {what} TO STDOUT".encode()) as copy:
                found[f"rows of {namespace}.{table}"] = _digest(copy, ordered=ordered and kind != "m")
        found["unpopulated"] = connection.execute(_UNPOPULATED).fetchall()
        for namespace, sequence in connection.execute(_SEQUENCES).fetchall():
            value = connection.execute(f"SELECT last_value, is_called FROM {qualified(namespace, sequence)}".encode())
            found[f"sequence {namespace}.{sequence}"] = value.fetchall()
        found["large objects"] = connection.execute(_LARGE_OBJECTS).fetchall()
        found["extensions"] = connection.execute(_EXTENSIONS).fetchall()
    return found


def schema(server: Server, name: str) -> list[str]:
    """What pg_dump says of the schema and of the database itself, without its name, comments and random tokens."""
    arguments = [server.bin / "pg_dump", "--schema-only", "--create", "-d", server.conninfo(name)]
    text = subprocess.run(arguments, check=True, capture_output=True).stdout.decode()
    lines = _NOISE.sub("", text.replace(name, "THE DATABASE")).split("\n")
    return "\n".join(line for line in lines if line).split(";\n")


def _digest(copy: Iterable[bytes | memoryview], *, ordered: bool) -> tuple[int, str]:
    """Number of rows, and a digest of them."""
    text = b"".join(map(bytes, copy))
    rows = text.split(b"\n")
    return len(rows) - 1, hashlib.sha256(text if ordered else b"\n".join(sorted(rows))).hexdigest()
