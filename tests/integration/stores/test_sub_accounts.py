"""A node's sub-account on a real OpenSSH: it reads everything, writes to one folder, and the parent's account takes."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime

import pytest
from doubles.servers.database_diff import contents
from doubles.stores.objects import put
from fix_postgres import unique

from backupd.clock import SystemClock
from backupd.errors import StoreError
from backupd.model.ids import ObjectName
from backupd.operations.restore import RestoreEnvironment, RestoreRequest, restore
from backupd.postgres.connect import Source
from backupd.repository.repository import Repository
from backupd.seal.keyfiles import write_signer
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.store.probe import probe
from backupd.store.sftp import open_sftp, wire
from backupd.store.sftp.session import handle_of, require_granted
from backupd.store.sftp.store import SftpStore
from backupd.trace import NoTrace

NAME, DATA = ObjectName("packs/b/object"), b"content" * 1000


@pytest.fixture
def sides(sub_accounts, target_of):
    """The node's store with its plain one, and the keeper's, which holds one object."""
    plain = target_of(sub_accounts.node, path="backupd", shared=True)
    own = target_of(sub_accounts.node, path="backupd/be/incoming", region="test", shared=True, flat=True)
    keeper = SftpStore(target_of(sub_accounts.keeper, path="node1/backupd", shared=True), SystemClock())
    node = HandoffStore(SftpStore(plain, SystemClock()), open_sftp(own, SystemClock()))
    put(keeper, NAME, DATA)
    yield node, keeper
    node.close()
    keeper.close()


@pytest.mark.parametrize("size", [0, 5_000, 2_000_000])
def test_the_node_hands_in_and_the_keeper_reads_and_removes(sides, sub_accounts, size):
    """With plain file modes: the keeper's account is in the group, and owns the folder."""
    node, keeper = sides
    data = bytes(size)
    put(node, "a/b", data)
    assert node.get("a/b") == data
    assert node.get(NAME) == DATA
    assert [path.name for path in sub_accounts.own.iterdir()] == ["a+b"]
    assert keeper.get("incoming/test/a+b") == data
    put(keeper, "a/b", data)
    keeper.remove("incoming/test/a+b")
    assert (node.get("a/b"), node.stat("a/b").size) == (data, size)
    assert list(sub_accounts.own.iterdir()) == []


