"""Drills on a server that was set aside for them: it is marked and empty, or it is refused; and it is empty again."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.paths import ROOT
from doubles.servers import postgres
from doubles.servers.postgres import Server
from fix_drills import Drills, check, codes
from fix_postgres import Database
from fix_regions import CLASSES, Region

from backupd.errors import RefusedError, SourceBusyError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.drill import DrillRequest
from backupd.postgres.connect import Source
from backupd.postgres.scratch.external import MARK, external_server

HOLDER = """
import sys, time, psycopg
from pathlib import Path
from backupd.postgres.connect import Source
from backupd.postgres.scratch.external import external_server
conninfo, parent, token = sys.argv[1:]
with external_server(Source(conninfo), Path(parent), token) as server:
    with psycopg.connect(server.source.conninfo, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{server.name("x")}"')
        connection.execute("CREATE DATABASE backupd_restoring_0000")
        connection.execute("CREATE ROLE secretive LOGIN PASSWORD 'x'")
        connection.execute("CREATE ROLE other IN ROLE secretive")
        connection.execute("GRANT CREATE ON DATABASE backupd_drill TO secretive")
    print("made", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def aside() -> Iterator[Server]:
    """A server with the mark, and nothing else."""
    with postgres.running(17) as server:
        server.create_database(MARK)
        server.sql("postgres", "CREATE ROLE monitoring LOGIN")
        yield server


@pytest.fixture
def target(aside: Server) -> Iterator[Source]:
    """How drills reach it; it is as it was when the test ends."""
    before = state(aside)
    yield Region.source(aside)
    assert state(aside) == before


def state(server: Server) -> list[object]:
    """Every database and role, and every relation in the databases that stay."""
    relations = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    return [
        server.sql("postgres", "SELECT datname FROM pg_database ORDER BY 1"),
        server.sql("postgres", "SELECT rolname FROM pg_roles ORDER BY 1"),
        server.sql("postgres", relations),
        server.sql(MARK, relations),
    ]


@pytest.fixture
def source(
    pg17: Server, make_database: Callable[..., Database], make_role: Callable[..., str], region: Region
) -> Database:
    """Two tenants, of whom each has rows, and a role that is not on the other server."""
    database = make_database(pg17)
    role = make_role(pg17)
    database.sql(
        "CREATE TABLE public.note (id serial PRIMARY KEY, tenant text NOT NULL, body text)",
        f"ALTER TABLE public.note OWNER TO {role}",
        "INSERT INTO public.note (tenant, body) SELECT 't' || g % 2, md5(g::text) FROM generate_series(1, 500) g",
        f"GRANT CONNECT ON DATABASE {postgres.quoted(database.name)} TO {role}",
    )
    region.tenancy = Tenancy(kind=TenancyKind.COLUMN, column="tenant", classes=CLASSES)
    region.backup(database)
    yield database
    database.sql(f"REASSIGN OWNED BY {role} TO postgres", f"DROP OWNED BY {role}")


def given(drills: Drills, target: Source) -> Drills:
    drills.world = replace(drills.world, place=replace(drills.world.place, target=target))
    return drills


def test_a_drill_on_a_server_set_aside_is_as_good(source: Database, drills: Drills, target: Source) -> None:
    """Green, red when a row is changed, and a damaged copy is noticed; databases and roles are gone each time."""
    given(drills, target)
    report = drills.run(production=(Region.source(source.server, source.name),))
    assert (report.verdict, check(report, "canary").verdict, check(report, "globals").verdict) == ("pass",) * 3
    assert {(one.what, one.how) for one in report.disposal.destroyed} == {
        ("database", "listed-absent"), ("roles", "listed-absent"), ("data-folder", "listed-absent"),
        ("keys", "never-on-disk"),
    }  # fmt: skip
    report = drills.run(None, "UPDATE public.note SET body = '' WHERE id = 7")
    assert (report.verdict, codes(report, "equality")) == ("fail", ["rows-changed"])
    assert check(report, "disposal").verdict == "pass"
    assert drills.run(DrillRequest(damage=True)).verdict == "pass"


def test_a_database_that_a_backup_reads_is_never_touched(source: Database, drills: Drills, aside: Server) -> None:
    """Its server is refused by address and by identity, be it marked or not, and nothing on it changes."""
    server = source.server
    link = Path("/tmp") / f"elsewhere-{secrets.token_hex(4)}"
    link.symlink_to(server.sockets)
    before = server.sql("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1")
    rows = source.sql("SELECT * FROM note ORDER BY id")
    try:
        for address in (server.conninfo(), f"host={link} port={server.port} user=postgres dbname={source.name}"):
            report = given(drills, Source(address)).run(production=(Region.source(server, source.name),))
            assert (report.verdict, codes(report, "equality")) == ("error", ["refused"])
            # Even where nobody says what production is: it has no mark, and holds databases.
            report = drills.run(production=())
            assert (report.verdict, codes(report, "equality")) == ("error", ["refused"])
    finally:
        link.unlink()
    assert source.sql("SELECT * FROM note ORDER BY id") == rows
    after = server.sql("postgres", "SELECT oid, datname FROM pg_database ORDER BY 1")
    assert set(before) - set(after) == set()


@pytest.mark.parametrize(
    ("make", "undo"),
    [
        ("CREATE DATABASE precious", "DROP DATABASE precious"),
        ("CREATE TABLE public.precious (id int)", "DROP TABLE public.precious"),
    ],
)
def test_a_server_that_holds_anything_is_refused(aside: Server, target: Source, make: str, undo: str) -> None:
    """Another database, or a table in one that may be there."""
    aside.sql("postgres", make)
    try:
        with pytest.raises(RefusedError, match="holds something"), external_server(target, Path("/tmp"), "0" * 16):
            pass
    finally:
        aside.sql("postgres", undo)


def test_a_server_without_mark_or_rights_is_refused(aside: Server, pg17: Server, target: Source) -> None:
    """Nobody drills by mistake, or by halves; and nobody while another drill does."""
    with pytest.raises(RefusedError, match="not marked"), external_server(Region.source(pg17), Path("/tmp"), "0" * 16):
        pass
    weak = replace(target, conninfo=aside.conninfo(user="monitoring"))
    with pytest.raises(RefusedError, match="no superuser"), external_server(weak, Path("/tmp"), "0" * 16):
        pass
    with external_server(target, Path("/tmp"), "1" * 16), pytest.raises(SourceBusyError, match="another drill"):
        external_server(target, Path("/tmp"), "2" * 16).__enter__()


def test_another_version_is_refused(
    pg16: Server, make_database: Callable[..., Database], region: Region, drills: Drills, target: Source
) -> None:
    """What is equal can only be told on the same one."""
    region.backup(make_database(pg16))
    report = given(drills, target).run()
    assert (report.verdict, codes(report, "equality")) == ("error", ["refused"])


@pytest.mark.parametrize("guarded", [True, False])
def test_a_killed_drill_leaves_nothing_on_the_server(aside: Server, target: Source, guarded: bool) -> None:
    """Databases, roles with their passwords, the folder: removed by the process beside it, or by the next drill."""
    parent, token = Path("/tmp") / f"given-{secrets.token_hex(4)}", secrets.token_hex(8)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, target.conninfo, str(parent), token],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"made\n"
    before = state(aside)
    assert [(f"backupd_drill_{token}",), ("backupd_restoring_0000",)] == [
        one for one in before[0] if one not in ((MARK,), ("postgres",), ("template0",), ("template1",))
    ]
    if not guarded:
        os.kill(_guardian(parent / f"backupd-drill-{token}"), signal.SIGKILL)
    process.kill()
    process.wait()
    process.stdout.close()
    if guarded:
        until = time.monotonic() + 60
        while len(state(aside)[3]) or (parent / f"backupd-drill-{token}").exists():
            assert time.monotonic() < until
            time.sleep(0.2)
    else:
        from backupd.postgres.scratch.cluster import reap

        with external_server(target, parent, secrets.token_hex(8)):
            assert len(state(aside)[0]) == 4
        assert reap(parent) == (1, 0)
    assert list(parent.iterdir()) == []
    parent.rmdir()


def _guardian(folder: Path) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if b"guardian" in b"".join(words) and str(folder).encode() in words:
                return int(entry.name)
    raise AssertionError("nobody watches over the folder")
