"""The SFTP store meets servers that cut, stall, fill up and lie: never a silent loss, never a hang."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from doubles.servers.delay_proxy import DelayProxy
from doubles.servers.hostile_sftp import Rule, published
from doubles.servers.sftp_engine import FSTAT, LSTAT, OPENDIR, READ, READDIR, RENAME, WRITE
from doubles.servers.sshd import make_key
from fix_sftp import patient, until_the_end

from backupd.clock import SystemClock
from backupd.errors import (
    ObjectExistsError,
    ObjectMissingError,
    StoreAuthError,
    StoreError,
    StoreFullError,
    StoreGoneError,
)
from backupd.store.sftp import download, open_sftp
from backupd.store.sftp.store import SftpStore

SMALL, LARGE = 5_000, 2_000_000


def put(store, name, data):
    store.put_new(name, io.BytesIO(data), len(data), hashlib.sha256(data).hexdigest())


def again(*calls):
    for _ in range(100):
        for call in calls:
            call()


@pytest.mark.parametrize("act", ["fail", "drop", "half", "flip", "refuse"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_no_write_is_lost_silently(hostile, act, nth):
    """Whichever write of a large object fails, is swallowed or is cut short: it is noticed and nothing is published."""
    store, server = hostile(Rule(act, WRITE, nth))
    with pytest.raises(StoreError) as caught:
        put(store, "a/object", os.urandom(LARGE))
    assert not isinstance(caught.value, StoreGoneError)
    assert published(server) == {}
    server.mischief.rules.clear()
    data = os.urandom(LARGE)
    put(store, "a/object", data)
    assert published(server) == {"a/object": data}


@pytest.mark.parametrize("act", ["fail", "drop", "half", "flip", "refuse"])
def test_no_small_write_is_lost_silently(hostile, act):
    """Small objects are read back, so the same holds for them."""
    store, server = hostile(Rule(act, WRITE))
    with pytest.raises(StoreError):
        put(store, "a/object", os.urandom(SMALL))
    assert published(server) == {}


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize(
    "act", ["fail", "drop", "lose", "cut", "cut-after", "ok-instead", "wrong-type", "garbage", "deny"]
)
def test_every_request_of_a_put_may_go_wrong(hostile, act, size):
    """At every k, one request goes wrong: the put fails or succeeds, in time, and what is published is whole."""
    data = os.urandom(size)

    def one(k):
        store, server = hostile(Rule(act, None, k), deadline=0.7)
        started = time.monotonic()
        try:
            put(store, "a/object", data)
        except StoreError as error:
            assert not isinstance(error, StoreAuthError)  # noqa: PT017 - either outcome is fine, a wrong family is not
        assert time.monotonic() - started < 5
        assert set(published(server).values()) <= {data}
        before = server.mischief.requests
        server.mischief.rules.clear()
        retry = patient(store)
        put(retry, "a/object", data)
        retry.close()
        assert published(server) == {"a/object": data}
        store.close()
        server.__exit__()
        return k > before

    until_the_end(one, 2)


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("act", ["lose", "cut", "cut-after", "stall"])
def test_retrying_gets_through_any_single_fault(hostile, act, size):
    """With patience, one broken connection anywhere in a put is only a delay."""
    data = os.urandom(size)
    for k in (1, 2, 3, 5, 8, 11):
        store, server = hostile(Rule(act, None, k), deadline=0.6, patience=20.0)
        put(store, "a/object", data)
        assert published(server) == {"a/object": data}
        assert store.get("a/object") == data
        store.close()
        server.__exit__()


def test_lost_answer_to_a_rename_is_success_after_looking(hostile):
    """The object was published though its answer got lost: trying again finds it, and sends nothing twice."""
    store, server = hostile(Rule("cut-after", RENAME), patience=10.0)
    data = os.urandom(LARGE)
    put(store, "a/object", data)
    assert published(server) == {"a/object": data}
    counting = Rule("count", WRITE)
    server.mischief.rules[:] = [counting]
    put(store, "a/object", data)
    assert counting.seen == 0


def test_lost_answer_to_a_rename_of_other_content(hostile):
    """Somebody else's different object under the name is never taken for ours."""
    store, server = hostile(patience=10.0)
    put(store, "a/object", b"theirs")
    with pytest.raises(ObjectExistsError):
        put(store, "a/object", b"ours!!")
    assert published(server) == {"a/object": b"theirs"}


