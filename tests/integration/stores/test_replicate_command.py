"""A store is added later, brought up to date, and then it is the only one: by ops' commands, to a real sshd."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from doubles.servers.postgres import Server
from doubles.servers.sshd import Account
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
"""
OTHER = """
[stores.other]
kind = "directory"
path = "{node.folder}/other"
location = "here"
"""
OPENED = ("--identity", "ops.identity", "--passphrase-file", "passphrase")


def with_store(node: NodeFolder, name: str, section: str) -> None:
    """The region has another store from now on, and the node is its keeper."""
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace('stores = ["disk"]', f'stores = ["disk", "{name}"]'))
    node.become_keeper(section)
    node.write_identity()


def test_a_store_added_later_stands_alone(
    pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder], sshd: Account
) -> None:
    """Made, filled from the first, and with that one gone verified to the last row and restored from."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (id int PRIMARY KEY, tenant text NOT NULL, said text)",
        "INSERT INTO note SELECT g, 'secretive-' || g % 5, repeat(md5(g::text), 50) FROM generate_series(1, 4000) g",
    )
    node = node_of(database)
    node.json("backup")
    database.sql("UPDATE note SET said = 'changed' WHERE id % 100 = 1")
    node.json("backup")
    with_store(node, "far", FAR.format(account=sshd))
    refused = node.run("replicate", "be", "--from", "disk", "--to", "far")
    assert (refused.returncode, b"has no repository" in refused.stderr) == (10, True)
    node.json("init", "be")
    erased = node.json("tenant", "erase", "be", "secretive-3")
    assert erased["tenant"]["state"] == "cleared"
    dry = node.json("replicate", "be", "--from", "disk", "--to", "far", "--dry-run")
    assert len(dry["replication"]["snapshots"]) == 2
    assert not list(sshd.home.rglob("*.pack"))
    done = node.run("replicate", "be", "--from", "disk", "--to", "far")
    assert done.returncode == 0, done.stderr.decode()
    assert b"2 snapshots copied, 0 were there" in done.stdout
    assert b"secretive" not in done.stdout + done.stderr
    (node.folder / "disk").rename(node.folder / "gone")
    verified = node.run("verify", "--store", "far", "--read-data", "all", *OPENED)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    restored = Database(pg17, unique("restored"))
    try:
        target = pg17.conninfo(restored.name)
        done = node.run("restore", "database", "be", "app", "--store", "far", "--target", target, *OPENED)
        assert done.returncode == 0, done.stderr.decode()
        rows = "SELECT id, tenant, said FROM note WHERE tenant <> 'secretive-3' ORDER BY id"
        assert restored.sql(rows) == database.sql(rows)
        assert restored.sql("SELECT count(*) FROM note") == [(3200,)]
    finally:
        pg17.drop_database(restored.name)
    assert node.run("replicate", "be", "--from", "disk", "--to", "far").returncode == 6


def test_a_store_whose_disk_was_lost_goes_on_under_another_name(
    pg17: Server, make_database: Callable[..., Database], node_of: Callable[..., NodeFolder]
) -> None:
    """Under its own, what only it had is missed for good, which is said with the way out; that way is gone here."""
    database = make_database(pg17)
    database.sql("CREATE TABLE note (id int PRIMARY KEY, tenant text)", "INSERT INTO note VALUES (1, 'a'), (2, 'b')")
    node = node_of(database)
    with_store(node, "other", OTHER.format(node=node))
    (node.folder / "other").mkdir()
    node.json("init", "be")
    node.json("backup")
    node.json("tenant", "erase", "be", "b")
    node.json("expire", "be")
    shutil.rmtree(node.folder / "other")
    (node.folder / "other").mkdir()
    node.json("init", "be")
    expired = node.run("expire", "be")
    assert (expired.returncode, b"goes on under another name (`backupd manual stores`)" in expired.stderr) == (7, True)
    config = node.node / "backupd.toml"
    text = config.read_text().replace('"other"]', '"newer"]').replace("[stores.other]", "[stores.newer]")
    config.write_text(text)
    node.json("ledger", "retire", "be", "other", "--decision", "OPS-1")
    node.json("replicate", "be", "--from", "disk", "--to", "newer")
    for command in ("expire", "verify"):
        done = node.run(command, "be")
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
