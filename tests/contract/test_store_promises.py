"""Each adapter keeps the promises of a store (store/base.py)."""

from __future__ import annotations

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubles.stores.objects import digest, names, put

from backupd.errors import ObjectExistsError, ObjectMissingError, StoreError

SIZES = [0, 1, 4096, 32_768, 261_120, 261_121, 3_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back(store, size):
    """What was put is got, whole and in any range."""
    data = os.urandom(size)
    put(store, "a/b/object", data)
    assert store.get("a/b/object") == data
    assert store.get("a/b/object", 1, 5) == data[1:6]
    assert store.get("a/b/object", size // 2) == data[size // 2 :]
    assert store.get("a/b/object", size, 10) == b""
    assert store.get("a/b/object", size + 7) == b""
    assert store.get("a/b/object", max(0, size - 3), 10) == data[max(0, size - 3) :]


def test_source_is_read_from_its_start(store):
    """Where the source stands when it is handed over does not matter."""
    source = io.BytesIO(b"0123456789")
    source.seek(7)
    store.put_new("object", source, 10, digest(b"0123456789"))
    assert store.get("object") == b"0123456789"


def test_same_content_again_is_fine(store):
    """An object that stands there already counts as put."""
    put(store, "a/object", b"content")
    put(store, "a/object", b"content")
    assert store.get("a/object") == b"content"
    assert names(store) == ["a/object"]


@pytest.mark.parametrize("other", [b"tnetnoc", b"longer content", b""])
def test_never_overwrites(store, other):
    """Other content under a final name is refused and what was there stays."""
    put(store, "a/object", b"content")
    with pytest.raises(ObjectExistsError):
        put(store, "a/object", other)
    assert store.get("a/object") == b"content"
    assert names(store) == ["a/object"]


def test_the_folder_of_a_node_stays_when_it_is_empty(store, root_of):
    """It has an owner and a mode that only somebody who knows the accounts can give it again."""
    put(store, "incoming/n1/a+b", b"content")
    put(store, "packs/a/b", b"content")
    store.remove("incoming/n1/a+b")
    store.remove("packs/a/b")
    assert names(store) == []
    assert [path.name for path in (root_of(store) / "incoming").iterdir()] == ["n1"]
    assert not (root_of(store) / "packs").exists()


def test_the_folder_of_uploads_does_not_go_from_under_one(store):
    """Somebody else's temporary object, the last one there, is removed while an upload begins."""
    other = f"tmp/{'0' * 32}"
    put(store, other, b"other")

    class Source(io.BytesIO):
        def seek(self, *place):
            store.remove(other)
            return super().seek(*place)

    store.put_new("object", Source(b"data"), 4, digest(b"data"))
    assert store.get("object") == b"data"


def test_concurrent_puts_of_one_name_agree(store):
    """Of several writers of one name with different content exactly one wins and the others are told."""
    contents = [bytes([65 + number]) * 50_000 for number in range(6)]
    start = threading.Barrier(6)

    def attempt(content):
        start.wait()
        try:
            put(store, "a/contested", content)
        except ObjectExistsError:
            return None
        return content

    with ThreadPoolExecutor(6) as pool:
        winners = [content for content in pool.map(attempt, contents) if content]
    assert winners == [store.get("a/contested")]
    assert names(store) == ["a/contested"]


@pytest.mark.parametrize("size", [10, 600_000])
def test_wrong_hash_publishes_nothing(store, size):
    """Bytes that are not what the caller said they are stay unpublished."""
    data = os.urandom(size)
    with pytest.raises(StoreError):
        store.put_new("a/object", io.BytesIO(data), size, digest(b"something else"))
    assert store.stat("a/object") is None
    assert names(store, "a") == []


def test_short_source_publishes_nothing(store):
    """A source that ends before its size is refused."""
    with pytest.raises(StoreError):
        store.put_new("object", io.BytesIO(b"abc"), 5, digest(b"abc"))
    assert names(store) == []


def test_longer_source_is_cut_at_size(store):
    """Only `size` bytes of the source are the object."""
    store.put_new("object", io.BytesIO(b"abcdef"), 3, digest(b"abc"))
    assert store.get("object") == b"abc"


def test_absence(store):
    """What is not there has no stat, cannot be got, lists as nothing and can be removed."""
    assert store.stat("a/none") is None
    assert names(store) == []
    assert names(store, "a/b") == []
    store.remove("a/none")
    with pytest.raises(ObjectMissingError):
        store.get("a/none")
    put(store, "a/object", b"x")
    assert store.stat("a/none") is None
    with pytest.raises(ObjectMissingError):
        store.get("a/none", 3, 4)


def test_stat_shows_size_and_time(store):
    """A stat agrees with the listing and its time is near ours."""
    put(store, "a/object", b"x" * 1234)
    info = store.stat("a/object")
    assert [*store.list("a")] == [info]
    assert (info.name, info.size) == ("a/object", 1234)
    assert info.modified.tzinfo is not None
    assert store.stat("a") is None


def test_listing_is_complete(store):
    """Every object at any depth is listed once, also many in one folder."""
    wanted = {f"deep/{a}/{b}/object" for a in range(5) for b in range(5)} | {f"wide/{n:04}" for n in range(250)}
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(lambda name: put(store, name, name.encode()), wanted)]
    assert names(store) == sorted(wanted)
    assert names(store, "deep/3") == sorted(name for name in wanted if name.startswith("deep/3/"))
    assert names(store, "wide/") == sorted(name for name in wanted if name.startswith("wide/"))


def test_remove_takes_empty_folders_along(store, root_of):
    """A folder disappears with its last object, and can be made again."""
    put(store, "a/b/one", b"1")
    put(store, "a/b/two", b"2")
    store.remove("a/b/one")
    assert names(store) == ["a/b/two"]
    store.remove("a/b/two")
    assert names(store) == []
    assert not (root_of(store) / "a").exists()
    put(store, "a/b/one", b"3")
    assert store.get("a/b/one") == b"3"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../escape", "a/../../b", "a//b", "a/./b", "a\x00b", "a/", "a\nb"])
def test_names_that_could_escape_are_refused(store, name):
    """No name leads outside the root."""
    for call in (lambda: put(store, name, b"x"), lambda: store.get(name), lambda: store.remove(name)):
        with pytest.raises(StoreError):
            call()
    with pytest.raises(StoreError):
        store.stat(name)


def test_links_are_not_followed(store, root_of, tmp_path):
    """A symbolic link planted on the store is neither listed, nor read, nor written through."""
    put(store, "a/object", b"x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root_of(store) / "a" / "link").symlink_to(outside / "secret")
    (root_of(store) / "b").symlink_to(outside)
    assert names(store) == ["a/object"]
    assert store.stat("a/link") is None
    with pytest.raises(StoreError):
        store.get("a/link")
    with pytest.raises(StoreError):
        put(store, "a/link", b"y")
    assert (outside / "secret").read_bytes() == b"secret"


def test_space_is_told(store):
    """There is room, and no more than in all."""
    space = store.space()
    assert 0 < space.free <= space.total


def test_server_snapshots_are_listed_oldest_first(store, root_of):
    """The store's own snapshots are looked at, never assumed."""
    assert [*store.snapshots()] == []
    folder = root_of(store).parent / ".zfs" / "snapshot"
    for day in ("2030-01-03", "2030-01-01", "2030-01-02"):
        (folder / f"daily_{day}").mkdir(parents=True)
    assert [shown.name for shown in store.snapshots()] == [f"daily_2030-01-0{day}" for day in (1, 2, 3)]


def test_many_threads_share_one_store(store):
    """Puts, gets, listings and removals from several threads do not disturb each other."""

    def work(worker):
        for number in range(12):
            data = os.urandom(2_000 + 40_000 * (number % 3))
            name = f"w/{worker}/{number}"
            put(store, name, data)
            assert store.get(name) == data
            assert name in names(store, f"w/{worker}")
            if number % 2:
                store.remove(name)
        return worker

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(work, range(4))] == [0, 1, 2, 3]
    assert len(names(store)) == 24


def test_closing_twice_is_fine(store):
    """Closing is idempotent."""
    put(store, "object", b"x")
    store.close()
    store.close()