def test_removal_whose_answer_got_lost(hostile):
    """A removal tried again finds the object gone, which is what was wanted."""
    store, server = hostile(Rule("cut-after", 13), patience=10.0)
    put(store, "a/object", b"x")
    store.remove("a/object")
    assert published(server) == {}


def test_removal_that_is_refused(hostile):
    """A refused removal is an error as long as the object is there."""
    store, server = hostile(Rule("fail", 13))
    put(store, "a/object", b"x")
    with pytest.raises(StoreError):
        store.remove("a/object")
    assert published(server) == {"a/object": b"x"}


@pytest.mark.parametrize("room", [0, 3_000, 700_000])
def test_full_disk_is_named(hostile, room):
    """SFTP only says Failure; we say that there is no room, before or after running into it."""
    store, server = hostile()
    put(store, "a/first", b"x")
    server.mischief.room = room
    with pytest.raises(StoreFullError):
        put(store, "a/object", os.urandom(LARGE))
    assert set(published(server)) == {"a/first"}


def test_disk_that_fills_up_meanwhile_is_named(hostile):
    """Room that was there at the start and is gone at the end is noticed too."""
    store, server = hostile()
    server.mischief.room = 30_000_000
    put(store, "a/first", os.urandom(LARGE))
    server.mischief.room = 600_000
    with pytest.raises(StoreFullError):
        put(store, "a/object", os.urandom(LARGE))
    assert set(published(server)) == {"a/first"}


def test_quota_counts_as_room(hostile):
    """The account's quota is looked at beside the file system."""
    store, server = hostile()
    server.quota = "Disk quotas for user x (uid 1):\n Filesystem usage quota limit grace\n /data1 900M 901M 1000M\n"
    assert store.space().free == 1024**2
    with pytest.raises(StoreFullError):
        put(store, "a/object", os.urandom(LARGE))


@pytest.mark.parametrize("nth", [1, 2, 3, 5])
def test_stall_ends_at_the_deadline(hostile, nth):
    """A server that goes silent costs one deadline, not for ever."""
    store, _ = hostile(Rule("stall", None, nth), deadline=1.0)
    started = time.monotonic()
    with pytest.raises(StoreGoneError):
        put(store, "a/object", os.urandom(LARGE))
    assert time.monotonic() - started < 4


def test_stalled_network_ends_at_the_deadline(sshd, target_of):
    """Also when bytes stop flowing while the sender's buffers are full, in either direction."""
    with DelayProxy(sshd.port) as proxy:
        store = SftpStore(target_of(sshd, port=proxy.port, deadline=1.5), SystemClock())
        put(store, "a/big", os.urandom(8_000_000))
        for call in (lambda: put(store, "a/other", os.urandom(8_000_000)), lambda: store.get("a/big")):
            assert store.stat("a/big").size == 8_000_000
            threading.Timer(0.02, proxy.stall).start()
            started = time.monotonic()
            with pytest.raises(StoreGoneError):
                again(call, lambda: store.remove("a/other"))
            assert time.monotonic() - started < 8
            proxy.go_on()
        store.close()


def test_one_broken_connection_fails_all_its_threads_at_once(hostile):
    """Several threads on one connection all learn that it broke, and all get through on the next."""
    store, server = hostile(connections=1, patience=15.0)
    put(store, "a/first", b"x")
    server.mischief.rules[:] = [Rule("cut", WRITE, 10)]
    datas = {f"a/{number}": os.urandom(300_000) for number in range(12)}
    with ThreadPoolExecutor(6) as pool:
        [*pool.map(lambda item: put(store, *item), datas.items())]
    assert published(server) == datas | {"a/first": b"x"}


def test_cut_connections_are_replaced(sshd, target_of):
    """After a cut the next call connects again; what was published is not sent again."""
    with DelayProxy(sshd.port) as proxy:
        store = open_sftp(target_of(sshd, port=proxy.port, patience=15.0, connections=1), SystemClock())
        data = os.urandom(6_000_000)
        proxy.cut_after = 3_000_000
        put(store, "a/object", data)
        assert proxy.accepted == 2
        carried = proxy.carried
        proxy.cut()
        put(store, "a/object", data)
        assert proxy.accepted == 3
        assert store.get("a/object") == data
        assert proxy.carried - carried < 13_500_000
        store.close()


