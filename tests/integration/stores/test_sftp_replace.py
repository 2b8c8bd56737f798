"""Replacing an object against servers that cut, fill up and lie: the old or the new content stands there, always."""

from __future__ import annotations

import hashlib
import io
import os
import time
from contextlib import suppress

import pytest
from doubles.servers.hostile_sftp import Rule, published
from doubles.servers.sftp_engine import OPENDIR, POSIX_RENAME, READDIR, WRITE
from doubles.servers.sshd import Sshd
from fix_sftp import patient, until_the_end

from backupd.clock import SystemClock
from backupd.errors import ObjectMissingError, StoreAuthError, StoreError, StoreFullError, StoreGoneError
from backupd.store.base import ServerSnapshot
from backupd.store.sftp.store import SftpStore

SMALL, LARGE = 5_000, 700_000
NAME = "a/object"


def digest(data):
    return hashlib.sha256(data).hexdigest()


def put(store, name, data):
    store.put_new(name, io.BytesIO(data), len(data), digest(data))


def replace(store, data, name=NAME):
    store.replace(name, io.BytesIO(data), len(data), digest(data))


def prepared(hostile, old, **changes):
    """A store on a hostile server, honest so far, that holds `old`."""
    store, server = hostile(**changes)
    if "patience" in changes:
        put(store, NAME, old)
    else:
        honest = patient(store)
        put(honest, NAME, old)
        honest.close()
        with suppress(StoreError):  # it is connected, unless the machine is busy
            store.stat(NAME)
    server.mischief.requests = 0
    return store, server


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    "act",
    ["fail", "drop", "lose", "cut", "cut-after", "ok-instead", "wrong-type", "garbage", "deny", "refuse", "absent"],
)
def test_every_request_of_a_replacement_may_go_wrong(hostile, act, size):
    """At every k, one request goes wrong: the old or the new content stands there, and the new one if it was done."""
    old, new = os.urandom(size), os.urandom(size)

    def one(k):
        store, server = prepared(hostile, old, deadline=0.5)
        server.mischief.rules[:] = [Rule(act, None, k)]
        started, done = time.monotonic(), False
        try:
            replace(store, new)
            done = True
        except StoreError as error:
            assert not isinstance(error, StoreAuthError)  # noqa: PT017 - either outcome is fine, a wrong family is not
        assert time.monotonic() - started < 5
        (standing,) = published(server).values()
        assert standing == new if done else standing in {old, new}
        before = server.mischief.requests
        server.mischief.rules.clear()
        again = patient(store)
        replace(again, new)
        again.close()
        assert published(server) == {NAME: new}
        store.close()
        server.__exit__()
        return k > before

    until_the_end(one, 1)


