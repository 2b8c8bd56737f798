"""A store that a node hands objects in to: the port's promises, and what the keeper's folder is spared."""

from __future__ import annotations

import hashlib
import io

import pytest
from doubles.stores.objects import names, put

from backupd.clock import SystemClock
from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError
from backupd.store.directory import DirectoryStore
from backupd.store.handoff import HandoffStore
from backupd.store.probe import probe
from backupd.store.server import server_time

NAME, DATA = "packs/a/b.pack", b"content" * 1000


@pytest.fixture
def vault(tmp_path):
    return DirectoryStore(tmp_path / "be")


@pytest.fixture
def store(vault, tmp_path):
    """The node's side of it."""
    (tmp_path / "be/incoming").mkdir(parents=True)
    return HandoffStore(vault, DirectoryStore(tmp_path / "be/incoming/n1"))


def test_what_is_put_lies_in_the_nodes_own_folder_alone(store, vault):
    """Under a name without folders; to the node it is as good as in its place."""
    put(store, NAME, DATA)
    put(store, NAME, DATA)
    assert names(vault) == ["incoming/n1/packs+a+b.pack"]
    assert (store.get(NAME), store.get(NAME, 2, 3), store.stat(NAME).size) == (DATA, DATA[2:5], len(DATA))
    assert (names(store, "packs"), names(store, "packs/a"), names(store, "pac")) == ([NAME], [NAME], [])
    with pytest.raises(ObjectExistsError):
        put(store, NAME, b"other")


def test_what_the_keeper_took_counts_as_put(store, vault):
    """It is read from where it stands, listed once, not handed in again, and nothing else takes its name."""
    put(vault, NAME, DATA)
    put(store, NAME, DATA)
    assert names(vault) == [NAME]
    put(store, "other", b"x")
    assert names(store, "packs") == [NAME]
    for other in (b"other", DATA[::-1]):
        with pytest.raises(ObjectExistsError):
            put(store, NAME, other)


def test_nothing_of_the_keepers_is_removed_or_replaced(store, vault):
    """What was handed in and not taken can be taken back."""
    put(vault, NAME, DATA)
    put(store, "mine", b"x")
    store.remove("mine")
    store.remove("mine")
    with pytest.raises(ObjectMissingError):
        store.get("mine")
    with pytest.raises(StoreError, match="may not remove"):
        store.remove(NAME)
    with pytest.raises(StoreError, match="may not replace"):
        store.replace(NAME, io.BytesIO(b"x"), 1, hashlib.sha256(b"x").hexdigest())
    with pytest.raises(StoreError, match="may not replace"):
        store.recompose(NAME, [b"x"], len(DATA))
    assert vault.get(NAME) == DATA
    assert names(vault) == [NAME]


@pytest.mark.parametrize("name", ["ledger/0000000001.json", "leases/0000000001.json"])
def test_what_keepers_alone_write_is_looked_for_in_its_place_only(store, vault, name):
    """A thief's entry in the node's folder would stop the node's own backups until the keeper removes it."""
    put(store.own, name.replace("/", "+"), b"forged")
    assert (names(store, name.split("/")[0]), store.stat(name)) == ([], None)
    with pytest.raises(ObjectMissingError):
        store.get(name)
    put(vault, name, DATA)
    assert (names(store, name.split("/")[0]), store.get(name)) == ([name], DATA)


def test_an_object_taken_between_two_looks_is_found(store, vault, monkeypatch):
    """The keeper copies before it removes: whoever looks in both places sees it in one."""
    put(store, NAME, DATA)

    def taken(call):
        def look(name, *rest):
            put(vault, NAME, DATA)
            store.own.inner_remove(name)
            return call(name, *rest)

        return look

    store.own.inner_remove = store.own.remove
    monkeypatch.setattr(store.own, "get", taken(store.own.get))
    assert store.get(NAME) == DATA
    vault.remove(NAME)
    put(store, NAME, DATA)
    monkeypatch.setattr(store.own, "stat", taken(store.own.stat))
    assert store.stat(NAME).size == len(DATA)


def test_the_probe_tells_a_folder_that_the_node_can_write_to(store, vault):
    """Append-only is what the keeper's folder was seen to be for the node, and nothing is left of the attempt."""
    assert not probe(store).append_only
    assert [name for name in names(vault) if not name.startswith("incoming/n1/")] == []


def test_the_stores_time_is_asked_in_the_nodes_own_folder(store, vault):
    """A node may make nothing elsewhere."""
    put(store, NAME, DATA)
    asked = server_time(store, bytes)
    assert abs((asked - SystemClock().now()).total_seconds()) < 60
    assert names(vault) == ["incoming/n1/packs+a+b.pack"]
