"""A backup names the fault that broke it (worker, PostgreSQL, spool), leaves nothing, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.node.processes import alive, arguments, descendants, eventually
from doubles.samples.saga_table import BY_KEY, saga_table
from doubles.servers import postgres
from doubles.servers.postgres import Server
from doubles.stores.hooked_store import HookedStore
from doubles.stores.snapshots import look
from fix_postgres import Database
from fix_regions import Region

from backupd.errors import BackupdError, RefusedError, SourceError, SourceGoneError, SpoolFullError, UnmappedError
from backupd.model.tenancy import Tenancy, TenancyKind
from backupd.operations.backup import read
from backupd.repository.repository import Repository
from backupd.seal.tags import TenantTags
from backupd.trace import Event, PhaseStarted

BY_COLUMN = Tenancy(kind=TenancyKind.COLUMN, column="tenant")
ROWS = 20_000
PILE = "SELECT 1, string_agg(md5((g * 1000 + h)::text), '') FROM generate_series(1, 80) g, generate_series(1, 3000) h"
"""About 8 MB that hardly compress, in rows of 100 kB."""


@pytest.fixture
def crowd(pg17: Server, make_database: Callable[..., Database]) -> Database:
    return filled(make_database(pg17))


@pytest.fixture
def slow(region: Region, pg17: Server, make_database: Callable[..., Database]) -> Database:
    """A table whose row takes half a minute to find its tenant: PostgreSQL says nothing meanwhile."""
    region.tenancy = BY_KEY
    database = make_database(pg17)
    database.sql(*saga_table())
    return database


@pytest.fixture
def small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs of a fraction of a megabyte, so that little data makes several."""
    monkeypatch.setattr(read, "PACK_SIZE", 100_000)


@pytest.fixture(autouse=True)
def tenancy(region: Region) -> None:
    region.tenancy = BY_COLUMN


def filled(database: Database) -> Database:
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        f"INSERT INTO note SELECT g, g % 20, md5(g::text) || md5((-g)::text) FROM generate_series(1, {ROWS}) g",
        "ANALYZE",
    )
    return database


