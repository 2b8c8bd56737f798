"""The store adapter over SSH: our own SFTP client on paramiko's SSH."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from backupd.clock import Clock
from backupd.errors import StoreGoneError
from backupd.store.sftp.ssh import SftpTarget

if TYPE_CHECKING:
    from backupd.store.probe import ProbedStore

__all__ = [
    "SftpTarget",
    "open_sftp",
]


def open_sftp(
    target: SftpTarget, clock: Clock, told: Callable[[StoreGoneError, float], None] | None = None
) -> ProbedStore:
    """Open the store at `target`: connections are made when first needed, throttled and retried as its fields say.

    The last argument is called once for a store that stays away: the reason, and for how long it is still tried.
    """
    # paramiko and tenacity take a fifth of a second to import; commands that touch no store go without.
    from backupd.store.retry import RetryingStore
    from backupd.store.sftp.store import SftpStore
    from backupd.store.throttle import ThrottledStore

    store: ProbedStore = SftpStore(target, clock)
    if target.bandwidth:
        store = ThrottledStore(store, target.bandwidth, clock)
    return RetryingStore(store, clock, target.patience, told=told)
