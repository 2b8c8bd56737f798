"""Many requests in flight on one SFTP channel, sent by many threads, with every answer checked.

A thread gives a batch of requests to a `Flight` and waits for all of its answers at once. One reader thread takes what
arrives and gives each answer to its flight by id. The channel breaks as a whole: on the first byte that is not SFTP, on
an answer to no request, when the connection ends, and when requests stay unanswered past the deadline.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from backupd.clock import Clock
from backupd.errors import StoreError, StoreGoneError
from backupd.store.sftp import wire
from backupd.store.sftp.wire import Ask, Reply, SftpRequest

SENDING = 2 * 1024 * 1024
"""Bytes in flight to the server over all threads: what an OpenSSH channel takes per round trip. The measurements are
in `backupd manual design`, Store over SSH."""
RECEIVING = 12 * 1024 * 1024
"""Bytes requested and not yet received, over all threads: what a line of 1 Gbit/s carries in a tenth of a second."""
_LATEST = 4
"""Deadlines by which a single answer may be late while others still arrive."""

_ANSWERS: dict[int, type] = {
    Ask.OPEN: wire.Handle,
    Ask.OPENDIR: wire.Handle,
    Ask.READ: wire.Data,
    Ask.READDIR: wire.NameReply,
    Ask.LSTAT: wire.Attributes,
    Ask.FSTAT: wire.Attributes,
    Ask.REALPATH: wire.NameReply,
}
"""The reply type of each request that returns something; the others are answered by a status alone, or are
extensions."""


class Stream(Protocol):
    """The byte stream that a channel needs from the connection below it."""

    def send(self, data: bytes) -> None: ...

    def receive(self) -> bytes: ...

    def close(self) -> None: ...


class _Waiting(NamedTuple):
    flight: Flight
    place: int
    request: SftpRequest
    since: float


class Flight:
    """Requests that are in flight together. A flight belongs to one thread, which asks, waits, and may ask again.

    `accept` is called in the reader's thread for each answer, with the request's place; without it the answers are kept
    for `wait`.
    """

    def __init__(self, channel: Channel, accept: Callable[[int, Reply], None] | None = None) -> None:
        self._channel = channel
        self._kept: dict[int, Reply] = {}
        self.accept = accept or self._kept.__setitem__
        self.asked = 0
        self.open = 0
        self.landed = threading.Event()
        self.landed.set()

    def ask(self, *requests: SftpRequest) -> None:
        """Send all requests at once, and wait while too much is in flight.

        Raises the channel's error once it is broken.
        """
        if requests:
            self._channel.start(self, requests)

    def wait(self) -> list[Reply]:
        """Wait for all answers, and return the kept ones since the last wait, in the order of asking.

        Raises the channel's error when an answer is missing because the channel broke.
        """
        self.landed.wait()
        if self.open:
            self._channel.check()
        replies = [self._kept[place] for place in sorted(self._kept)]
        self._kept.clear()
        return replies


class Channel:
    """One SFTP channel. `extensions` and the two sizes in bytes are what the server announced at the start.

    `round_trip` is the shortest time in seconds in which an answer came so far; infinite before the first one.
    """

    def __init__(self, stream: Stream, clock: Clock, deadline: float) -> None:
        self._stream = stream
        self._clock = clock
        self._deadline = deadline
        self._framer = wire.Framer()
        self._lock = threading.Lock()
        self._space_freed = threading.Condition(self._lock)
        self._sending = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._number = 0
        self._to_send = 0
        self._to_receive = 0
        self._progress = clock.monotonic()
        self._broken: StoreError | None = None
        self._reader = threading.Thread(target=self._read, name="sftp-reader", daemon=True)
        self.extensions: dict[str, bytes] = {}
        self.read_size = self.write_size = 32_768
        self.round_trip = math.inf

    def open(self) -> None:
        """Greet the server and learn its extensions and limits.

        Raises StoreError, StoreGoneError.
        """
        self._stream.send(wire.hello())
        self.extensions = self._await_greeting()
        self._reader.start()
        if "limits@openssh.com" in self.extensions:
            (reply,) = self.ask(wire.limits())
            if isinstance(reply, wire.Extended):
                reading, writing = wire.decode_limits(reply.value)
                self.read_size = min(reading or self.read_size, wire.LONGEST_PACKET - 1024)
                self.write_size = min(writing or self.write_size, wire.LONGEST_PACKET - 1024)

    @property
    def alive(self) -> bool:
        return self._broken is None

    def check(self) -> None:
        """Raise the error that broke the channel, if it is broken."""
        if self._broken is not None:
            family = StoreGoneError if self._broken.retryable else StoreError
            raise family(self._broken.message, hint=self._broken.hint) from self._broken

    def ask(self, *requests: SftpRequest) -> list[Reply]:
        """Send all requests together, and return their answers in the order of asking.

        Raises the channel's error once it is broken; a refusal is an answer and not an error.
        """
        flight = Flight(self)
        flight.ask(*requests)
        return flight.wait()

    def start(self, flight: Flight, requests: Sequence[SftpRequest]) -> None:
        """Send requests whose answers `flight` receives; wait while too much is in flight."""
        sending = sum(len(request.payload) for request in requests)
        receiving = sum(request.cost for request in requests)
        with self._space_freed:
            while self._broken is None and not self._fits(sending, receiving):
                self._space_freed.wait()
            self.check()
            data = b"".join(self._register(flight, request) for request in requests)
            self._to_send += sending
            self._to_receive += receiving
            flight.landed.clear()
        try:
            with self._sending:
                self._stream.send(data)
        except StoreError as error:
            self._break(error)
            self.check()

    def close(self) -> None:
        """Close the channel; requests in flight fail with StoreGoneError."""
        self._break(StoreGoneError("the connection to the store was closed"))

    def _fits(self, sending: int, receiving: int) -> bool:
        # A batch above a whole window must still go once nothing else is under way.
        return not self._waiting or (self._to_send + sending <= SENDING and self._to_receive + receiving <= RECEIVING)

    def _register(self, flight: Flight, request: SftpRequest) -> bytes:
        now = self._clock.monotonic()
        if not self._waiting:
            self._progress = now
        self._number = (self._number + 1) & 0xFFFFFFFF
        self._waiting[self._number] = _Waiting(flight, flight.asked, request, now)
        flight.asked += 1
        flight.open += 1
        return request.encode(self._number)

    def _await_greeting(self) -> dict[str, bytes]:
        until = self._clock.monotonic() + self._deadline
        while self._clock.monotonic() < until:
            packets = [*self._framer.feed(self._stream.receive())]
            if len(packets) > 1:
                raise wire.ProtocolError("more than a greeting")
            if packets:
                return wire.decode_version(*packets[0])
        raise StoreGoneError("the store did not start SFTP in time")

    def _read(self) -> None:
        try:
            while self._broken is None:
                piece = self._stream.receive()
                for kind, body in self._framer.feed(piece):
                    self._land(*wire.decode_reply(kind, body))
                self._check_deadline()
        except StoreError as error:
            self._break(error)
        except Exception as error:  # noqa: BLE001 - a waiting thread must never be left behind
            self._break(StoreError(f"reading from the store failed: {type(error).__name__}"))

    def _land(self, number: int, reply: Reply) -> None:
        with self._space_freed:
            waiting = self._waiting.get(number)
            if waiting is None:
                raise wire.ProtocolError("an answer nobody asked for")
            _check_answer(waiting.request, reply)
            del self._waiting[number]
            self._to_send -= len(waiting.request.payload)
            self._to_receive -= waiting.request.cost
            self._progress = self._clock.monotonic()
            self.round_trip = min(self.round_trip, self._progress - waiting.since)
            waiting.flight.accept(waiting.place, reply)
            waiting.flight.open -= 1
            if not waiting.flight.open:
                waiting.flight.landed.set()
            self._space_freed.notify()

    def _check_deadline(self) -> None:
        now = self._clock.monotonic()
        with self._lock:
            oldest = next(iter(self._waiting.values()), None)
            if oldest is None:
                return
            silent = now - self._progress > self._deadline
            if silent or now - oldest.since > self._deadline * _LATEST:
                raise StoreGoneError(f"the store did not answer within {self._deadline:g} seconds")

    def _break(self, error: StoreError) -> None:
        with self._space_freed:
            if self._broken is None:
                self._broken = error
            flights = {id(waiting.flight): waiting.flight for waiting in self._waiting.values()}
            self._waiting.clear()
            for flight in flights.values():
                flight.landed.set()
            self._space_freed.notify_all()
        self._stream.close()


def _check_answer(request: SftpRequest, reply: Reply) -> None:
    expected = wire.Extended if request.ask == Ask.EXTENDED else _ANSWERS.get(request.ask)
    if isinstance(reply, wire.Status):
        fits = expected in (None, wire.Extended) or not reply.ok
    else:
        fits = expected is not None and isinstance(reply, expected)
    if not fits:
        raise wire.ProtocolError(f"{type(reply).__name__.lower()} in answer to {request.ask.name.lower()}")
    if isinstance(reply, wire.Data) and len(reply.value) > request.cost:
        raise wire.ProtocolError("more bytes than were asked for")