class Hooked:
    """A trace that acts when a phase starts."""

    def __init__(self, phase: str, act: Callable[[], object]) -> None:
        self._phase = phase
        self._act = act

    def emit(self, event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == self._phase:
            self._act()


def children(word: bytes) -> list[int]:
    """Our descendants whose command line has the word."""
    return [pid for pid in descendants(os.getpid()) if word in arguments(pid)]


@pytest.fixture
def at_first_pack(region: Region) -> Callable[[Callable[[], object]], None]:
    """Has something done when the first pack is about to be put."""
    done = threading.Event()

    def arrange(act: Callable[[], object]) -> None:
        def before(method: str, name: str) -> None:
            if method == "put_new" and name.endswith(".pack") and not done.is_set():
                done.set()
                act()

        region.store = HookedStore(region.store, before)
        region.repository = Repository(region.store, [region.node.signer.public])

    return arrange


@pytest.fixture
def nothing_left(region: Region) -> Iterator[None]:
    """After the test no child of ours runs, and the spool is empty."""
    before = set(descendants(os.getpid()))
    yield
    eventually(lambda: not alive(set(descendants(os.getpid())) - before), 2)
    assert list(region.node.spool.iterdir()) == []


def assert_next_run_completes(region: Region, database: Database) -> None:
    found = look(region.repository, region.backup(database).snapshot, region.identity.secret)
    assert sum(map(len, found.rows("public.note").values())) == ROWS


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("which", [0, 1], ids=["worker", "packer"])
def test_a_killed_worker_is_named(region: Region, crowd: Database, which: int) -> None:
    """The kernel's out-of-memory killer does this, to the worker or to the packer that it forked."""
    killed = Hooked("reading", lambda: killer(b"backupd.rows.worker", which))
    region.node = replace(region.node, workers=1, trace=killed)
    with pytest.raises(BackupdError, match="a worker process ended unexpectedly") as failed:
        region.backup(crowd)
    assert "out-of-memory" in failed.value.hint
    assert region.repository.snapshots() == []
    region.node = replace(region.node, trace=region.events)
    assert_next_run_completes(region, crowd)


def killer(word: bytes, which: int = 0) -> None:
    """Kill the first child with the word in its command line that shows up, or a later one."""

    def run() -> None:
        eventually(lambda: len(children(word)) > which)
        os.kill(sorted(children(word))[which], signal.SIGKILL)

    threading.Thread(target=run).start()


@pytest.mark.usefixtures("nothing_left")
def test_a_killed_psql_is_a_broken_connection(region: Region, slow: Database) -> None:
    """Whatever ends psql without a word took the connection with it."""
    # Of two workers, one might be done with its psql by then, and never miss it.
    region.node = replace(region.node, workers=1, trace=Hooked("reading", lambda: killer(b"VERBOSITY=sqlstate")))
    with pytest.raises(SourceGoneError):
        region.backup(slow)


def test_a_worker_killed_while_postgresql_is_silent_leaves_no_psql(region: Region, slow: Database) -> None:
    """psql would notice at its next row only; its backend would hold the exported snapshot as long."""
    psql: list[int] = []

    def kill() -> None:
        def run() -> None:
            eventually(lambda: children(b"VERBOSITY=sqlstate"))
            eventually(lambda: slow.server.sql("postgres", SLEEPING.format(slow.name)) == [(1,)])
            psql.extend(children(b"VERBOSITY=sqlstate"))
            for worker in children(b"backupd.rows.worker"):
                os.kill(worker, signal.SIGKILL)

        threading.Thread(target=run).start()

    region.node = replace(region.node, trace=Hooked("reading", kill))
    with pytest.raises(BackupdError, match="a worker process ended unexpectedly"):
        region.backup(slow)
    assert psql
    assert alive(psql) == []


SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND wait_event = 'PgSleep'"


@pytest.mark.usefixtures("nothing_left")
def test_a_worker_that_cannot_write_its_spool_says_so(region: Region, crowd: Database) -> None:
    """The folder vanishes under it."""

    def take_away() -> None:
        for folder in region.node.spool.iterdir():
            folder.rename(region.folder / "taken")

    crowd.sql("INSERT INTO note SELECT -g, 1, repeat(md5(g::text), 400) FROM generate_series(1, 200) g")
    region.node = replace(region.node, trace=Hooked("reading", take_away))
    with pytest.raises(SpoolFullError, match="the spool cannot be written"):
        region.backup(crowd)


def test_postgresql_restarted_under_a_backup_is_named_as_gone(region: Region) -> None:
    """Whichever connection notices first; the next run starts over and completes."""
    with postgres.running(17) as server:
        server.create_database("app")
        database = filled(Database(server, "app"))
        database.sql("CHECKPOINT")  # test servers do not wait for their log, so a crash would lose the rows
        region.node = replace(region.node, trace=Hooked("reading", lambda: restart(server)))
        with pytest.raises(SourceGoneError) as gone:
            region.backup(database)
        assert gone.value.retryable
        assert list(region.node.spool.iterdir()) == []
        assert region.repository.snapshots() == []
        region.node = replace(region.node, trace=region.events)
        assert_next_run_completes(region, database)


@pytest.mark.usefixtures("small_packs")
def test_postgresql_that_goes_away_while_rows_are_read_is_named_as_gone(
    region: Region, at_first_pack: Callable[[Callable[[], object]], None]
) -> None:
    """Rows were read and packs are on the store by then; they are not sent again."""
    with postgres.running(17) as server:
        server.create_database("app")
        database = filled(Database(server, "app"))
        database.sql("CREATE TABLE pile (tenant int, x text)", f"INSERT INTO pile {PILE} GROUP BY g")
        database.sql("CHECKPOINT")  # test servers do not wait for their log, so a crash would lose the rows
        at_first_pack(lambda: restart(server))
        # A spool without room makes the worker wait for its first pack, and so for the restart, with rows still unread.
        region.node = replace(region.node, workers=1, spool_size=1)
        with pytest.raises(SourceGoneError):
            region.backup(database)
        store = region.store
        assert isinstance(store, HookedStore)
        before = [name for name in store.put if name.endswith(".pack")]
        assert before
        report = region.backup(database)
        found = look(region.repository, report.snapshot, region.identity.secret)
        needed = {name for one in found.segments.values() for name, _ in one.sections}
        assert set(before) <= needed
        assert sum(map(len, found.rows("public.pile").values())) == 80


def restart(server: Server) -> None:
    arguments = [server.bin / "pg_ctl", "-D", server.folder / "data", "restart", "-s", "-m", "immediate", "-w"]
    output = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*arguments, "-l", str(server.folder / "log")], check=True, **output, **postgres.as_server_user())


