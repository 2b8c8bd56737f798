"""Sessions of PostgreSQL's client programs, in databases whose owners set what they like."""

from __future__ import annotations

from collections.abc import Callable

from doubles.servers.postgres import Server
from fix_postgres import Database

from backupd.postgres.client_programs import client, find_programs, run
from backupd.postgres.connect import Source, connect, resolved


def test_no_limit_of_time_that_a_database_has_ends_a_program(
    pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Its owner may give it any; pg_dump and pg_dumpall query before they lift them, or never do."""
    database = make_database(pg17)
    names = ("statement", "lock", "idle_in_transaction_session", "idle_session", "transaction")
    database.sql(*(f"ALTER DATABASE {database.name} SET {name}_timeout = '9min'" for name in names))
    with connect(Source(f"{database.conninfo} options='-c statement_timeout=8min'")) as connection:
        given = resolved(connection)
    shown = [word for name in names for word in ("-c", f"SHOW {name}_timeout")]
    with client(find_programs((pg17.bin,), 170000), given) as started:
        assert run(started.command("psql", "-XAt", *shown), started.environment).split() == [b"0"] * len(names)
