"""The first store is away or hangs: restores and questions go to the next one, and say so."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest
from doubles.servers.postgres import Server
from doubles.servers.sshd import Sshd
from fix_nodes import NodeFolder
from fix_postgres import Database, unique

FAR = """
[stores.far]
kind = "sftp"
host = "{account.host}"
port = {account.port}
user = "{account.user}"
key = "{account.key_file}"
host_keys = ["{account.host_keys[0]}"]
path = "backups"
location = "here"
deadline = "4s"
patience = "1s"
"""
OPENED = ("--identity", "ops.identity", "--passphrase-file", "passphrase")
QUESTIONS = (
    ("snapshots", "be"),
    ("tenant", "list", "be"),
    ("tenant", "where", "be", "secretive-1"),
    ("ledger", "verify", "be"),
    ("plan", "be"),
)


@pytest.fixture
def server() -> Iterator[Sshd]:
    """A real OpenSSH that can be stopped, and can be made to hang."""
    server = Sshd()
    with server:
        yield server


@pytest.fixture
def node(
    pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder], server: Sshd
) -> NodeFolder:
    """A keeper with a snapshot on a store far away, its region's first, and on one here."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 2 FROM generate_series(1, 20) g",
    )
    node = node_of(database)
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace('stores = ["disk"]', 'stores = ["far", "disk"]'))
    node.become_keeper(FAR.format(account=server.account))
    node.write_identity()
    node.json("init", "be")
    node.json("backup", "be")
    return node


def on_terminal(node: NodeFolder, *arguments: str) -> str:
    """Run a command whose standard error is a terminal; return what stood there."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        node.command(*arguments),
        cwd=node.folder,
        env={**node.environment, "TERM": "xterm", "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=its,
    )
    os.close(its)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:
        pass  # a terminal whose other end was closed
    os.close(ours)
    assert process.wait(200) == 0, shown
    return shown.decode()


def test_a_restore_goes_to_the_next_store(node: NodeFolder, server: Sshd, pg17: Server) -> None:
    """The first hangs, as a machine without memory does: it is named, and every row comes from the other."""
    name = unique("restored")
    server.hang()
    try:
        done = node.run("restore", "database", "be", "app", "--target", pg17.conninfo(name), *OPENED)
        assert done.returncode == 0, done.stderr.decode()
        assert b"warning: far did not answer in" in done.stderr
        assert b"Asking disk in its place; --store NAME reads from that store only." in done.stderr
        assert Database(pg17, name).sql("SELECT count(*) FROM note") == [(20,)]
    finally:
        server.resume()
        pg17.drop_database(name)


def test_questions_go_to_the_next_store(node: NodeFolder, server: Sshd) -> None:
    """Each of them answers from the store that is there, and names the other."""
    server.stop()
    for question in QUESTIONS:
        done = node.run(*question)
        # Where something of a tenant is cannot be said whole without a store.
        assert done.returncode == (6 if "where" in question else 0), (question, done.stderr.decode())
        assert b"far did not answer" in done.stderr or b"far does not answer" in done.stderr, question
        assert b"secretive" not in done.stderr


def test_a_store_that_was_asked_for_is_not_replaced(node: NodeFolder, server: Sshd) -> None:
    """Its error says which other store there is, and by which option; the same for all of a program's output."""
    server.stop()
    for question in (("snapshots", "be"), ("verify", "be"), ("key", "check", "be", *OPENED)):
        done = node.run(*question, "--store", "far")
        assert done.returncode == 6, (question, done.stderr.decode())
        assert b"give --store disk" in done.stderr, (question, done.stderr.decode())
        assert done.stderr.count(b"far: ") == 1, (question, done.stderr.decode())


def test_none_that_answers_is_said(node: NodeFolder, server: Sshd) -> None:
    """All of them are named."""
    server.stop()
    (node.folder / "disk").rename(node.folder / "gone")
    done = node.run("snapshots", "be")
    assert done.returncode == 6
    assert b"none of the region's stores answers (far, disk)" in done.stderr


def test_a_terminal_is_never_silent_for_long(node: NodeFolder, server: Sshd) -> None:
    """While the store that hangs is waited for, the screen counts the seconds; nothing of it stays."""
    server.hang()
    try:
        shown = on_terminal(node, "snapshots", "be")
    finally:
        server.resume()
    assert "asking far" in shown
    assert "for 2." in shown
    assert "for 3." in shown
    assert "far did not answer in" in shown


def test_a_backup_says_what_it_waits_for(node: NodeFolder, server: Sshd) -> None:
    """Where a store is tried again for long, a warning says which, why and for how long; the others go first."""
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace('patience = "1s"', 'patience = "20s"'))
    server.stop()
    done = node.run("backup", "be", "--json")
    assert done.returncode == 6
    assert [(one["store"], "report" in one) for one in json.loads(done.stdout)["backups"]] == [
        ("disk", True),
        ("far", False),
    ]
    assert b"warning: far does not answer: cannot connect to" in done.stderr
    assert b"s at most, as stores.far.patience says." in done.stderr


def test_a_restore_does_not_wait_for_a_store_that_is_away(node: NodeFolder, server: Sshd, pg17: Server) -> None:
    """A keeper that restored notes it on the store that answers, and does not wait as long as the other may take."""
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace('patience = "1s"', 'patience = "10m"'))
    name = unique("restored")
    server.stop()
    try:
        done = node.run("restore", "database", "be", "app", "--target", pg17.conninfo(name), *OPENED)
    finally:
        pg17.drop_database(name)
    assert done.returncode == 0, done.stderr.decode()
    assert b"recorded in the ledger" in done.stdout
    assert b"far gets it with the keeper's next run" in done.stderr


def test_a_newer_snapshot_of_another_store_is_told(node: NodeFolder, server: Sshd) -> None:
    """`latest` is that of the store that is read: the first, unless another is asked for. Nobody believes a name that
    is dated ahead, which would be newer for ever."""
    preview = "restore", "preview", "be", "app", *OPENED
    (record,) = (node.folder / "disk" / "be" / "snapshots").glob("*/*")
    shutil.copy(record, record.with_name(f"20990101T120000Z{record.name[16:]}"))
    assert b"newer" not in node.run(*preview).stderr
    (first,) = (path for path in server.account.home.rglob("*") if path.parent.parent.name == "snapshots")
    first.rename(first.with_name(f"20200101T120000Z{first.name[16:]}"))
    told = node.run(*preview).stderr
    assert b"disk lists a snapshot of 20" in told
    assert b"newer than the newest on far, which is read" in told
    assert b"--store disk reads from there" in told
    assert b"2099" not in told
    assert b"newer" not in node.run(*preview, "--store", "far").stderr


def test_a_store_with_another_host_key_hides_no_other(node: NodeFolder, server: Sshd) -> None:
    """What it refuses is named beside what the other store says, by all that ask all stores; it is no success."""
    config, key = node.node / "backupd.toml", server.account.host_keys[0]
    config.write_text(config.read_text().replace(key, key[:-3] + ("AAA" if key[-3:] != "AAA" else "BBB")))
    standing = node.run("status", "be")
    assert standing.returncode == 6
    assert b"far: the host key of" in standing.stdout
    assert b"published" in standing.stdout, standing.stdout.decode()
    for question in (("tenant", "list", "be"), ("plan", "be")):
        done = node.run(*question)
        assert done.returncode == 0, (question, done.stderr.decode())
        assert b"far does not answer: the host key of" in done.stderr, question
    verified = node.run("verify", "be").stderr
    assert b"Somebody may be in between." in verified
    assert b"--store" not in verified  # all stores were asked