@pytest.mark.parametrize(
    "act", ["wrong-id", "wrong-type", "ok-instead", "huge", "cut-short", "garbage", "unknown-type", "more"]
)
def test_lies_in_a_read(hostile, act):
    """An answer that is not one to the question ends the connection with an error, at once."""
    store, server = hostile()
    put(store, "a/object", b"x" * SMALL)
    server.mischief.rules[:] = [Rule(act, READ)]
    started = time.monotonic()
    with pytest.raises(StoreError):
        store.get("a/object")
    assert time.monotonic() - started < 5
    server.mischief.rules.clear()
    assert store.get("a/object") == b"x" * SMALL


@pytest.mark.parametrize("act", ["wrong-type", "ok-instead", "long-name", "slash-name", "garbage", "unknown-type"])
def test_lies_in_a_listing(hostile, act):
    """Neither is a folder's entry believed that no file can have."""
    store, server = hostile()
    put(store, "a/object", b"x")
    server.mischief.rules[:] = [Rule(act, READDIR)]
    with pytest.raises(StoreError):
        [*store.list("")]


def test_listing_without_end(hostile):
    """A server that always has more to tell, and tells nothing, is stopped."""
    store, server = hostile()
    put(store, "a/object", b"x")
    server.mischief.rules[:] = [Rule("no-names", READDIR, 1, every=1)]
    with pytest.raises(StoreError):
        [*store.list("")]


def test_a_folder_whose_names_never_end_is_named(hostile, monkeypatch):
    """Each answer is a right one, and there is always another: it ends, with what is in memory bounded."""
    monkeypatch.setattr(download, "_WIDEST", 5000)
    store, server = hostile()
    put(store, "a/object", b"x")
    server.mischief.rules[:] = [Rule("endless", READDIR, 1, every=1)]
    with pytest.raises(StoreError, match="more than 5000 names below") as caught:
        [*store.list("a")]
    assert "no end of them" in caught.value.message


def test_long_names_count_for_more(hostile, monkeypatch):
    """What is in memory is bounded, and not the number of names alone: each may be as long as a path."""
    store, server = hostile()
    put(store, "a/object", b"x")
    for name, most, fits in (("_WIDEST", 500, 2000), ("_MOST", 500, 2000)):
        for value, refused in ((most, True), (fits, False)):
            monkeypatch.setattr(download, name, value)
            server.mischief.rules[:] = [Rule("wordy", READDIR)]
            if not refused:
                assert len([*store.list("a")]) >= 50
                continue
            with pytest.raises(StoreError, match="no end of them"):
                [*store.list("a")]


def test_a_tree_that_never_ends_is_named(hostile, monkeypatch):
    """No folder of it is large, and there is always another one."""
    monkeypatch.setattr(download, "_MOST", 40)
    store, _ = hostile()
    for number in range(30):
        put(store, f"a/{number}/object", b"x")
    with pytest.raises(StoreError, match="more than 40 names below 'a'"):
        [*store.list("a")]
    monkeypatch.setattr(download, "_MOST", 60)
    assert len([*store.list("a")]) == 30


def test_unreadable_folder_is_not_an_empty_one(hostile):
    """A refused listing is an error, never an absence."""
    store, server = hostile()
    put(store, "a/object", b"x")
    server.mischief.rules[:] = [Rule("deny", OPENDIR)]
    with pytest.raises(StoreError):
        [*store.list("")]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_lies_about_sizes(hostile, size):
    """A size that is not the object's stops a put; a get ends where the bytes do."""
    store, server = hostile(Rule("grow", FSTAT, 1, every=1))
    with pytest.raises(StoreError):
        put(store, "a/object", os.urandom(size))
    server.mischief.rules.clear()
    data = os.urandom(size)
    put(store, "a/object", data)
    server.mischief.rules[:] = [Rule("grow", LSTAT, 1, every=1)]
    assert store.get("a/object") == data


@pytest.mark.parametrize("act", ["garbage", "wrong-type"])
def test_wrong_greeting(hostile, act):
    """A login banner in the SFTP stream, or another protocol version, is named and not tried for ever."""
    store, _ = hostile(Rule(act))
    with pytest.raises(StoreError, match="SFTP") as caught:
        store.stat("a/object")
    assert not isinstance(caught.value, StoreGoneError)


def test_silent_greeting(hostile):
    """A server that does not greet costs one deadline."""
    store, _ = hostile(Rule("stall"), deadline=1.0)
    with pytest.raises(StoreGoneError):
        store.stat("a/object")


