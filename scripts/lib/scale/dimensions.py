"""What may be many or large in a database or a store, and how a database of so much of it is filled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lib.sample_databases import fill_small_tenants
from lib.servers import READER

NONE = 'tenancy = { kind = "none" }\n'


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that may be many."""

    name: str
    what: str
    target: int
    """How many of it the design speaks of; the measured numbers are a hundredth, a tenth and the whole."""
    quick: int
    """The largest number with `--quick`."""
    fill: Callable[[Any, int], None]
    tenancy: str | None = NONE
    """Lines of the configuration in the place of the bench's own; None leaves those."""
    backups: bool = False
    """The number is of backups of one small database, and not of something in it."""

    def filler(self, number: int) -> Callable[[Any], None]:
        """What fills a database, over a connection to it."""

        def fill(connection: Any) -> None:
            self.fill(connection, number)

        return fill


def _tables(connection: Any, number: int) -> None:
    """A thousand to a transaction: each takes locks."""
    for first in range(0, number, 1000):
        schema = f"s{first // 1000}"
        connection.execute(f"CREATE SCHEMA {schema}")
        names = [f"{schema}.t{place}" for place in range(first, min(first + 1000, number))]
        connection.execute(
            ";".join(
                f"CREATE TABLE {name} (id int PRIMARY KEY, a text); INSERT INTO {name} VALUES (1, 'x')"
                for name in names
            )
        )


def _large_objects(connection: Any, number: int) -> None:
    connection.execute(f"SET ROLE {READER}")  # whose they are: reading all data does not mean large objects
    for first in range(0, number, 5000):
        connection.execute(
            "SELECT count(lo_from_bytea(0, sha256(g::text::bytea))) FROM generate_series(%s::int, %s::int) AS g",
            [first + 1, min(first + 5000, number)],
        )
    connection.execute("RESET ROLE")


def _partitions(connection: Any, number: int) -> None:
    connection.execute("CREATE TABLE p (id int, at int NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at)")
    for first in range(0, number, 500):
        connection.execute(
            ";".join(
                f"CREATE TABLE p{place} PARTITION OF p FOR VALUES FROM ({place}) TO ({place + 1})"
                for place in range(first, min(first + 500, number))
            )
        )
    connection.execute(
        "INSERT INTO p SELECT g, g %% %s::int FROM generate_series(1, 3 * %s::int) AS g", [number, number]
    )


def _columns(connection: Any, number: int) -> None:
    listed = ", ".join(f"c{place} int DEFAULT {place}" for place in range(number))
    connection.execute(f"CREATE TABLE wide ({listed})")
    connection.execute("INSERT INTO wide SELECT FROM generate_series(1, 200)")


def _row(connection: Any, number: int) -> None:
    """One value of so many million characters, which do not compress to nothing."""
    connection.execute("CREATE TABLE long (id int PRIMARY KEY, value text)")
    million = "SELECT string_agg(md5(g::text), '') FROM generate_series(1, 31250) AS g"
    connection.execute(f"INSERT INTO long SELECT 1, repeat(({million}), %s)", [number])


def _little(connection: Any, _: int) -> None:
    connection.execute("CREATE TABLE t (id int PRIMARY KEY, a text)")
    connection.execute("INSERT INTO t SELECT g, 'x' || g FROM generate_series(1, 100) AS g")


DIMENSIONS = {
    one.name: one
    for one in (
        Dimension("tables", "tables of one row, a thousand to a schema", 20_000, 1_000, _tables),
        Dimension("tenants", "tenants of one row", 50_000, 5_000, fill_small_tenants, tenancy=None),
        Dimension("objects", "large objects of 32 bytes", 300_000, 10_000, _large_objects),
        Dimension("partitions", "partitions of three rows", 3_000, 500, _partitions),
        Dimension("columns", "columns of a table of 200 rows", 1_600, 1_600, _columns),
        Dimension("row", "million characters in one value", 900, 100, _row),
        Dimension("snapshots", "snapshots of a small database", 2_000, 50, _little, backups=True),
    )
}
