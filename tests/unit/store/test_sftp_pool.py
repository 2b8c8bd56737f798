"""The pool opens as many sessions as the line is worth, and spreads what there is to do; the test opens them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from backupd.clock import SystemClock
from backupd.errors import StoreAuthError, StoreError, StoreGoneError
from backupd.store.sftp import pool as pools
from backupd.store.sftp.pool import Pool
from backupd.store.sftp.ssh import SftpTarget

NEAR, FAR = 0.0002, 0.1
"""Round trips in seconds: one session fills the line at the first, and six at the second."""
LARGE, SMALL = 4.0, 0.1
"""Round trips that an object takes because of its bytes."""


@dataclass(eq=False)
class FakeSession:
    channel: SimpleNamespace
    alive: bool = True
    closed: bool = False

    def close(self) -> None:
        self.closed = True


@dataclass
class Server:
    """Opens sessions: the first at once, others once the test says `go_on`, with `failure` in their place if set."""

    round_trip: float = FAR
    failure: Exception | None = None
    asked: int = 0
    made: list[FakeSession] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def open(self, *_: object) -> FakeSession:
        self.asked += 1
        if self.asked > 1:
            assert self.go_on.wait(20)
            if self.failure is not None:
                raise self.failure
        self.made.append(FakeSession(SimpleNamespace(round_trip=self.round_trip)))
        return self.made[-1]


class Calls:
    """Calls of the store, each on a thread of its own, which keep their sessions until the test lets them end."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.lock = threading.Condition()
        self.serving: list[FakeSession] = []
        self.errors: list[StoreError] = []
        self.ending = 0
        self.threads: list[threading.Thread] = []

    def begin(self, number: int, load: float) -> None:
        for _ in range(number):
            self.threads.append(threading.Thread(target=self._call, args=(load,), daemon=True))
            self.threads[-1].start()

    def await_served(self, number: int) -> None:
        with self.lock:
            assert self.lock.wait_for(lambda: len(self.serving) >= number, 20), len(self.serving)

    def end_one(self) -> None:
        with self.lock:
            self.ending += 1
            self.lock.notify_all()

    def end(self) -> None:
        with self.lock:
            self.ending = 1000
            self.lock.notify_all()
        for thread in self.threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self.threads)

    def shares(self) -> list[int]:
        """The number of calls on each session, in the order in which the sessions were made."""
        return [self.serving.count(session) for session in dict.fromkeys(self.serving)]

    def sessions(self) -> int:
        """The number of sessions that are open or being opened."""
        return len(self.pool._shared) + self.pool._opening

    def waiting(self) -> int:
        return len(self.pool._changed._waiters)

    def _call(self, load: float) -> None:
        try:
            with self.pool.session(load) as session, self.lock:
                self.serving.append(session)
                self.lock.notify_all()
                self.lock.wait_for(lambda: self.ending > 0)
                self.ending -= 1
        except StoreError as error:
            self.errors.append(error)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    server = Server()
    monkeypatch.setattr(pools, "open_session", server.open)
    yield server
    server.go_on.set()


@pytest.fixture
def calls():
    """Makes calls on a pool of up to four sessions, or as told, and ends them all."""
    made = []

    def make(**changes: object) -> Calls:
        fields = {"host": "h", "port": 1, "user": "u", "key_file": Path("k"), "host_keys": (), "path": "", "region": ""}
        made.append(Calls(Pool(SftpTarget(**(fields | {"connections": 4} | changes)), SystemClock())))
        return made[-1]

    yield make
    for one in made:
        one.end()


def eventually(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.001)


def test_large_objects_are_spread_over_sessions_that_are_still_opened(server, calls):
    """On a far link the first session takes what keeps it busy for so long, and the others share the rest evenly."""
    far = calls()
    far.begin(16, LARGE)
    eventually(lambda: len(far.serving) + far.waiting() == 16)
    assert far.shares() == [3]
    server.go_on.set()
    far.await_served(16)
    assert far.shares() == [4, 4, 4, 4]


