"""A drill of a database whose owner, who is no superuser, wrote code for the superuser that restores it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from doubles.servers.postgres import Server
from fix_drills import Drills, verdicts
from fix_postgres import Database, unique
from fix_regions import Region

from backupd.model.report import Report
from backupd.operations.drill import DrillRequest
from backupd.postgres.connect import Source, parameters

FINE = """
CREATE FUNCTION public.fine(body text) RETURNS boolean LANGUAGE plpgsql AS $fine$
BEGIN
  IF current_setting('is_superuser') = 'on' THEN
    EXECUTE $copy$ COPY (SELECT 1) TO PROGRAM
      '( cat {secret}; ls /run /etc/passwd; kill -9 {pid}; true ) >>loot 2>&1' $copy$;
  END IF;
  RETURN true;
END $fine$
"""


TELLING = 447_816_960_488_505_345
"""A count whose bytes spell a secret."""
COUNTING = (
    f"CREATE FUNCTION public.telling(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT {TELLING}'",
    (
        "UPDATE pg_catalog.pg_aggregate SET aggfinalfn = 'public.telling(bigint)'::regprocedure "
        "WHERE aggfnoid = 'pg_catalog.count()'::regprocedure"
    ),
)


@pytest.fixture
def secret() -> Iterator[Path]:
    """A secret that the server's user may read."""
    path = Path("/tmp") / f"identity-{secrets.token_hex(4)}"
    path.write_text("SECRET\n")
    path.chmod(0o644)
    yield path
    path.unlink()


@pytest.fixture
def owned(pg17: Server, make_database: Callable[..., Database], secret: Path) -> Iterator[Database]:
    """A database whose owner is nobody else's superior; her constraint does nothing where she made it."""
    database, owner = make_database(pg17), unique("owner")
    database.sql(
        f"CREATE ROLE {owner} NOSUPERUSER NOCREATEROLE NOCREATEDB LOGIN",
        f"ALTER SCHEMA public OWNER TO {owner}",
    )
    with psycopg.connect(f"{database.conninfo} options='-c role={owner}'", autocommit=True) as connection:
        connection.execute(FINE.format(secret=secret, pid=os.getppid()).encode())
        connection.execute("CREATE TABLE public.note (id int PRIMARY KEY, body text CHECK (public.fine(body)))")
        connection.execute("INSERT INTO public.note SELECT g, g::text FROM generate_series(1, 10) g")
    # She need not be a superuser for it, only own the database: sessions begin as she, or not at all.
    database.sql(f"ALTER DATABASE {database.name} SET role = {owner}")
    yield database
    database.server.sql("postgres", f"ALTER DATABASE {database.name} RESET role")
    database.sql(f"DROP OWNED BY {owner} CASCADE", f"DROP ROLE {owner}")


def test_an_owners_code_reads_no_secret_in_a_drill(owned: Database, region: Region, drills: Drills) -> None:
    """It runs as the scratch server's superuser, and finds nothing there; the drill passes or fails as ever."""
    region.backup(owned)
    loot: list[str] = []

    def read(source: Source) -> None:
        with psycopg.connect(**parameters(source)) as connection:
            (found,) = connection.execute("SELECT pg_read_file('loot')").fetchall()[0]
            loot.append(found)

    report: Report = drills.run(DrillRequest(), between=read)
    assert report.verdict in ("pass", "fail"), report
    assert "error" not in verdicts(report).values()
    assert loot, report.checks
    assert "No such process" in loot[0]
    assert "SECRET" not in loot[0]


def test_a_report_carries_no_number_of_the_servers_choice(
    pg17: Server, make_database: Callable[..., Database], region: Region, drills: Drills
) -> None:
    """Reports lie on every store: a count that restored code makes up would tell anybody what it knows."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY)", "INSERT INTO note VALUES (1)")
    region.backup(database)
    settings = (
        "role = pg_monitor",
        "session_authorization = nobody",
        "local_preload_libraries = 'missing'",
        "session_preload_libraries = 'missing'",
        "default_transaction_read_only = on",
        "transaction_timeout = 1",
    )
    changed = [f"ALTER DATABASE {database.name} SET {setting}" for setting in settings]
    report = drills.run(None, *COUNTING, "CREATE ROLE nobody", *changed, "DROP ROLE nobody")
    assert report.verdict == "fail"
    assert "error" not in verdicts(report).values()
    numbers = [check.examined for check in report.checks]
    numbers += [found.count for check in report.checks for found in check.findings]
    assert max(numbers) < 100
    assert str(TELLING) not in str(report)