@pytest.mark.parametrize("act", ["fail", "drop", "half", "flip", "refuse"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_no_write_is_lost_silently(hostile, act, nth):
    """Whichever write fails, is swallowed or is cut short: it is noticed and the old content stands."""
    store, server = prepared(hostile, b"old")
    server.mischief.rules[:] = [Rule(act, WRITE, nth)]
    with pytest.raises(StoreError):
        replace(store, os.urandom(LARGE))
    assert published(server) == {NAME: b"old"}


@pytest.mark.parametrize("act", ["lose", "cut-after", "refuse"])
def test_lost_answer_is_success_after_reading(hostile, act):
    """The answer is lost or wrong and the content there is the new one: that is success, and nothing is sent twice."""
    store, server = prepared(hostile, b"old", patience=10.0, deadline=0.6)
    writes = Rule("count", WRITE)
    server.mischief.rules[:] = [Rule(act, POSIX_RENAME), writes]
    new = os.urandom(SMALL)
    replace(store, new)
    assert published(server) == {NAME: new}
    assert writes.seen == 1


def test_answer_lost_before_the_exchange_is_no_success(hostile):
    """A connection that ended before anything was exchanged is tried again from the start."""
    store, server = prepared(hostile, b"old", patience=10.0)
    writes = Rule("count", WRITE)
    server.mischief.rules[:] = [Rule("cut", POSIX_RENAME), writes]
    replace(store, b"new")
    assert published(server) == {NAME: b"new"}
    assert writes.seen == 2


def test_granted_and_not_done_is_an_error(hostile):
    """A server that says OK and leaves the old content there is not believed."""
    store, server = prepared(hostile, b"old")
    server.mischief.rules[:] = [Rule("drop", POSIX_RENAME)]
    with pytest.raises(StoreError, match="granted, and did not do"):
        replace(store, b"new")
    assert published(server) == {NAME: b"old"}
    assert list((server.home / "be/tmp").iterdir()) == []


@pytest.mark.parametrize("act", ["fail", "deny"])
def test_refusal_is_an_error(hostile, act):
    """A refused exchange leaves the old content and no temporary object."""
    store, server = prepared(hostile, b"old")
    server.mischief.rules[:] = [Rule(act, POSIX_RENAME)]
    with pytest.raises(StoreError) as caught:
        replace(store, b"new")
    assert caught.value.hint
    assert published(server) == {NAME: b"old"}
    assert list((server.home / "be/tmp").iterdir()) == []


def test_server_without_the_exchange(target_of):
    """A server that offers no posix-rename is named as such, before anything is sent."""
    with Sshd(flags="-P posix-rename") as account:
        store = SftpStore(target_of(account), SystemClock())
        put(store, NAME, b"old")
        with pytest.raises(StoreError, match="does not let this account replace") as caught:
            replace(store, b"new")
        assert "posix-rename@openssh.com" in caught.value.hint
        replace(store, b"old")
        with pytest.raises(ObjectMissingError):
            replace(store, b"new", "a/none")
        assert [info.name for info in store.list("")] == [NAME]
        assert store.get(NAME) == b"old"
        store.close()


@pytest.mark.parametrize("room", [0, 3_000, 400_000])
def test_full_disk_is_named(hostile, room):
    """Without room for both contents the old one stays, and the reason is told."""
    store, server = prepared(hostile, b"old")
    server.mischief.room = room
    with pytest.raises(StoreFullError):
        replace(store, os.urandom(LARGE))
    assert published(server) == {NAME: b"old"}


def test_object_removed_meanwhile(hostile):
    """What somebody removes while its replacement is on its way is not made again."""
    store, server = prepared(hostile, b"old")

    class Removing(io.BytesIO):
        def read(self, *arguments):
            (server.home / "be" / NAME).unlink(missing_ok=True)
            return super().read(*arguments)

    with pytest.raises(ObjectMissingError):
        store.replace(NAME, Removing(b"new"), 3, digest(b"new"))
    assert published(server) == {}
    assert list((server.home / "be/tmp").iterdir()) == []


# Looking into the server's snapshots ----------------------------------------------------------------------------------


@pytest.fixture
def viewed(hostile):
    """A view of a snapshot with two objects, on a server that is honest until told."""
    store, server = hostile()
    for name in ("a/one", "b/c/two"):
        path = server.home / ".zfs/snapshot/daily_2030-01-01/be" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(name.encode())
    view = store.view(ServerSnapshot("daily_2030-01-01"))
    assert {info.name for info in view.list("")} == {"a/one", "b/c/two"}
    return view, server


@pytest.mark.parametrize("act", ["absent", "deny", "fail", "garbage", "cut"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_folder_that_cannot_be_opened_is_never_empty(viewed, act, nth):
    """Whichever folder cannot be opened, also by the word for "not there": the listing is an error."""
    view, server = viewed
    opened = Rule(act, OPENDIR, nth)
    server.mischief.rules[:] = [opened]
    with pytest.raises(StoreError) as caught:
        [*view.list("")]
    assert not isinstance(caught.value, ObjectMissingError)
    assert opened.seen >= nth


@pytest.mark.parametrize("kind", [None, OPENDIR, READDIR])
@pytest.mark.parametrize("act", ["absent", "deny", "fail", "lose", "wrong-type", "ok-instead"])
def test_no_lie_shortens_a_view(hostile, act, kind):
    """At every k one answer is wrong: the view is whole or an error."""
    for k in range(1, 30):
        store, server = hostile(deadline=0.8)
        path = server.home / ".zfs/snapshot/daily_2030-01-01/be/a/one"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"one")
        store.stat("none")
        rule = Rule(act, kind, k)
        server.mischief.rules[:] = [rule]
        try:
            found = [info.name for info in store.view(ServerSnapshot("daily_2030-01-01")).list("")]
        except StoreError:
            found = ["a/one"]
        assert found == ["a/one"]
        store.close()
        server.__exit__()
        if rule.seen < k:
            break
    else:
        pytest.fail("the sweep never reached the end of the listing")


def test_view_over_a_broken_connection(viewed):
    """A connection that ends while a snapshot is looked at may be tried again."""
    view, server = viewed
    server.mischief.rules[:] = [Rule("cut", READDIR)]
    with pytest.raises(StoreGoneError):
        [*view.list("")]
