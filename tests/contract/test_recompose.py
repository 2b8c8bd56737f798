"""Each store keeps the promises of `recompose`, by which an object is put anew from pieces of itself."""

from __future__ import annotations

import os
import threading
from itertools import pairwise

import pytest
from doubles.servers.sshd import Sshd
from doubles.stores.objects import names, put

from backupd.clock import SystemClock
from backupd.errors import ObjectMissingError, StoreError
from backupd.store.base import Kept
from backupd.store.sftp.store import SftpStore

OLD = os.urandom(5_000_000)
WAYS = {
    "the middle goes": [Kept(0, 1_000_000), Kept(1_700_000, 3_300_000)],
    "the start is put anew": [b"header" * 100_000, Kept(2_000_000, 3_000_000)],
    "little stays": [b"x", Kept(4_999_999, 1)],
    "nothing stays": [b"header"],
    "all goes": [],
    "some of all": [b"a", Kept(7, 0), Kept(7, 1_000), b"", Kept(1_007, 300_000), b"b" * 300_000, Kept(3, 9)],
}


def joined(pieces, old=OLD):
    return b"".join(old[one.offset : one.offset + one.length] if isinstance(one, Kept) else one for one in pieces)


@pytest.fixture(params=["copying", "carrying"])
def either_store(request, store, target_of):
    """Each adapter, and one on a server that does not copy by itself."""
    if request.param == "copying":
        yield store
        return
    with Sshd(flags="-P copy-data") as account:
        carrying = SftpStore(target_of(account), SystemClock())
        yield carrying
        carrying.close()


@pytest.mark.parametrize("way", WAYS)
def test_pieces_stand_in_the_old_ones_place(either_store, way):
    """One object is of these pieces, all others have their content, and nothing else lies about."""
    put(either_store, "a/object", OLD)
    put(either_store, "a/other", b"other")
    either_store.recompose("a/object", WAYS[way], len(OLD))
    assert either_store.get("a/object") == joined(WAYS[way])
    assert either_store.get("a/other") == b"other"
    assert names(either_store) == ["a/object", "a/other"]
    either_store.remove("a/object")
    assert names(either_store) == ["a/other"]


def test_what_stands_there_so_counts_as_recomposed(store, root_of):
    """A second attempt, after an answer that was lost, changes nothing."""
    put(store, "a/object", OLD)
    pieces = [b"header", Kept(10, 1_000)]
    store.recompose("a/object", pieces, len(OLD))
    before = (root_of(store) / "a/object").stat()
    store.recompose("a/object", pieces, len(OLD))
    after = (root_of(store) / "a/object").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert store.get("a/object") == joined(pieces)


@pytest.mark.parametrize("standing", [OLD[:-1], OLD + b"x", b"HEADER" + OLD[10:1_010]])
def test_an_object_that_somebody_changed_stays(store, standing):
    """Pieces are places in what the caller saw; in something else they mean nothing."""
    put(store, "a/object", standing)
    with pytest.raises(StoreError, match="changed by somebody else"):
        store.recompose("a/object", [b"header", Kept(10, 1_000)], len(OLD))
    assert store.get("a/object") == standing
    assert names(store) == ["a/object"]


@pytest.mark.parametrize(
    "pieces", [[Kept(0, len(OLD))], [b"x", Kept(len(OLD), 1)], [Kept(-1, 5)], [Kept(8, -1), b"four"]]
)
def test_impossible_pieces_are_refused(store, pieces):
    """Neither beyond the object, nor to its own size, by which a recomposed one could not be told."""
    put(store, "a/object", OLD)
    with pytest.raises(ValueError, match=r"beyond|own size"):
        store.recompose("a/object", pieces, len(OLD))
    assert store.get("a/object") == OLD


@pytest.mark.parametrize("name", ["object", "a/b/object", "a/none"])
def test_nothing_is_made_new(store, name):
    """What is not there cannot be put anew, and is not there afterwards."""
    put(store, "a/object", b"x")
    with pytest.raises(ObjectMissingError):
        store.recompose(name, [b"content"], 1)
    assert names(store) == ["a/object"]


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../escape", "a/../../b", "a//b", "a\x00b"])
def test_names_that_could_escape_are_refused(store, name):
    """No name leads outside the root."""
    with pytest.raises(StoreError):
        store.recompose(name, [b"x"], 5)


def test_only_plain_objects_are_recomposed(store, root_of, tmp_path):
    """Neither a folder nor a symbolic link is an object, and nothing is read or written through the link."""
    put(store, "a/object", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (root_of(store) / "a/link").symlink_to(tmp_path / "secret")
    for name in ("a", "a/link"):
        with pytest.raises(StoreError):
            store.recompose(name, [Kept(0, 3)], 6)
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (root_of(store) / "a/link").is_symlink()
    assert names(store) == ["a/object"]


def test_readers_see_the_old_or_the_new(store):
    """Whoever reads meanwhile gets one or the other, whole."""
    contents = [OLD[: 400_000 - 20_000 * number] for number in range(8)]
    put(store, "object", contents[0])
    over, seen = threading.Event(), []

    def read():
        while not over.is_set():
            seen.append(store.get("object"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for old, new in pairwise(contents):
            store.recompose("object", [Kept(0, len(new))], len(old))
    finally:
        over.set()
        reader.join()
    assert set(seen) <= {*contents}
    assert store.get("object") == contents[-1]
