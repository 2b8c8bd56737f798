"""SSH servers that keep a store: the real one, fresh for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from doubles.sshd import Account, Sshd

from backupd.store.sftp.target import SftpTarget

Targeted = Callable[..., SftpTarget]


@pytest.fixture
def sshd() -> Iterator[Account]:
    """A running OpenSSH with an empty rsync.net-like account."""
    with Sshd() as account:
        yield account


@pytest.fixture
def target_of() -> Targeted:
    """The target for an account; keyword arguments override fields."""

    def make(account: Account, **changes: object) -> SftpTarget:
        fields = {
            "host": account.host,
            "port": account.port,
            "user": account.user,
            "key_file": account.key_file,
            "host_keys": account.host_keys,
            "path": "",
            "region": "be",
            "connections": 2,
            "deadline": 20.0,
            "patience": 0.0,
        }
        return SftpTarget(**(fields | changes))

    return make


@pytest.fixture
def sftp_target(sshd: Account, target_of: Targeted) -> SftpTarget:
    """Region `be` in the home of the account."""
    return target_of(sshd)
