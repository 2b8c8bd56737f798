"""Servers of drills: alone, out of reach, and gone however their maker ends; nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from doubles.node.processes import running_in
from doubles.paths import ROOT
from doubles.servers.postgres import Server
from fix_postgres import MAJORS, Database

from backupd.errors import ConfigError, RefusedError, SourceBusyError, SourceError, SpoolFullError
from backupd.operations.drill.server import require_apart
from backupd.postgres.connect import Source, connect
from backupd.postgres.failures import translate
from backupd.postgres.scratch.cluster import ClusterSpec, memory_settings, reap, scratch_cluster
from backupd.postgres.scratch.folder import MARKER, PREFIX, make_folder
from backupd.postgres.scratch.programs import find_server, runner
from backupd.postgres.scratch.watch import PhaseLimits, limited

MAKER = """
import secrets, sys, time
from pathlib import Path
from typing import Any
from backupd.postgres.scratch.cluster import ClusterSpec, scratch_cluster
from backupd.postgres.scratch.programs import find_server, runner
parent = Path(sys.argv[1])
with scratch_cluster(ClusterSpec(parent, find_server((), 15), runner("postgres"), secrets.token_hex(8))) as cluster:
    print(cluster.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def parent() -> Iterator[Path]:
    """A folder other users can reach."""
    folder = Path("/tmp") / f"scratch-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    yield folder
    reap(folder)
    assert list(folder.iterdir()) == []
    folder.rmdir()


def making(parent: Path, major: int = 15, **more: Any) -> ClusterSpec:
    return ClusterSpec(parent, find_server((), major), runner("postgres"), secrets.token_hex(8), **more)


@pytest.mark.parametrize("major", MAJORS, ids=lambda major: f"pg{major}")
def test_scratch_servers_do_not_repeat_the_oids_of_others(parent: Path, major: int) -> None:
    """Hash partitions of enums depend on OIDs, which a new server would give out as the source did when it was new. Of
    the libraries that were asked for, it has those that are installed."""
    given, preload = set(), ("no_such_library", "plpgsql")
    for _ in range(2):
        with scratch_cluster(making(parent, major, preload=preload)) as cluster, connect(cluster.source) as connection:
            given.add(connection.execute("SELECT lo_create(0)::int8").fetchall()[0][0])
            assert connection.execute("SHOW shared_preload_libraries").fetchall() == [("plpgsql",)]
    assert len(given) == 2
    assert min(given) > 1 << 24


@pytest.mark.parametrize("major", MAJORS, ids=lambda major: f"pg{major}")
def test_a_scratch_server_is_alone_and_leaves_nothing(parent: Path, major: int) -> None:
    """No address, no job of its own, another user's processes, and no trace of any at the end."""
    with scratch_cluster(making(parent, major)) as cluster:
        with connect(cluster.source) as connection:
            shown = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
            assert connection.info.server_version // 10000 == major
        assert (shown["listen_addresses"], shown["autovacuum"], shown["fsync"]) == ("", "off", "off")
        data = cluster.path / "data"
        running = running_in(data)
        assert running
        for one in running:
            with suppress(FileNotFoundError):  # one for a connection that has just ended
                assert "\nUid:\t0\t" not in Path(f"/proc/{one}/status").read_text()
        assert cluster.size() > 20 << 20
    assert not cluster.path.exists()
    assert not running_in(data)


@pytest.fixture
def maker(parent: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that has a scratch server, and that server's folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", MAKER, str(parent)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout is not None
    yield process, Path(process.stdout.readline().decode().strip())
    process.kill()
    process.wait()
    process.stdout.close()


def guardian_of(folder: Path) -> int:
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.name.isdigit() and b"guardian" in b"".join(words) and str(folder).encode() in words:
                return int(entry.name)
    raise AssertionError("nobody watches over the folder")


def wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_killed_drill_leaves_nothing(maker: tuple[subprocess.Popen[bytes], Path]) -> None:
    """A process beside it removes server, files and itself."""
    process, folder = maker
    guardian = guardian_of(folder)
    process.kill()
    wait_until(lambda: not folder.exists())
    wait_until(lambda: not Path(f"/proc/{guardian}").exists() or "State:\tZ" in _status(guardian))
    assert not running_in(folder / "data")


@pytest.mark.parametrize("server_too", [False, True])
def test_the_next_drill_removes_what_nobody_else_could(
    maker: tuple[subprocess.Popen[bytes], Path], parent: Path, server_too: bool
) -> None:
    """The guardian is killed, too, and perhaps the server: as when the whole unit is."""
    process, folder = maker
    assert reap(parent) == (0, 0)  # its maker lives
    assert folder.exists()
    os.kill(guardian_of(folder), signal.SIGKILL)
    process.kill()
    process.wait()
    if server_too:
        for pid in running_in(folder / "data"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not running_in(folder / "data"))
    assert (folder / "data" / "PG_VERSION").exists()
    wait_until(lambda: reap(parent) == (1, 0) or not folder.exists())
    assert not folder.exists()
    assert not running_in(folder / "data")


def test_a_folder_whose_maker_holds_its_lock_stays(parent: Path) -> None:
    """The lock ends with its maker, whatever the marker says."""
    made = make_folder(parent, secrets.token_hex(8))
    assert reap(parent) == (0, 0)
    assert made.path.exists()
    made.lock.close()
    assert reap(parent) == (1, 0)


def test_nothing_is_removed_that_is_not_ours(parent: Path, tmp_path: Path) -> None:
    """Another name, no marker, another's marker, a link elsewhere, a marker of another folder: all stay."""
    token = secrets.token_hex(8)
    good = json.dumps({"backupd": "drill", "folder": f"{PREFIX}{token}", "pid": 1 << 30, "began": "1"})
    strangers = {
        "precious": good,
        "begun": "",
        f"{PREFIX}{'0' * 16}": None,
        f"{PREFIX}{'0' * 15}g": good,
        f"{PREFIX}{'0' * 15}5": good,
        f"{PREFIX}{'0' * 15}1": '{"backupd": "other"}',
        f"{PREFIX}{'0' * 15}2": "[]",
        f"{PREFIX}{'0' * 15}3": "not json",
    }
    for name, marker in strangers.items():
        (parent / name / "data").mkdir(parents=True)
        if marker is not None:
            (parent / name / MARKER).write_text(marker)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / MARKER).write_text(good)
    (parent / f"{PREFIX}{token}").symlink_to(tmp_path / "real")
    foreign = parent / f"{PREFIX}{'0' * 15}4"
    foreign.mkdir()
    (foreign / MARKER).write_text(good.replace(f"{PREFIX}{token}", foreign.name))
    os.chown(foreign / MARKER, 65534, 65534)
    assert reap(parent) == (0, 0)
    names = sorted(path.name for path in parent.iterdir())
    assert names == sorted([*strangers, f"{PREFIX}{token}", foreign.name])
    for path in parent.iterdir():
        if path.is_symlink():
            path.unlink()
        else:
            subprocess.run(["rm", "-r", path], check=True)


def test_a_folder_that_was_begun_and_no_more_is_removed(parent: Path) -> None:
    """A marker that is empty was cut off; one whose maker is gone has a number that is another's by now."""
    made = make_folder(parent, secrets.token_hex(8))
    assert reap(parent) == (0, 0)
    (made.path / MARKER).write_text("")
    made.lock.close()
    other = make_folder(parent, secrets.token_hex(8))
    marker = json.loads((other.path / MARKER).read_text())
    (other.path / MARKER).write_text(json.dumps(marker | {"pid": 1, "began": "7"}))
    other.lock.close()
    assert reap(parent) == (2, 0)
    assert reap(parent / "missing") == (0, 0)


def test_a_phase_over_its_limits_is_stopped(parent: Path) -> None:
    """Of time and of room; the error says which, not what the server said when it went."""
    for limits, error in ((PhaseLimits(0.2, 1 << 40), SourceBusyError), (PhaseLimits(600, 1 << 20), SpoolFullError)):
        with (
            scratch_cluster(making(parent)) as cluster,
            pytest.raises(error),
            limited(cluster, "restore", limits),
            connect(cluster.source) as connection,
        ):
            connection.execute("SELECT pg_sleep(60)")


def test_a_servers_memory_is_capped(parent: Path) -> None:
    """Caches and sorts are made to fit; the kernel gives no process more, and asking for it is no verdict."""
    wanted = replace(making(parent), memory=512 << 20)
    with scratch_cluster(wanted) as cluster:
        with psycopg.connect(cluster.source.conninfo) as connection:  # our own readers ask for more
            names = "shared_buffers", "maintenance_work_mem", "work_mem", "temp_buffers"
            shown = [connection.execute(f"SHOW {name}".encode()).fetchall()[0][0] for name in names]
            assert shown == ["64MB", "32MB", "8MB", "4MB"]
        for one in running_in(cluster.path / "data"):
            with suppress(FileNotFoundError):  # one for a connection that has just ended
                assert f"Max address space         {512 << 20}" in Path(f"/proc/{one}/limits").read_text()
        grow = "SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, {})"
        with psycopg.connect(cluster.source.conninfo) as connection:
            assert connection.execute(grow.format(20).encode()).fetchall() == [(20_000_000,)]
            with pytest.raises(psycopg.errors.OutOfMemory) as refused:
                connection.execute(grow.format(900).encode())
        error = translate(refused.value)
        assert isinstance(error, SourceBusyError)
        assert "drill.memory" in error.hint
    for memory in (512 << 20, 2 << 30, 64 << 30):
        assert memory_settings(memory)["shared_buffers"] == f"{memory // 8192}kB"


def test_versions_and_users_that_are_not_there_are_refused() -> None:
    """A server program of that very version, and a user that is not root."""
    with pytest.raises(ConfigError, match="no server programs of PostgreSQL 9 "):
        find_server((), 9)
    with pytest.raises(ConfigError, match='no user "nobody-at-all"'):
        runner("nobody-at-all")
    with pytest.raises(ConfigError, match="cannot run as root"):
        runner("root")


def test_a_server_that_is_backed_up_is_no_place_for_a_drill(
    pg15: Server, pg16: Server, make_database: Callable[..., Database], parent: Path
) -> None:
    """By its address, by its cluster's identifier over another address, and by one host of several."""
    production = [Source(make_database(pg15).conninfo)]
    with pytest.raises(RefusedError, match="is backed up"):
        require_apart(Source(pg15.conninfo()), production)
    elsewhere = parent / "elsewhere"
    elsewhere.symlink_to(pg15.sockets)
    with pytest.raises(RefusedError, match="is backed up"):
        require_apart(Source(f"host={elsewhere} port={pg15.port} user=postgres dbname=postgres"), production)
    elsewhere.unlink()
    several = f"host=db9.example,{pg15.sockets} port={pg15.port} user=postgres dbname=postgres"
    with pytest.raises(RefusedError, match="is backed up"):
        require_apart(Source(pg15.conninfo()), [Source(several)])
    require_apart(Source(pg16.conninfo()), production)
    require_apart(Source(pg16.conninfo()), [Source("host=/nowhere port=1 dbname=x connect_timeout=1")])
    with pytest.raises(SourceError):
        require_apart(Source("host=/nowhere port=1 dbname=x"), production)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
