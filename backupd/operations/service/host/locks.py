"""One daemon for each job on a machine: a lock file in the region's state folder, held as long as the process lives."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BusyError, ConfigError
from backupd.operations.service.jobs import JobKind

if TYPE_CHECKING:
    from backupd.operations.service.jobs import JobKey

SHARED = frozenset({JobKind.OBSERVE})
"""Any number of daemons may look."""


class Locks:
    """The jobs this process may run. A context manager."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._held: dict[JobKey, int] = {}

    def hold(self, keys: Iterable[JobKey]) -> None:
        """Hold exactly these from now on.

        Raises BusyError when another process has one of them, ConfigError when the state folder cannot be written;
        then those that were held before are held still, and no other.
        """
        wanted = {key for key in keys if key.kind not in SHARED}
        taken: dict[JobKey, int] = {}
        try:
            for key in sorted(wanted - self._held.keys()):
                taken[key] = self._lock(key)
        except (BusyError, ConfigError):
            for number in taken.values():
                os.close(number)
            raise
        for key in self._held.keys() - wanted:
            os.close(self._held.pop(key))
        self._held |= taken

    def close(self) -> None:
        for number in self._held.values():
            os.close(number)
        self._held = {}

    def _lock(self, key: JobKey) -> int:
        path = self._state / key.region / f"{key.kind}.lock"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"the state folder cannot be used ({error.strerror})", hint="Check node.state_dir and its owner."
            ) from error
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(number)
            raise BusyError(
                f'another daemon of this machine already runs "{key}"',
                hint="Stop it, or give each one regions or --jobs of its own.",
            ) from None
        return number
