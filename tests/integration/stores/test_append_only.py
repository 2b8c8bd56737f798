"""A writer's key on a real OpenSSH that lets it add and nothing else, beside a keeper's on the same folder."""

from __future__ import annotations

import io
import json
import os

import pytest
from doubles.stores.objects import digest, put
from doubles.stores.snapshots import look

from backupd.clock import SystemClock
from backupd.errors import ObjectExistsError, StoreError, StoreGoneError
from backupd.repository.repository import Repository
from backupd.store.directory import DirectoryStore
from backupd.store.probe import probe
from backupd.store.sftp import wire
from backupd.store.sftp.session import handle_of, require_granted
from backupd.store.sftp.store import SftpStore

NAME, DATA = "a/b/object", b"content" * 1000


@pytest.fixture
def writer(roles):
    """The writer's store, with one object put by it."""
    store = SftpStore(roles.writer, SystemClock())
    put(store, NAME, DATA)
    yield store
    store.close()


@pytest.fixture
def keeper(roles):
    """The keeper's store on the same folder."""
    store = SftpStore(roles.keeper, SystemClock())
    yield store
    store.close()


def everything(store):
    """All that lies outside tmp/, with its bytes."""
    return {info.name: store.get(info.name) for info in store.list("") if not info.name.startswith("tmp/")}


@pytest.mark.parametrize("size", [0, 5_000, 2_000_000])
def test_writer_adds_and_reads(writer, size):
    """Objects small and large are put, found there already, read and listed; no temporary one stays."""
    data = os.urandom(size)
    put(writer, "c/object", data)
    put(writer, "c/object", data)
    with pytest.raises(ObjectExistsError):
        put(writer, "c/object", b"other")
    assert everything(writer) == {NAME: DATA, "c/object": data}
    assert writer.stat("c/object").size == size
    assert writer.space().free > 0


def test_writer_neither_removes_nor_replaces(writer):
    """Both are refused with a reason, and what was there is there."""
    with pytest.raises(StoreError, match="permission denied") as caught:
        writer.remove(NAME)
    assert caught.value.hint
    assert not isinstance(caught.value, StoreGoneError)
    with pytest.raises(StoreError, match="does not let this account replace") as caught:
        writer.replace(NAME, io.BytesIO(b"other"), 5, digest(b"other"))
    assert "keeper" in caught.value.hint
    assert everything(writer) == {NAME: DATA}


MODES = {
    "write": wire.Mode.WRITE,
    "truncate": wire.Mode.WRITE | wire.Mode.TRUNCATE,
    "append": wire.Mode.WRITE | wire.Mode(0x04),
    "create": wire.Mode.WRITE | wire.Mode.CREATE | wire.Mode.TRUNCATE,
    "read and write": wire.Mode.READ | wire.Mode.WRITE,
    "exclusive": wire.Mode.WRITE | wire.Mode.CREATE | wire.Mode.EXCLUSIVE,
}


@pytest.mark.parametrize("how", MODES)
def test_thief_cannot_open_an_object_to_write(writer, how):
    """With the writer's key and a client of the thief's own, no way to open an object lets it be changed."""
    with writer.pool.session() as session:
        (opened,) = session.channel.ask(wire.open_file(f"be/{NAME}", MODES[how]))
        with pytest.raises(StoreError):
            handle_of(opened, NAME)
    assert everything(writer) == {NAME: DATA}


REQUESTS = {
    "remove": [wire.remove(f"be/{NAME}")],
    "rmdir": [wire.rmdir("be/tmp"), wire.rmdir("be/a")],
    "chmod": [wire.chmod(f"be/{NAME}", 0o600), wire.chmod("be/a/b", 0)],
    "rename over it": [wire.rename("be/mine", f"be/{NAME}")],
    "exchange": [wire.exchange("be/mine", f"be/{NAME}"), wire.exchange(f"be/{NAME}", "be/elsewhere")],
    "folder over it": [wire.mkdir(f"be/{NAME}"), wire.rename("be/tmp", "be/a")],
}


