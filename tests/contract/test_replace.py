"""Each store keeps the promises of `replace`, the one call that changes an object."""

from __future__ import annotations

import io
import os
import threading

import pytest
from doubles.stores.objects import digest, names, put, replace

from backupd.errors import ObjectMissingError, StoreError

SIZES = [0, 1, 5_000, 261_121, 2_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_new_content_stands_in_the_old_ones_place(store, size):
    """One object has other content, all others have theirs, and nothing else lies about."""
    put(store, "a/object", os.urandom(7_000))
    put(store, "a/other", b"other")
    data = os.urandom(size)
    replace(store, "a/object", data)
    assert store.get("a/object") == data
    assert store.stat("a/object").size == size
    assert store.get("a/other") == b"other"
    assert names(store) == ["a/object", "a/other"]
    store.remove("a/object")
    assert names(store) == ["a/other"]


def test_replacing_again_and_again(store):
    """An object may be replaced any number of times, also by content it had before."""
    put(store, "object", b"one")
    for content in (b"two", b"three", b"one", b"two"):
        replace(store, "object", content)
        assert store.get("object") == content


@pytest.mark.parametrize("name", ["object", "a/b/object", "a/none"])
def test_nothing_is_made_new(store, name):
    """What is not there cannot be replaced, and is not there afterwards; nor are folders on the way to it."""
    put(store, "a/object", b"x")
    with pytest.raises(ObjectMissingError):
        replace(store, name, b"content")
    assert names(store) == ["a/object"]
    assert store.stat(name) is None


def test_object_removed_meanwhile(store, root_of):
    """What somebody removes while its replacement is on its way is not made again."""
    put(store, "a/object", b"old")

    class Removing(io.BytesIO):
        def read(self, *arguments):
            (root_of(store) / "a/object").unlink(missing_ok=True)
            return super().read(*arguments)

    with pytest.raises(ObjectMissingError):
        store.replace("a/object", Removing(b"new"), 3, digest(b"new"))
    assert names(store) == []


def test_same_content_is_replaced_already(store, root_of):
    """Content that stands there is left as it is."""
    put(store, "a/object", b"content")
    before = (root_of(store) / "a/object").stat()
    replace(store, "a/object", b"content")
    after = (root_of(store) / "a/object").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("size", [10, 600_000])
def test_wrong_hash_replaces_nothing(store, size):
    """Bytes that are not what the caller said they are leave the old ones standing."""
    put(store, "a/object", b"content")
    with pytest.raises(StoreError):
        store.replace("a/object", io.BytesIO(os.urandom(size)), size, digest(b"something else"))
    assert store.get("a/object") == b"content"
    assert names(store) == ["a/object"]


def test_short_source_replaces_nothing(store):
    """A source that ends before its size is refused."""
    put(store, "object", b"content")
    with pytest.raises(StoreError):
        store.replace("object", io.BytesIO(b"abc"), 5, digest(b"abc"))
    assert store.get("object") == b"content"
    assert names(store) == ["object"]


def test_source_is_read_from_its_start(store):
    """Where the source stands does not matter, and what follows `size` bytes is not the object."""
    put(store, "object", b"content")
    source = io.BytesIO(b"0123456789")
    source.seek(7)
    store.replace("object", source, 5, digest(b"01234"))
    assert store.get("object") == b"01234"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../escape", "a/../../b", "a//b", "a\x00b"])
def test_names_that_could_escape_are_refused(store, name):
    """No name leads outside the root."""
    with pytest.raises(StoreError):
        replace(store, name, b"x")


def test_only_plain_objects_are_replaced(store, root_of, tmp_path):
    """Neither a folder nor a symbolic link is an object, and nothing is written through the link."""
    put(store, "a/object", b"x")
    (tmp_path / "secret").write_bytes(b"secret")
    (root_of(store) / "a/link").symlink_to(tmp_path / "secret")
    for name in ("a", "a/link"):
        with pytest.raises(StoreError):
            replace(store, name, b"other!")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (root_of(store) / "a/link").is_symlink()
    assert names(store) == ["a/object"]


def test_readers_see_the_old_or_the_new(store):
    """Whoever reads meanwhile gets one or the other, whole."""
    contents = [bytes([65 + number]) * (400_000 - 20_000 * number) for number in range(8)]
    put(store, "object", contents[0])
    over, seen = threading.Event(), []

    def read():
        while not over.is_set():
            seen.append(store.get("object"))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for content in contents[1:]:
            replace(store, "object", content)
    finally:
        over.set()
        reader.join()
    assert set(seen) <= {*contents}
    assert store.get("object") == contents[-1]
