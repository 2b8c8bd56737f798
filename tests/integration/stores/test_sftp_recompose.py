"""Recomposing an object on servers that cut, fill up and lie: the old or the new content stands there, always."""

from __future__ import annotations

import hashlib
import io
import os
from contextlib import suppress

import pytest
from doubles.servers import sftp_engine
from doubles.servers.hostile_sftp import Rule, published
from doubles.servers.sftp_engine import COPY_DATA, POSIX_RENAME, READ, WRITE, SftpEngine
from fix_sftp import patient, until_the_end

from backupd.errors import StoreAuthError, StoreError, StoreFullError
from backupd.store.base import Kept

NAME = "a/object"
OLD = os.urandom(700_000)
PIECES = [b"header" * 60_000, Kept(20_000, 300_000), Kept(400_000, 10_000)]
NEW = b"header" * 60_000 + OLD[20_000:320_000] + OLD[400_000:410_000]


def recompose(store, pieces=PIECES):
    store.recompose(NAME, pieces, len(OLD))


def prepared(hostile, **changes):
    """A store on a hostile server, honest so far, that holds the old content."""
    store, server = hostile(**changes)
    honest = patient(store)
    honest.put_new(NAME, io.BytesIO(OLD), len(OLD), hashlib.sha256(OLD).hexdigest())
    honest.close()
    with suppress(StoreError):  # it is connected, unless the machine is busy
        store.stat(NAME)
    server.mischief.requests = 0
    return store, server


@pytest.fixture(params=["copying", "carrying"])
def way(request, monkeypatch):
    """The server copies the bytes that stay, or does not offer it."""
    if request.param == "carrying":
        offered = {name: version for name, version in SftpEngine.extensions.items() if name != COPY_DATA}
        monkeypatch.setattr(SftpEngine, "extensions", offered)
    return request.param


@pytest.mark.parametrize(
    "act",
    ["fail", "lose", "cut", "cut-after", "ok-instead", "wrong-type", "garbage", "deny", "refuse", "absent"],
)
def test_every_request_may_go_wrong(hostile, act, way):
    """At every k, one request goes wrong: the old or the new content stands there, and the new one if it was done."""

    def one(k):
        store, server = prepared(hostile, deadline=0.5)
        server.mischief.rules[:] = [Rule(act, None, k)]
        done = False
        try:
            recompose(store)
            done = True
        except StoreError as error:
            assert not isinstance(error, StoreAuthError)  # noqa: PT017 - either outcome is fine, a wrong family is not
        (standing,) = published(server).values()
        assert standing == NEW if done else standing in {OLD, NEW}
        before = server.mischief.requests
        server.mischief.rules.clear()
        again = patient(store)
        recompose(again)
        again.close()
        assert published(server) == {NAME: NEW}
        store.close()
        server.__exit__()
        return k > before

    until_the_end(one, 1)


@pytest.mark.parametrize("act", ["fail", "drop", "half", "flip"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_no_write_is_lost_silently(hostile, monkeypatch, act, nth):
    """Whichever write fails, is swallowed or is cut short, of given bytes or of those that stay, it is noticed."""
    monkeypatch.setattr(SftpEngine, "extensions", {POSIX_RENAME: b"1", b"limits@openssh.com": b"1"})
    store, server = prepared(hostile)
    server.mischief.rules[:] = [Rule(act, WRITE, nth)]
    with pytest.raises(StoreError):
        recompose(store)
    assert published(server) == {NAME: OLD}
    assert list((server.home / "be/tmp").iterdir()) == []


@pytest.mark.parametrize("act", ["fail", "deny"])
def test_a_refused_copy_is_carried(hostile, act):
    """A server that offers to copy and then does not costs the way through this program, and nothing else."""
    store, server = prepared(hostile)
    server.mischief.rules[:] = [Rule(act, COPY_DATA)]
    recompose(store)
    assert published(server) == {NAME: NEW}


def test_what_the_server_copies_does_not_travel(hostile):
    """Only the given bytes are written, and read back."""
    store, server = prepared(hostile)
    writes, reads = Rule("count", WRITE), Rule("count", READ)
    server.mischief.rules[:] = [writes, reads]
    recompose(store, [b"header", Kept(5, 600_000)])
    assert writes.seen == 1
    assert reads.seen == 2
    assert published(server) == {NAME: b"header" + OLD[5:600_005]}


@pytest.mark.parametrize("known", ["right", "wrong"])
def test_a_damaged_range_stays_as_it_is(hostile, monkeypatch, known):
    """The same bytes twice are what the store holds, whatever hash was expected."""
    monkeypatch.setattr(SftpEngine, "extensions", {POSIX_RENAME: b"1"})
    store, server = prepared(hostile)
    recompose(store, [Kept(0, 9, hashlib.sha256(OLD[:9]).digest() if known == "right" else b"x" * 32)])
    assert published(server) == {NAME: OLD[:9]}


def test_a_range_that_was_read_wrongly_is_not_written(hostile, monkeypatch):
    """Bytes that are others when they are read again replace nothing."""
    monkeypatch.setattr(SftpEngine, "extensions", {POSIX_RENAME: b"1"})
    store, server = prepared(hostile)
    reading, told = SftpEngine.read, []

    def misread(self, number, fields):
        reply = reading(self, number, fields)
        told.append(reply)
        return reply if len(told) > 1 else reply[:-1] + bytes([reply[-1] ^ 1])

    monkeypatch.setitem(sftp_engine.HANDLERS, READ, misread)
    with pytest.raises(StoreError, match="read twice"):
        recompose(store, [Kept(0, 9, hashlib.sha256(OLD[:9]).digest())])
    assert published(server) == {NAME: OLD}


@pytest.mark.parametrize("room", [0, 3_000, 400_000])
def test_full_disk_is_named(hostile, way, room):
    """Without room for both contents the old one stays, and the reason is told."""
    store, server = prepared(hostile)
    server.mischief.room = room
    with pytest.raises(StoreFullError):
        recompose(store)
    assert published(server) == {NAME: OLD}


def test_granted_and_not_done_is_an_error(hostile):
    """A server that says OK and leaves the old content there is not believed."""
    store, server = prepared(hostile)
    server.mischief.rules[:] = [Rule("drop", POSIX_RENAME)]
    with pytest.raises(StoreError, match="granted, and did not do"):
        recompose(store)
    assert published(server) == {NAME: OLD}
    assert list((server.home / "be/tmp").iterdir()) == []
