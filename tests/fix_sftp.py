"""SSH servers that keep a store: the real one, fresh for each test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from doubles.servers.hostile_sftp import HostileSftp
from doubles.servers.sshd import APPEND_ONLY, Account, Sshd

from backupd.clock import SystemClock
from backupd.store.sftp import open_sftp
from backupd.store.sftp.ssh import SftpTarget
from backupd.store.sftp.store import SftpStore

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


@dataclass(frozen=True)
class Roles:
    """Two keys to one folder: the writer's adds, the keeper's may do everything."""

    writer: SftpTarget
    keeper: SftpTarget
    home: Path


@pytest.fixture
def roles(target_of: Targeted) -> Iterator[Roles]:
    """A server that enforces append-only for the writer, by what the writer's key may start."""
    server = Sshd(unprivileged=True)
    with server as account:
        yield Roles(target_of(server.add_key(APPEND_ONLY)), target_of(server.add_key()), account.home)


@dataclass(frozen=True)
class SubAccounts:
    """A parent's account and a node's below it, as rsync.net has them: each sees the vault from its own home."""

    node: Account
    keeper: Account
    vault: Path
    """The region's folder, the parent's: the node reads it."""
    own: Path
    """The folder in it that the node, and nobody else but the parent, writes to."""
    enforced: bool
    """Whether they are two users: only who is root can start a server that has them."""

    @contextmanager
    def nodes_turn(self) -> Iterator[None]:
        """While the node is at work. Where both are one user, nobody may write to the parent's folders then."""
        folders = [self.vault, *(path for path in self.vault.rglob("*") if path.is_dir() and path != self.own)]
        folders = [] if self.enforced else [self.vault.parent, *folders]
        for folder in folders:
            folder.chmod(0o550)
        yield
        for folder in folders:
            folder.chmod(0o750)


@pytest.fixture
def sub_accounts() -> Iterator[SubAccounts]:
    """A sub-account's home is the parent's, with the sub-account's group, and so is all in it but what the node makes.

    These are the commands of README's how-to.
    """
    server = Sshd()
    with server as account:
        home, sub = account.home, account.home / "node1"
        own = sub / "backupd/be/incoming/test"
        own.mkdir(parents=True)
        enforced = os.getuid() == 0
        for folder in (home, sub, sub / "backupd", sub / "backupd/be", own.parent, own):
            if enforced:
                shutil.chown(folder, "backup", "nogroup")
            folder.chmod(0o755 if folder == home else 0o2770 if folder == own else 0o2750)
        # Who is one user with the parent owns what is the parent's, and must not be able to open it.
        flags = "" if enforced else "-P setstat,fsetstat,lsetstat"
        node = server.add_account(sub, "nobody", "nogroup", flags)
        keeper = server.add_account(home, "backup", "nogroup")
        yield SubAccounts(node, keeper, sub / "backupd/be", own, enforced)


def patient(store):
    """A store on the same server with time enough, also on a busy machine, for what is not about the deadline."""
    return SftpStore(replace(store.target, deadline=60.0), SystemClock())


def until_the_end(one, first, limit=60):
    """Call `one` with k = first, first + 1 … until it says that k lay behind its last request; four wait at a time."""
    with ThreadPoolExecutor(4) as pool:
        for k in range(first, limit, 4):
            if any(list(pool.map(one, range(k, k + 4)))):
                return
    pytest.fail("the sweep never reached the end")


@pytest.fixture
def hostile(target_of):
    """A hostile server with the rules given, and a store on it that retries nothing unless told."""
    closing = []

    def start(*rules, **changes):
        server = HostileSftp(*rules)
        account = server.__enter__()
        target = target_of(account, **({"deadline": 2.0, "connections": 1} | changes))
        store = open_sftp(target, SystemClock()) if "patience" in changes else SftpStore(target, SystemClock())
        closing[:0] = [store.close, server.__exit__]
        return store, server

    yield start
    for close in closing:
        close()
