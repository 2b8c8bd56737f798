"""The store's own clock is seen, whatever the adapter and whatever the account may do."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest
from doubles.stores.hooked_store import HookedStore

from backupd.clock import SystemClock
from backupd.errors import StoreError, StoreGoneError
from backupd.model.ids import ObjectName
from backupd.store.base import put_document
from backupd.store.server import server_time
from backupd.store.sftp.store import SftpStore


def test_server_time_is_now(store):
    """It lies between the call and its return, to the second, and nothing is left behind."""
    before = datetime.now(UTC) - timedelta(seconds=1)
    seen = server_time(store, os.urandom)
    assert before <= seen <= datetime.now(UTC) + timedelta(seconds=1)
    assert [*store.list("")] == []


@pytest.mark.parametrize("hours", [-30, 30])
def test_another_clock_is_seen(directory_store, monkeypatch, hours):
    """The time is the store's and not ours."""
    real = os.link

    def link(source, *arguments, src_dir_fd, **keywords):
        shifted = (datetime.now(UTC) + timedelta(hours=hours)).timestamp()
        os.utime(source, (shifted, shifted), dir_fd=src_dir_fd)
        real(source, *arguments, src_dir_fd=src_dir_fd, **keywords)

    monkeypatch.setattr(os, "link", link)
    skew = server_time(directory_store, os.urandom) - datetime.now(UTC)
    assert abs(skew - timedelta(hours=hours)) < timedelta(seconds=5)


def test_append_only_account(roles):
    """Where nothing may be removed, the time is seen all the same, and only tmp/ shows that it was asked."""
    store = SftpStore(roles.writer, SystemClock())
    assert abs(server_time(store, os.urandom) - datetime.now(UTC)) < timedelta(seconds=5)
    (left,) = store.list("")
    assert left.name.startswith("tmp/")
    store.close()


def test_object_that_goes_at_once(directory_store):
    """Without the object there is no time, and none is made up."""
    directory_store.stat = lambda _name: None
    with pytest.raises(StoreError, match="just put there"):
        server_time(directory_store, os.urandom)


def test_what_was_moved_to_its_name_is_not_removed(directory_store):
    """Who may rename sees the name in a listing, and could have a keeper remove what he may not."""
    put_document(directory_store, ObjectName("packs/b/object"), b"needed")
    root, moved = directory_store.root, []

    def move(method, name):
        if method == "stat":
            (root / name).rename(root / "elsewhere")
            (root / "packs/b/object").rename(root / name)
            moved.append(name)

    server_time(HookedStore(directory_store, before=move), os.urandom)
    assert directory_store.get(moved[0]) == b"needed"


def test_broken_connection_is_told(directory_store):
    """A store that cannot be asked is an error."""

    def fail(_name):
        raise StoreGoneError("the connection broke on purpose")

    directory_store.stat = fail
    with pytest.raises(StoreGoneError):
        server_time(directory_store, os.urandom)
