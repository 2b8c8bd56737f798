"""A name that an object got by a rename is on the server's disk when the call returns, where the server can do that."""

from __future__ import annotations

import hashlib
import io
import os

import pytest
from doubles.stores.objects import put

from backupd.store.sftp import wire
from backupd.store.sftp.channel import Channel
from backupd.store.sftp.store import SftpStore
from backupd.store.sftp.wire import Ask, Handle, Mode, Reply, SftpRequest, Status

SIZES = [5_000, 2_000_000]
FSYNC = b"fsync@openssh.com"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[SftpRequest, Reply]]:
    """Every request that was asked for, with its answer, in order; those sent without waiting left out."""
    seen: list[tuple[SftpRequest, Reply]] = []
    ask = Channel.ask

    def noting(self: Channel, *requests: SftpRequest) -> list[Reply]:
        replies = ask(self, *requests)
        seen.extend(zip(requests, replies, strict=True))
        return replies

    monkeypatch.setattr(Channel, "ask", noting)
    return seen


def renames(request: SftpRequest) -> bool:
    return request.ask == Ask.RENAME or wire.EXCHANGE.encode() in request.payload


def synced_behind(asked: list[tuple[SftpRequest, Reply]], folder: str) -> bool:
    """Whether the last rename's next request syncs the folder that the object is in now, and was granted."""
    at = [at for at, (request, _) in enumerate(asked) if renames(request)][-1]
    opening = wire.open_file(folder, Mode.READ)
    handles = [reply for request, reply in asked[:at] if request == opening and isinstance(reply, Handle)]
    syncing, answer = asked[at + 1]
    return syncing == wire.fsync(handles[-1]) and answer == Status(0)


@pytest.mark.parametrize("size", SIZES)
def test_a_new_objects_name_is_synced(sftp_store: SftpStore, asked: list, size: int) -> None:
    """By the one request that SFTP has for it: OpenSSH opens a folder like a file."""
    put(sftp_store, "a/b/object", os.urandom(size))
    assert synced_behind(asked, f"{sftp_store.target.root}/a/b")


@pytest.mark.parametrize("size", SIZES)
def test_a_replaced_objects_name_is_synced(sftp_store: SftpStore, asked: list, size: int) -> None:
    """A keyring without what was purged must not be the old one again after a power failure."""
    put(sftp_store, "a/b/object", b"old")
    data = os.urandom(size)
    sftp_store.replace("a/b/object", io.BytesIO(data), size, hashlib.sha256(data).hexdigest())
    assert synced_behind(asked, f"{sftp_store.target.root}/a/b")


@pytest.mark.parametrize("size", SIZES)
def test_a_server_that_opens_no_folder_gets_its_objects(
    sftp_store: SftpStore, monkeypatch: pytest.MonkeyPatch, asked: list, size: int
) -> None:
    """Names come to its disk in its own time, and the manual says so."""
    monkeypatch.setattr("backupd.store.sftp.upload.open_folder", lambda path: wire.open_file(f"{path}/none", Mode.READ))
    put(sftp_store, "a/b/object", os.urandom(size))
    assert sftp_store.stat("a/b/object").size == size
    at = next(at for at, (request, _) in enumerate(asked) if renames(request))
    assert not any(FSYNC in request.payload for request, _ in asked[at:])