WAYS = {
    "remove": [wire.remove(f"backupd/be/{NAME}")],
    "rmdir": [wire.rmdir("backupd/be/incoming/test"), wire.rmdir("backupd/be/incoming")],
    "chmod": [wire.chmod(f"backupd/be/{NAME}", 0o600), wire.chmod("backupd/be", 0o777)],
    "rename away": [wire.rename(f"backupd/be/{NAME}", "backupd/be/incoming/test/mine")],
    "rename a folder": [
        wire.rename("backupd/be/packs", "backupd/be/incoming/test/packs"),
        wire.rename("backupd/be/incoming/test", "backupd/be/incoming/other"),
        wire.rename("backupd/be", "backupd/elsewhere"),
    ],
    "rename over it": [wire.rename("backupd/be/incoming/test/mine", "backupd/be/packs/b/new")],
    "exchange": [wire.exchange("backupd/be/incoming/test/mine", f"backupd/be/{NAME}")],
    "mkdir": [wire.mkdir("backupd/be/tmp"), wire.mkdir("backupd/be/incoming/other"), wire.mkdir("backupd/other")],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_thief_of_the_nodes_key_changes_nothing_of_the_keepers(sides, sub_accounts, way):
    """No request of SFTP's removes, replaces, hides or adds anything outside the node's own folder."""
    node, keeper = sides
    put(node, "mine", b"other")
    for request in WAYS[way]:
        with sub_accounts.nodes_turn(), node.vault.pool.session() as session:
            (reply,) = session.channel.ask(request)
        with pytest.raises(StoreError):
            require_granted(reply, NAME)
    assert keeper.get(NAME) == DATA
    assert {info.name for info in keeper.list("")} == {NAME, "incoming/test/mine"}


@pytest.mark.parametrize("mode", [0x02, 0x02 | 0x10, 0x02 | 0x04, 0x02 | 0x08 | 0x10])
def test_a_thief_cannot_open_an_object_of_the_keepers_to_write(sides, sub_accounts, mode):
    """Nor make one beside it."""
    node, keeper = sides
    with sub_accounts.nodes_turn(), node.vault.pool.session() as session:
        replies = session.channel.ask(
            wire.open_file(f"backupd/be/{NAME}", wire.Mode(mode)),
            wire.open_file("backupd/be/packs/b/new", wire.Mode(mode | 0x08)),
        )
    for reply in replies:
        with pytest.raises(StoreError):
            handle_of(reply, NAME)
    assert keeper.get(NAME) == DATA


def test_the_probe_sees_that_the_node_can_only_hand_in(sides, sub_accounts):
    """And sees it when a folder was given away by mistake."""
    node, keeper = sides
    with sub_accounts.nodes_turn():
        assert probe(node).append_only
    assert {info.name for info in keeper.list("")} == {NAME}
    sub_accounts.own.parent.chmod(0o2770)
    assert not probe(node).append_only
    assert {info.name for info in keeper.list("")} == {NAME}


AWAY = """
[stores.away]
kind = "sftp"
host = "{node.host}"
port = {node.port}
user = "{node.user}"
key = "{node.key_file}"
path = "backupd"
ingest = true
keeper_key = "{keeper.key_file}"
keeper_path = "node1/backupd"
host_keys = {host_keys}
location = "here"
[keeper]
signing_key_file = "{folder}/keeper.key"
"""


@pytest.fixture
def installed(sub_accounts, node, pg17, make_database):
    """A node and its keeper, configured, with nothing made yet."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)", "INSERT INTO note SELECT g % 3, 'x' FROM generate_series(1, 900) g"
    )
    signer = write_signer(node.node / "keeper.key")
    hosts = json.dumps(sub_accounts.node.host_keys)
    stores = AWAY.format(node=sub_accounts.node, keeper=sub_accounts.keeper, host_keys=hosts, folder=node.node)
    node.configure(database, stores=stores, names='["away"]')
    config = node.node / "backupd.toml"
    config.write_text(config.read_text().replace("[trust]\n", f'[trust]\nkeepers = ["{signer.public}"]\n'))
    node.database = database
    return node


def test_a_node_with_a_sub_account_and_a_keeper_with_the_parents(installed, sub_accounts):
    """Init, backups, verify, an erasure: the node hands in, the keeper takes, and `status` says so."""
    with sub_accounts.nodes_turn():
        installed.json("init", "be")
        installed.json("backup")
    assert not (sub_accounts.vault / "repository.json").exists()
    (done,) = installed.json("ingest", "be")["stores"]
    assert (done["taken"]["record"], done["waiting"], done["refused"]) == (1, {}, {})
    repository = Repository(DirectoryStore(sub_accounts.vault), [installed.signer.public])
    assert len(repository.snapshots()) == 1
    assert list(sub_accounts.own.iterdir()) == []
    installed.database.sql("INSERT INTO note VALUES (1, 'more')")
    with sub_accounts.nodes_turn():
        installed.json("backup")
        (store,) = installed.json("status", "be")["regions"][0]["stores"]
    assert (store["mode"], store["handing"], store["append_only"], store["handed_in"] > 0) == (
        "ingest",
        True,
        True,
        True,
    )
    installed.json("ingest", "be")
    installed.json("verify", "be")
    assert len(repository.snapshots()) == 2
    installed.json("tenant", "erase", "be", "1")
    installed.json("backup")
    installed.json("ingest", "be")
    installed.json("purge", "be")
    installed.json("verify", "be")
    (incarnation,) = installed.json("tenant", "where", "be", "1")["incarnations"]
    assert (incarnation["copies"], incarnation["standing"]["absent"]) == ([], ["away"])
    (store,) = installed.json("status", "be")["regions"][0]["stores"]
    newest = datetime.fromisoformat(store["databases"][0]["published"])
    assert (datetime.now(UTC) - newest).total_seconds() < 600
    assert store["handed_in"] == 0


def test_what_a_stranger_founds_is_not_believed(installed, sub_accounts):
    """A repository that no trusted signer signed is not made, and neither is one that nobody vouches for."""
    installed.json("init", "be")
    config = installed.node / "backupd.toml"
    right = config.read_text()
    for line, status in ((f'signers = ["{"ab" * 32}"]', 7), ("", 10)):
        config.write_text(right.replace(f'signers = ["{installed.signer.public}"]', line))
        assert installed.run("ingest", "be").returncode == status
        assert not (sub_accounts.vault / "repository.json").exists()
    config.write_text(right)
    assert installed.json("ingest", "be")["stores"][0]["dropped"] == 3
    assert (sub_accounts.vault / "repository.json").exists()


def test_backups_restore_again_once_the_keeper_trusts_the_nodes_signer(installed, sub_accounts, pg17):
    """What was handed in meanwhile was refused, and removed after two days; nobody has to repair anything for it."""
    with sub_accounts.nodes_turn():
        installed.json("init", "be")
        installed.json("backup")
    installed.json("ingest", "be")
    config = installed.node / "backupd.toml"
    old = config.read_text()
    new = write_signer(installed.node / "new.key").public
    own = old.replace(f'signers = ["{installed.signer.public}"]', f'signers = ["{installed.signer.public}", "{new}"]')
    own = own.replace('signing.key"', 'new.key"')
    old_names = set[str]()
    for days, text in ((3, "INSERT INTO note VALUES (11, 'y')"), (0, "INSERT INTO note VALUES (12, 'z')")):
        installed.database.sql(text)
        config.write_text(own)
        with sub_accounts.nodes_turn():
            installed.json("backup")
        for path in sub_accounts.own.iterdir() if days else ():
            os.utime(path, (time.time() - days * 86400,) * 2)
            old_names.add(path.name)
    (store,) = installed.json("status", "be")["regions"][0]["stores"]
    assert (datetime.now(UTC) - datetime.fromisoformat(store["handed_since"])).days == 3
    config.write_text(old)
    assert installed.run("ingest", "be").returncode == 10
    left = {path.name for path in sub_accounts.own.iterdir()}
    assert any(name.startswith("keyrings+") for name in left)
    assert not old_names & left
    config.write_text(own)
    with sub_accounts.nodes_turn():
        (done,) = installed.json("backup")["backups"]
    assert done["report"]["missing"] > 0
    installed.json("ingest", "be")
    repository = Repository(DirectoryStore(sub_accounts.vault), [installed.signer.public, new])
    copy, source = unique("restored"), Source(pg17.conninfo("postgres"), client_folders=(pg17.bin,))
    request = RestoreRequest(label="app", snapshot="latest", target=source, name=copy)
    try:
        report = restore(
            request, repository, RestoreEnvironment(installed.pair.secret, SystemClock(), NoTrace(), os.urandom)
        )
        assert report.snapshot == done["report"]["snapshot"]
        here = contents(pg17, installed.database.name, ordered=False)
        assert contents(pg17, copy, ordered=False) == here
    finally:
        pg17.drop_database(copy)
    for path in sub_accounts.own.iterdir():
        os.utime(path, (time.time() - 3 * 86400,) * 2)
    assert (
        installed.run("ingest", "be").returncode == 10
    )  # the second's record, which waited in vain for packs of the first
    installed.json("verify", "be")
