"""The SFTP store opens as many connections as its line is worth, through a proxy that makes the server far away."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from doubles.servers.delay_proxy import DelayProxy
from doubles.servers.hostile_sftp import HostileEngine

from backupd.clock import SystemClock
from backupd.store.sftp.store import SftpStore


def test_fewer_connections_than_wanted_are_enough(sshd, target_of):
    """A server that takes only one connection is used over that one, without a failing call."""
    with DelayProxy(sshd.port) as proxy:
        proxy.most = 1
        store = SftpStore(target_of(sshd, port=proxy.port, connections=4), SystemClock())
        put_together(store, 12)
        assert 1 <= proxy.turned_away <= 3
        assert len([*store.list("")]) == 12
        store.close()


def test_a_far_store_takes_data_over_several_connections(sshd, target_of):
    """One connection carries 2 MiB per round trip, so more are opened, at most as many as are allowed."""
    with DelayProxy(sshd.port, 0.1) as proxy:
        store = SftpStore(target_of(sshd, port=proxy.port, connections=3), SystemClock())
        datas = put_together(store, 12)
        assert proxy.accepted == 3
        with ThreadPoolExecutor(12) as pool:
            assert dict(zip(datas, pool.map(store.get, datas), strict=True)) == datas
        assert proxy.accepted == 3
        store.close()


def test_a_small_backup_of_a_far_store_opens_one_connection(sshd, target_of):
    """Opening another would take longer than it saves."""
    with DelayProxy(sshd.port, 0.05) as proxy:
        store = SftpStore(target_of(sshd, port=proxy.port, connections=3), SystemClock())
        put_together(store, 4)
        assert proxy.accepted == 1
        store.close()


def test_one_large_object_at_a_time_is_sent_over_a_connection(hostile, monkeypatch):
    """Each has the whole window for itself, so that it is verified while the next one is sent."""
    store, _ = hostile()
    together, written, keep = threading.Barrier(3), [], HostileEngine.store

    class Source(io.BytesIO):
        def seek(self, *place):
            together.wait(20)
            return super().seek(*place)

    def note(self, file, data, offset):
        written.append(file)
        keep(self, file, data, offset)

    def call(number):
        data = os.urandom(5 << 20)
        store.put_new(f"a/{number}", Source(data), len(data), hashlib.sha256(data).hexdigest())

    monkeypatch.setattr(HostileEngine, "store", note)
    with ThreadPoolExecutor(3) as pool:
        [*pool.map(call, range(3))]
    assert len([*groupby(written)]) == 3


def put_together(store, number):
    """Put so many objects of 3 MiB at once; return their contents by name."""
    datas = {f"a/{place}": os.urandom(3 << 20) for place in range(number)}
    hashed = [(name, data, hashlib.sha256(data).hexdigest()) for name, data in datas.items()]
    with ThreadPoolExecutor(number) as pool:
        [*pool.map(lambda one: store.put_new(one[0], io.BytesIO(one[1]), len(one[1]), one[2]), hashed)]
    return datas
