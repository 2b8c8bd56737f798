"""Stores of every kind, empty, behind one fixture each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from doubles.servers.pyssh import PySsh

from backupd.clock import SystemClock
from backupd.store.base import Store
from backupd.store.directory import DirectoryStore
from backupd.store.probe import ProbedStore
from backupd.store.sftp import open_sftp
from backupd.store.sftp.ssh import SftpTarget
from backupd.store.sftp.store import SftpStore
from backupd.store.throttle import ThrottledStore


@pytest.fixture
def directory_store(tmp_path: Path) -> DirectoryStore:
    """An empty store of region `be` in a folder."""
    root = tmp_path / "store"
    root.mkdir()
    return DirectoryStore(root / "be")


@pytest.fixture(params=["directory", "sftp", "retrying", "throttled", "pyssh"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each adapter in turn."""
    return request.getfixturevalue(f"{request.param}_store")


@pytest.fixture
def root_of(request: pytest.FixtureRequest) -> Callable[[Store], Path]:
    """Where a store's objects lie on this machine, to look at them behind its back."""

    def find(store: Store) -> Path:
        while (inner := getattr(store, "inner", None)) is not None:
            store = inner
        if hasattr(store, "folder"):
            return store.folder
        if isinstance(store, SftpStore):
            return request.getfixturevalue("sshd").home / store.target.root
        return Path(store.root)

    return find


@pytest.fixture
def sftp_store(sftp_target: SftpTarget) -> Iterator[SftpStore]:
    """An empty store of region `be` on a real sshd."""
    store = SftpStore(sftp_target, SystemClock())
    yield store
    store.close()


@pytest.fixture
def retrying_store(sftp_target: SftpTarget) -> Iterator[ProbedStore]:
    """As the configuration opens one: SFTP, tried again."""
    store = open_sftp(dataclasses.replace(sftp_target, patience=5.0), SystemClock())
    yield store
    store.close()


@pytest.fixture
def throttled_store(directory_store: DirectoryStore) -> ThrottledStore:
    """A folder behind a limit too high to be felt."""
    return ThrottledStore(directory_store, 1 << 30, SystemClock())


@pytest.fixture
def pyssh_store(target_of: Callable[..., SftpTarget]) -> Iterator[SftpStore]:
    """The plain-Python server that stands in where there is no sshd."""
    with PySsh() as account:
        store = SftpStore(target_of(account), SystemClock())
        store.folder = account.home / "be"  # for root_of
        yield store
        store.close()
