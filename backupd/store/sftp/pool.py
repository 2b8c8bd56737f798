"""The sessions that threads share: one, and on a far link as many as it takes to fill the line.

An OpenSSH channel takes only so much per round trip; what goes over the line at a long one is therefore a matter of how
many channels there are. The round trip is measured by what the sessions did before. Another session costs about ten
round trips and some processor time at both ends, so it is opened only once those that are open have so much to do that
it saves time, and by a thread of its own: nobody waits for it who would be served sooner otherwise.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from backupd.clock import Clock
from backupd.errors import StoreAuthError, StoreError, StoreGoneError
from backupd.store.sftp.channel import SENDING
from backupd.store.sftp.session import Session, open_session
from backupd.store.sftp.ssh import SftpTarget

_LINE = 125_000_000
"""Bytes per second that all sessions together should carry: what a line of 1 Gbit/s does."""
_FOR_ONE = 2
"""Sessions for each that the line takes: while a server syncs an object, it takes nothing else from that channel."""
_OPENING = 10
"""Round trips that opening a session takes: TCP, the two versions, the exchange of keys, login, and SFTP's greeting."""


@dataclass(eq=False, slots=True)
class _Shared:
    """A session in the pool: how many use it, and the round trips that what they asked for takes, if nothing waits."""

    session: Session
    users: int = 0
    load: float = 0.0


class Pool:
    """Up to `target.connections` sessions, opened as needed; the next call replaces a broken one."""

    def __init__(self, target: SftpTarget, clock: Clock) -> None:
        self._target = target
        self._clock = clock
        self._shared: list[_Shared] = []
        self._opening = 0
        self._most = target.connections
        self._changed = threading.Condition()
        self._refused: StoreAuthError | None = None
        self._failures = 0
        self._failure: StoreGoneError | None = None
        self._closed = False

    @contextlib.contextmanager
    def session(self, load: float = 0.0) -> Iterator[Session]:
        """Yield the session with the least to do.

        `load` is how many round trips the call takes because of its bytes, which is what another session can be needed
        for; 0 for a call that moves few. Raises StoreAuthError, and again at every later call: a refused login is never
        retried.
        """
        shared = self._take(load) or self._open_first(load)
        try:
            yield shared.session
        finally:
            with self._changed:
                shared.users -= 1
                shared.load -= load
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            closing, self._shared = self._shared, []
            self._changed.notify_all()
        for shared in closing:
            shared.session.close()

    def _take(self, load: float) -> _Shared | None:
        """Choose a session to use; None means that the caller has to open one."""
        with self._changed:
            failures = self._failures
            while True:
                self._check_usable(failures)
                self._drop_broken()
                best = min(self._shared, key=lambda shared: (shared.load, shared.users), default=None)
                if best is None and not self._opening:
                    # One thread alone tries until a login has succeeded: a wrong key must not count several times.
                    self._opening += 1
                    return None
                if best is not None and not self._is_worth_waiting(best, load):
                    best.users += 1
                    best.load += load
                    return best
                self._changed.wait()

    def _is_worth_waiting(self, best: _Shared, load: float) -> bool:
        """Check whether a call waits for a session that is being opened; open one if there is work for it."""
        if best.load < _OPENING:
            return False
        filling = self._filling()
        if len(self._shared) + self._opening < min(self._most, filling * _FOR_ONE):
            self._opening += 1
            threading.Thread(target=self._open_another, name="sftp-opener", daemon=True).start()
        return filling > 1 and load > 1 and self._opening > 0

    def _filling(self) -> int:
        """Return how many sessions fill the line, at the shortest round trip that was seen."""
        round_trip = min(shared.session.channel.round_trip for shared in self._shared)
        rate = min(self._target.bandwidth or _LINE, _LINE)
        return math.ceil(min(self._target.connections, rate * round_trip / SENDING))

    def _open_first(self, load: float) -> _Shared:
        """Open a session for the caller, while all others wait for it. Raises StoreError."""
        try:
            return self._add(_Shared(open_session(self._target, self._clock), 1, load))
        except BaseException as error:
            self._give_up(error)
            raise

    def _open_another(self) -> None:
        """Open a session beside others, which are enough when it fails: servers limit connections per account."""
        try:
            self._add(_Shared(open_session(self._target, self._clock)))
        except StoreError as error:
            self._give_up(error)
        except BaseException as error:
            self._give_up(error)
            raise

    def _add(self, shared: _Shared) -> _Shared:
        """Share a session that was opened. Raises StoreError when the store was closed meanwhile."""
        with self._changed:
            if not self._closed:
                self._opening -= 1
                self._shared.append(shared)
                self._changed.notify_all()
                return shared
        shared.session.close()
        raise StoreError("the store was closed")

    def _give_up(self, error: BaseException) -> None:
        """Note that a session could not be opened; those who wait for the only one get the same error, at once."""
        with self._changed:
            self._opening -= 1
            self._changed.notify_all()
            self._drop_broken()
            if isinstance(error, StoreAuthError):
                self._refused = error
            elif self._shared:
                # Asking again and again would only delay every call.
                self._most = len(self._shared)
            elif isinstance(error, StoreGoneError):
                self._failures += 1
                self._failure = error

    def _check_usable(self, failures: int) -> None:
        if self._refused is not None:
            raise StoreAuthError(self._refused.message, hint=self._refused.hint) from self._refused
        if self._closed:
            raise StoreError("the store was closed")
        if self._failure is not None and self._failures > failures and not self._shared:
            # A thread that waited for another one's attempt has waited a deadline already.
            raise StoreGoneError(self._failure.message, hint=self._failure.hint) from self._failure

    def _drop_broken(self) -> None:
        for shared in [shared for shared in self._shared if not shared.session.alive]:
            self._shared.remove(shared)
            shared.session.close()
        if not self._shared:
            self._most = self._target.connections