@pytest.mark.parametrize("how", REQUESTS)
def test_thief_cannot_overwrite_or_remove(writer, how):
    """Nor does any request of SFTP's that could take an object away or put another in its place."""
    put(writer, "mine", b"other")
    for request in REQUESTS[how]:
        with writer.pool.session() as session:
            (reply,) = session.channel.ask(request)
        with pytest.raises(StoreError):
            require_granted(reply, NAME)
    assert everything(writer) == {NAME: DATA, "mine": b"other"}


def test_thief_can_hide_an_object_and_no_more(writer, keeper):
    """Publishing is a rename, so the key can move an object off its name: its bytes stay, and the keeper moves it back.

    Whoever clears tmp/ must therefore look first whether a record misses what lies there.
    """
    with writer.pool.session() as session:
        (moved,) = session.channel.ask(wire.rename(f"be/{NAME}", "be/tmp/0123456789abcdef0123456789abcdef"))
        require_granted(moved, NAME)
    assert writer.stat(NAME) is None
    (hidden,) = keeper.list("tmp")
    assert keeper.get(hidden.name) == DATA
    put(keeper, NAME, keeper.get(hidden.name))
    assert everything(writer) == {NAME: DATA}


def test_thief_gets_no_command(writer):
    """The key starts SFTP and nothing else."""
    with writer.pool.session() as session:
        code, output = session.run("rm -f", f"be/{NAME}")
    assert (code != 0, output.startswith(b"This service allows sftp")) == (True, True)
    assert everything(writer) == {NAME: DATA}


def test_keeper_removes_and_replaces(writer, keeper):
    """The other key to the same folder may do what the writer's may not."""
    keeper.replace(NAME, io.BytesIO(b"less"), 4, digest(b"less"))
    assert everything(writer) == {NAME: b"less"}
    put(writer, "c/object", b"x")
    keeper.remove(NAME)
    assert everything(writer) == {"c/object": b"x"}
    put(writer, NAME, DATA)
    assert everything(keeper) == {NAME: DATA, "c/object": b"x"}


def test_probe_tells_the_roles_apart(roles, writer, keeper):
    """Append-only is what the writer's key was seen to be held to, and the keeper's was not."""
    assert probe(writer).append_only
    assert not probe(keeper).append_only
    assert everything(writer) == {NAME: DATA}
    assert {path.name for path in (roles.home / "be").iterdir()} == {"a", "tmp"}


AWAY = """
[stores.away]
kind = "sftp"
host = "{target.host}"
port = {target.port}
user = "{target.user}"
key = "{target.key_file}"
host_keys = {host_keys}
path = "backupd"
location = "here"
"""


def test_node_backs_up_with_a_writers_key(roles, node_of, pg17, make_database):
    """Init, two backups and verify need no right beyond adding; what they publish is whole, the rest lies in tmp/."""
    database = make_database(pg17)
    database.sql(
        "CREATE TABLE note (tenant int, said text)", "INSERT INTO note SELECT g % 3, 'x' FROM generate_series(1, 900) g"
    )
    stores = AWAY.format(target=roles.writer, host_keys=json.dumps(roles.writer.host_keys))
    node = node_of(database, stores=stores, names='["away"]')
    node.json("backup")
    before = {info.name for info in _objects(roles)}
    database.sql("INSERT INTO note VALUES (1, 'more')")
    node.json("backup")
    node.json("verify", "be")
    assert before <= {info.name for info in _objects(roles)}
    repository = Repository(DirectoryStore(roles.home / "backupd/be"), [node.signer.public])
    assert repository.info().profile["append_only"]
    found = [look(repository, name, node.pair.secret) for name in repository.snapshots()]
    assert sorted(sum(map(len, one.rows("public.note").values())) for one in found) == [900, 901]


def _objects(roles):
    return [info for info in DirectoryStore(roles.home / "backupd/be").list("") if not info.name.startswith("tmp/")]