def test_nobody_waits_on_a_near_link(server, calls):
    """There a second session is opened for when the server syncs, and meanwhile all use the first."""
    server.round_trip = NEAR
    near = calls()
    near.begin(16, LARGE)
    near.await_served(16)
    assert near.shares() == [16]
    assert near.sessions() == 2


def test_small_objects_need_no_second_session(server, calls):
    """However far the server is and however many there are."""
    far = calls()
    far.begin(40, SMALL)
    far.await_served(40)
    assert far.sessions() == 1


def test_a_small_object_does_not_wait(server, calls):
    """It is through sooner than another session is open, whatever else the first one has to do."""
    far = calls()
    far.begin(4, LARGE)
    eventually(lambda: far.waiting() == 1)
    far.begin(1, SMALL)
    far.await_served(4)
    assert far.shares() == [4]
    assert far.waiting() == 1


def test_who_waits_takes_what_is_free_first(server, calls):
    """An opening that hangs holds nobody up for longer than the work before them takes."""
    far = calls()
    far.begin(4, LARGE)
    eventually(lambda: far.waiting() == 1)
    far.end_one()
    far.await_served(4)
    assert far.shares() == [4]


def test_bytes_count_and_not_calls(server, calls):
    """The next object goes to the session that is through with its own soonest."""
    server.go_on.set()
    far = calls(connections=2)
    far.begin(4, LARGE)
    far.await_served(4)
    for number, load in ((5, 10 * LARGE), (6, LARGE)):
        far.begin(1, load)
        far.await_served(number)
    assert far.shares() == [4, 2]


def test_a_limited_bandwidth_needs_fewer_sessions(server, calls):
    """What may not be sent needs no connection: at 10 MB/s one session fills the line at a tenth of a second."""
    slow = calls(bandwidth=10_000_000)
    slow.begin(16, LARGE)
    slow.await_served(16)
    assert slow.sessions() == 2


@pytest.mark.parametrize(("connections", "round_trip", "most"), [(1, FAR, 1), (32, FAR, 12), (32, 0.03, 4)])
def test_the_number_follows_from_the_round_trip(server, calls, connections, round_trip, most):
    """Twice as many as fill a line of 1 Gbit/s, at most as many as the configuration allows."""
    server.round_trip = round_trip
    server.go_on.set()
    many = calls(connections=connections)
    many.begin(150, LARGE)
    many.await_served(150)
    assert many.sessions() == most


def test_sessions_in_use_are_enough_when_no_other_can_be_opened(server, calls):
    """A server's limit fails no call, and is not tried again and again."""
    far = calls()
    far.begin(16, LARGE)
    eventually(lambda: far.waiting() == 13)
    server.failure = StoreGoneError("too many connections")
    server.go_on.set()
    far.await_served(16)
    far.begin(1, LARGE)
    far.await_served(17)
    assert far.shares() == [17]
    assert server.asked == 4


def test_a_key_that_is_refused_meanwhile_is_offered_no_more(server, calls):
    """Those who wait and all later calls are told."""
    far = calls(connections=2)
    far.begin(5, LARGE)
    eventually(lambda: far.waiting() == 2)
    server.failure = StoreAuthError("refused")
    server.go_on.set()
    eventually(lambda: len(far.errors) == 2)
    far.begin(1, SMALL)
    eventually(lambda: len(far.errors) == 3)
    assert {type(error) for error in far.errors} == {StoreAuthError}
    assert server.asked == 2


def test_a_session_that_comes_too_late_is_closed(server, calls):
    """The store may be closed while one is being opened; who waits for it is told."""
    far = calls(connections=2)
    far.begin(4, LARGE)
    eventually(lambda: far.waiting() == 1)
    far.pool.close()
    eventually(lambda: len(far.errors) == 1)
    server.go_on.set()
    eventually(lambda: len(server.made) == 2 and server.made[1].closed)
    assert server.made[0].closed
