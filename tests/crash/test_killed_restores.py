"""Restores into files and scratch servers that are killed: nothing has the final name, and what is left is known."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.node.processes import running_in
from doubles.servers.postgres import Server
from fix_nodes import NodeFolder
from fix_postgres import Database

from backupd.operations.restore.files import TEMPORARY
from backupd.postgres.scratch.folder import PREFIX
from backupd.seal.keyfiles import write_identity


@pytest.fixture
def backed_up(pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]) -> NodeFolder:
    """A node with a database that takes a moment to restore."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant int NOT NULL, said text)",
        "INSERT INTO note SELECT g, g % 7, md5(g::text) || md5((-g)::text) FROM generate_series(1, 300000) g",
    )
    node = node_of(database)
    node.json("backup", "be")
    write_identity(node.folder / "id", "ops", node.pair, "pass")
    (node.folder / "pass").write_text("pass\n")
    return node


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder other users can reach, with a short path."""
    folder = Path("/tmp") / f"killed-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def restoring(node: NodeFolder, command: str, *where: str) -> list[str]:
    return node.command("restore", command, "be", "app", *where, "--identity", "id", "--passphrase-file", "pass")


def wait_until(done: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.005)


def killed(node: NodeFolder, command: list[str], when: Callable[[], object]) -> None:
    """Run it, and kill it as soon as `when` holds."""
    with subprocess.Popen(
        command, cwd=node.folder, env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: when() or process.poll() is not None)
            assert process.poll() is None
        finally:
            process.kill()


def test_killed_while_it_writes_files(backed_up: NodeFolder, place: Path) -> None:
    """The folder has not its name; the next restore tells what was left and is whole; one command removes it."""
    files = place / "files"
    killed(backed_up, restoring(backed_up, "files", "--target-dir", str(files)), lambda: list(place.rglob("*.copy")))
    (left,) = place.iterdir()
    assert left.name.startswith(TEMPORARY)
    done = subprocess.run(
        restoring(backed_up, "files", "--target-dir", str(files)),
        cwd=backed_up.folder,
        env=backed_up.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert left.name in done.stderr
    assert (files / "MANIFEST.json").exists()
    told = backed_up.run("restore", "clean", "--target-dir", str(files))
    assert told.stdout.decode().startswith("removed 1 of 1 unfinished folder")
    assert list(place.iterdir()) == [files]


def test_killed_while_it_fills_a_scratch_server(backed_up: NodeFolder, place: Path) -> None:
    """A process beside it ends the server and removes all of it."""
    sockets: list[Path] = []

    def serving() -> list[Path]:
        sockets[:] = place.glob(f"{PREFIX}*/socket/.s.PGSQL.*")
        return sockets

    killed(backed_up, restoring(backed_up, "scratch", "--target-dir", str(place / "look"), "--keep"), serving)
    wait_until(lambda: not list(place.iterdir()))
    assert not running_in(sockets[0].parents[1] / "data")