def test_wrong_host_key(sshd, target_of, tmp_path):
    """A key that is not pinned is refused, with both fingerprints, and not tried again."""
    other = make_key(tmp_path / "other")
    store = open_sftp(target_of(sshd, host_keys=(other,), patience=30.0), SystemClock())
    started = time.monotonic()
    with pytest.raises(StoreAuthError) as caught:
        store.stat("a/object")
    assert time.monotonic() - started < 5
    assert caught.value.message.count("SHA256:") == 2


def test_no_pinned_key_accepts_none(sshd, target_of):
    """Without a pinned key there is no connection at all."""
    store = SftpStore(target_of(sshd, host_keys=()), SystemClock())
    with pytest.raises(StoreAuthError):
        store.stat("a/object")


def test_wrong_user_key_is_offered_once(sshd, target_of, tmp_path):
    """However many threads and calls: a refused key is offered once, so that no node locks out its neighbours."""
    make_key(tmp_path / "key")
    with DelayProxy(sshd.port) as proxy:
        target = target_of(sshd, port=proxy.port, key_file=tmp_path / "key", patience=30.0, connections=4)
        store = open_sftp(target, SystemClock())

        def call(_):
            with pytest.raises(StoreAuthError, match="refused our key"):
                store.stat("a/object")

        with ThreadPoolExecutor(6) as pool:
            [*pool.map(call, range(12))]
        assert proxy.accepted == 1


@pytest.mark.parametrize("content", [None, b"", b"not a key"])
def test_unusable_key_file(sshd, target_of, tmp_path, content):
    """A key file that is missing or no key is named."""
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    store = SftpStore(target_of(sshd, key_file=tmp_path / "key"), SystemClock())
    with pytest.raises(StoreAuthError, match="key file"):
        store.stat("a/object")


def test_nobody_listens(sshd, target_of):
    """A refused connection may be tried again later."""
    with DelayProxy(sshd.port) as proxy:
        port = proxy.port
    store = SftpStore(target_of(sshd, port=port), SystemClock())
    with pytest.raises(StoreGoneError, match="cannot connect"):
        store.stat("a/object")


def test_login_that_hangs(sshd, target_of):
    """A server that accepts and says nothing costs one deadline."""
    with DelayProxy(sshd.port) as proxy:
        proxy.stall()
        store = SftpStore(target_of(sshd, port=proxy.port, deadline=1.0), SystemClock())
        started = time.monotonic()
        with pytest.raises(StoreGoneError):
            store.stat("a/object")
        assert time.monotonic() - started < 5
        proxy.go_on()


def test_missing_stays_missing(hostile):
    """Absence is told as absence."""
    store, _ = hostile()
    with pytest.raises(ObjectMissingError):
        store.get("a/none")


def test_paramiko_says_nothing(sshd, target_of, capfd, caplog):
    """Neither a cut nor a refusal makes paramiko write to our output or our log."""
    with DelayProxy(sshd.port) as proxy:
        store = SftpStore(target_of(sshd, port=proxy.port), SystemClock())
        store.stat("a/object")
        proxy.cut()
        with contextlib.suppress(StoreGoneError):  # or it was noticed in time, and replaced
            store.stat("a/object")
        store.close()
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_short_reads_are_filled_up(hostile, nth):
    """A server may give less than was asked for; what comes back is whole all the same."""
    store, server = hostile()
    data = os.urandom(LARGE)
    put(store, "a/object", data)
    server.mischief.rules[:] = [Rule("short", READ, nth), Rule("short", READ, nth + 9)]
    assert store.get("a/object") == data


@pytest.mark.parametrize("nth", [1, 3])
def test_refused_read_is_an_error(hostile, nth):
    """A read that fails is never taken for the end of the object."""
    store, server = hostile()
    put(store, "a/object", os.urandom(LARGE))
    server.mischief.rules[:] = [Rule("fail", READ, nth)]
    with pytest.raises(StoreError):
        store.get("a/object")


def test_threads_wait_for_one_hanging_login_together(sshd, target_of):
    """Many threads before a server that hangs cost one deadline, not one each."""
    with DelayProxy(sshd.port) as proxy:
        proxy.stall()
        store = SftpStore(target_of(sshd, port=proxy.port, deadline=1.0, connections=4), SystemClock())

        def call(_):
            with pytest.raises(StoreGoneError):
                store.stat("a/object")

        started = time.monotonic()
        with ThreadPoolExecutor(6) as pool:
            [*pool.map(call, range(6))]
        assert time.monotonic() - started < 4
        proxy.go_on()
        store.close()
