"""Extents read together: the server makes one hash table, of their keys' targets, and gives the rows in their order."""

from __future__ import annotations

from fix_postgres import Database

from backupd.model.inventory import TableName
from backupd.model.tenancy import ForeignKeyPath, Step
from backupd.postgres.connect import Connection, Source
from backupd.postgres.settings import ALLOW_HASH_JOIN
from backupd.postgres.source.exported import hold
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.source.select import BlockRange, select_rows, select_stretch

EXTENTS = [BlockRange(0, 30), BlockRange(30, 40), BlockRange(70, None)]


def test_extents_read_together_have_the_rows_that_each_has_alone(summarized: Database) -> None:
    """By a hash table of the targets, although these are more than the rows to be read, and in heap order."""
    summarized.sql(
        "CREATE TABLE owner (id int PRIMARY KEY, tenant int NOT NULL, body text)",
        "INSERT INTO owner SELECT g, g % 7, 'a' FROM generate_series(1, 60000) g",
        "CREATE TABLE item (id int, owner int REFERENCES owner, note text)",
        "INSERT INTO item SELECT g, 1 + g * 7919 % 60000, repeat('b', 40) FROM generate_series(1, 8000) g",
        "VACUUM (ANALYZE)",
    )
    with hold(Source(summarized.conninfo)) as holder:
        tables = read_inventory(holder.connection).by_name()
        item = tables[TableName("public", "item")]
        route = ForeignKeyPath((Step(item.foreign_keys[0], whole=False),), "tenant")
        alone = [_rows(holder.connection, select_rows(item, route, extent).sql) for extent in EXTENTS]
        assert min(map(len, alone)) > 100
        holder.connection.execute(ALLOW_HASH_JOIN.encode())
        sql = select_stretch(item, route, EXTENTS)
        query = sql.removeprefix("COPY (").removesuffix(") TO STDOUT")
        plan = "\n".join(line for (line,) in holder.connection.execute(f"EXPLAIN {query}".encode()))
        assert plan.count("Tid Range Scan on item") == len(EXTENTS)
        assert "Hash Left Join" in plan
        together = [b"%d\t%s" % (number, row) for number, some in enumerate(alone) for row in some]
        assert _rows(holder.connection, sql) == together


def _rows(connection: Connection, statement: str) -> list[bytes]:
    with connection.cursor().copy(statement.encode()) as copy:
        return b"".join(copy).splitlines()
