"""The whole program is killed at every stage of a backup: the store stays valid, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from doubles.node.processes import arguments, eventually, everybody
from doubles.samples.saga_table import RULE, saga_table
from doubles.servers.postgres import Server
from fix_nodes import BY_COLUMN, NodeFolder
from fix_postgres import Database

from backupd.clock import SystemClock
from backupd.operations.verify import Scope, Tools, verify
from backupd.repository.state.checked import CheckedState

STAGES = [
    "started:reading",
    "progress:reading",
    "done:reading",
    "started:publishing",
    "before:keyrings/:1",
    "after:keyrings/:1",
    "before:packs/:1",
    "after:packs/:1",
    "before:packs/:2",
    "after:packs/:3",
    "before:snapshots/:1",
    "after:snapshots/:1",
    "done:publishing",
]
ROWS = 3800


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    """Small tenants, and one with several packs."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)",
        "INSERT INTO note SELECT g % 3, md5(g::text) FROM generate_series(1, 3000) g",
        "INSERT INTO note SELECT 7, repeat(md5(g::text), 400) FROM generate_series(1, 800) g",
    )
    return database


def assert_sound(node: NodeFolder) -> None:
    with CheckedState(node.folder / "verified.sqlite") as checked:
        scope = Scope(Fraction(1), node.pair.secret)
        result = verify(node.repository(), checked, scope, Tools(SystemClock(), node.folder))
    assert result.findings == ()
    for found in node.looks():
        assert sum(map(len, found.rows("public.note").values())) == ROWS


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_backup_is_taken_up_by_the_next(
    node_of: Callable[..., NodeFolder], crowd: Database, stage: str
) -> None:
    """No process of it lives on, every record is whole, and the next run needs no help."""
    node = node_of(crowd)
    done = node.run(stage, "backup", "--json", module=("doubles.node.crash_at",))
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    eventually(lambda: not of_node(node), 5)
    assert len(node.looks()) == (stage in {"after:snapshots/:1", "done:publishing"})
    assert_sound(node)
    (backup,) = node.json("backup")["backups"]
    assert backup["report"]["rows"] == ROWS
    assert_sound(node)
    assert list((node.node / "spool").glob("*/*/*")) == []


def of_node(node: NodeFolder) -> list[int]:
    """Processes that were started for this node's run: workers and programs of PostgreSQL, by their folder."""
    return [pid for pid in everybody() if pid != os.getpid() and working_in(pid, node.folder)]


def working_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder and b"backupd" in arguments(pid)
    except OSError:
        return False


def test_killed_again_and_again_it_gets_there(node_of: Callable[..., NodeFolder], crowd: Database) -> None:
    """One object further each time: what is on the store is not sent again, so that it ends."""
    node = node_of(crowd)
    deaths = 0
    while node.run("after:packs/:2", "backup", module=("doubles.node.crash_at",)).returncode == -signal.SIGKILL:
        deaths += 1
        assert deaths < 20
        assert_sound(node)
    assert deaths > 1
    assert len(node.looks()) == 1


def test_workers_of_a_killed_run_end_while_postgresql_is_silent(
    node_of: Callable[..., NodeFolder], pg17: Server, make_database: Callable[..., Database]
) -> None:
    """Nothing of it holds the exported snapshot for longer than PostgreSQL needs to notice."""
    database = make_database(pg17)
    database.sql(*saga_table())
    node = node_of(database, BY_COLUMN + RULE)
    with subprocess.Popen(
        node.command("backup"),
        cwd=node.folder,
        env=node.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        sleeping = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database.name}' AND wait_event = 'PgSleep'"
        eventually(lambda: database.server.sql("postgres", sleeping) == [(1,)])
        assert len(of_node(node)) > 2
        process.kill()
    eventually(lambda: not of_node(node), 5)