@pytest.mark.usefixtures("nothing_left")
def test_a_backend_that_is_terminated_ends_the_run(region: Region, slow: Database) -> None:
    """An administrator who wants the old snapshot gone gets it gone."""

    def terminate() -> None:
        def run() -> None:
            eventually(lambda: slow.server.sql("postgres", SLEEPING.format(slow.name)) == [(1,)])
            slow.sql(f"SELECT pg_terminate_backend(pid) {SLEEPING.format(slow.name).removeprefix('SELECT count(*)')}")

        threading.Thread(target=run).start()

    region.node = replace(region.node, trace=Hooked("reading", terminate))
    with pytest.raises(SourceGoneError):
        region.backup(slow)


@pytest.mark.usefixtures("nothing_left")
def test_a_statement_that_fails_is_told_by_its_code(region: Region, crowd: Database) -> None:
    """PostgreSQL's words quote rows; its code does not."""
    region.tenancy = BY_KEY
    crowd.sql(*saga_table("RAISE EXCEPTION 'the secret is %', $1 USING ERRCODE = '22023'", word="xyzzy"))
    with pytest.raises(SourceError, match="22023") as failed:
        region.backup(crowd)
    assert "xyzzy" not in f"{failed.value.message} {failed.value.hint} {failed.value.__cause__!r}"
    assert not isinstance(failed.value, SourceGoneError)


@pytest.mark.parametrize("how", ["the same machine", "a new machine"])
def test_no_backup_is_made_under_another_tenant_key(region: Region, crowd: Database, tmp_path: Path, how: str) -> None:
    """Purged tenants would be in it again, and nobody would find them: the key is compared before anything is read."""
    region.backup(crowd)
    right, known = region.node, region.repository.snapshots()
    region.node = replace(right, tags=TenantTags(b"o" * 32, right.tags.region))
    if how == "a new machine":
        region.node = replace(region.node, state=tmp_path / "state")
    with pytest.raises(RefusedError, match="the tenant key of this machine is not the one"):
        region.backup(crowd)
    assert region.repository.snapshots() == known
    region.node = right
    assert_next_run_completes(region, crowd)


@pytest.mark.usefixtures("small_packs")
def test_a_spool_smaller_than_a_pack_is_enough(region: Region, crowd: Database) -> None:
    """Packs are as large as they are; one at a time fits any spool."""
    crowd.sql("CREATE TABLE pile (tenant int, x text)", f"INSERT INTO pile {PILE} GROUP BY g")
    region.node = replace(region.node, spool_size=1000)
    assert_next_run_completes(region, crowd)


def test_many_faults_in_a_row_leave_a_node_that_works(region: Region, crowd: Database) -> None:
    """Whatever the order: an unmapped table, a row without tenant, a killed worker."""
    crowd.sql("CREATE TABLE odd (x int)")
    with pytest.raises(UnmappedError):
        region.backup(crowd)
    crowd.sql("DROP TABLE odd", "ALTER TABLE note ALTER tenant DROP NOT NULL", "INSERT INTO note VALUES (-1, NULL)")
    with pytest.raises(UnmappedError):
        region.backup(crowd)
    crowd.sql("DELETE FROM note WHERE id = -1")
    region.node = replace(region.node, trace=Hooked("reading", lambda: killer(b"backupd.rows.worker")))
    with pytest.raises(BackupdError):
        region.backup(crowd)
    region.node = replace(region.node, trace=region.events)
    assert_next_run_completes(region, crowd)
