"""The multiplexer works alone, over a stream whose answers the test chooses."""

from __future__ import annotations

import math
import random
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from backupd.clock import SystemClock
from backupd.errors import StoreError, StoreGoneError
from backupd.store.sftp import wire
from backupd.store.sftp.channel import SENDING, Channel, Flight
from backupd.store.sftp.wire import Attributes, Data, Handle, Status

GREETING = struct.pack(">IBI", 5, 2, 3)


class Shuffling:
    """Answers every request, several at a time, in an order of its own.

    A read is answered with its length, spelled out; an lstat with the size its path names; all else with OK.
    `hold` keeps answers back until that many are due; `peak` is the most bytes of requests that were unanswered.
    """

    def __init__(self, hold: int = 1, seed: int = 0) -> None:
        self.hold = hold
        self.answers = [GREETING]
        self.due: list[bytes] = []
        self.unanswered = self.peak = 0
        self.wake = threading.Condition()
        self.closed = False
        self.random = random.Random(seed)
        self.framer = wire.Framer()

    def send(self, data: bytes) -> None:
        with self.wake:
            if self.closed:
                raise StoreGoneError("closed")
            self.unanswered += len(data)
            self.peak = max(self.peak, self.unanswered)
            self.due += [self.answer(kind, body) for kind, body in self.framer.feed(data) if kind != 1]
            self.wake.notify_all()

    def receive(self) -> bytes:
        with self.wake:
            if not self.answers and len(self.due) < self.hold:
                self.wake.wait(0.02)
            if self.closed:
                raise StoreGoneError("closed")
            self.random.shuffle(self.due)
            data, self.answers, self.due, self.unanswered = b"".join(self.answers + self.due), [], [], 0
            return data

    def close(self) -> None:
        with self.wake:
            self.closed = True
            self.wake.notify_all()

    def answer(self, kind: int, body: bytes) -> bytes:
        number = body[:4]
        if kind == 5:
            (length,) = struct.unpack(">I", body[-4:])
            text = str(length).encode()
            reply = bytes([103]) + number + struct.pack(">I", len(text)) + text
        elif kind == 7:
            reply = bytes([105]) + number + struct.pack(">IQ", 1, int(body[8:]))
        else:
            reply = bytes([101]) + number + struct.pack(">I", 0)
        return struct.pack(">I", len(reply)) + reply


class Silent(Shuffling):
    """Greets, and answers nothing."""

    def answer(self, _kind: int, _body: bytes) -> bytes:
        return b""


@pytest.fixture
def opened():
    """Opens a channel over a stream, and closes it in the end."""
    made = []

    def make(stream, clock=None, deadline=20.0):
        made.append(Channel(stream, clock or SystemClock(), deadline))
        made[-1].open()
        return made[-1]

    yield make
    for channel in made:
        channel.close()


@pytest.mark.parametrize("seed", range(5))
def test_answers_find_their_questions(opened, seed):
    """Threads share a channel whose answers come in any order, and each gets its own, in the order it asked."""
    channel = opened(Shuffling(hold=7, seed=seed))

    def work(worker):
        for turn in range(30):
            sizes = [worker * 1000 + turn * 10 + number for number in range(5)]
            replies = channel.ask(*(wire.lstat(str(size)) for size in sizes))
            assert replies == [Attributes(size=size) for size in sizes]
            assert channel.ask(wire.read(Handle(b"h"), 0, worker + 100)) == [Data(str(worker + 100).encode())]

    with ThreadPoolExecutor(8) as pool:
        [*pool.map(work, range(8))]


def test_a_flight_may_ask_again_before_it_waits(opened):
    """A flight's answers are complete whenever it waits, however they were asked."""
    channel = opened(Shuffling(hold=3))
    flight = Flight(channel)
    for size in range(100):
        flight.ask(wire.lstat(str(size)))
    assert flight.wait() == [Attributes(size=size) for size in range(100)]
    assert flight.wait() == []
    assert channel.ask() == []


def test_window_bounds_what_is_under_way(opened):
    """However many threads write, no more than the window is unanswered, yet one larger batch passes."""
    stream = Shuffling(hold=4)
    channel = opened(stream)

    def work(_):
        flight = Flight(channel)
        for at in range(20):
            flight.ask(wire.write(Handle(b"h"), at, bytes(200_000)))
        assert flight.wait() == [Status(0)] * 20

    with ThreadPoolExecutor(4) as pool:
        [*pool.map(work, range(4))]
    assert stream.peak <= SENDING + 4096
    batch = [wire.write(Handle(b"h"), at, bytes(200_000)) for at in range(12)]
    assert channel.ask(*batch) == [Status(0)] * 12


def test_silence_ends_at_the_deadline_for_everyone(opened, ticking_clock):
    """All waiting threads are told, once the clock has passed the deadline, and so is every later question."""
    channel = opened(Silent(), ticking_clock, deadline=60.0)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(channel.ask, wire.lstat(str(number))) for number in range(3)]
        while len(channel._waiting) < 3:
            pass
        ticking_clock.elapsed += 61
        for answer in asked:
            with pytest.raises(StoreGoneError, match="60 seconds"):
                answer.result(5)
    with pytest.raises(StoreGoneError):
        channel.ask(wire.lstat("1"))


def test_one_lost_answer_among_many_is_noticed(opened, ticking_clock):
    """Other answers keep a channel alive only so long: a question is not forgotten because others are answered."""

    class Forgetful(Shuffling):
        def answer(self, kind: int, body: bytes) -> bytes:
            return b"" if body.endswith(b"13") else super().answer(kind, body)

    channel = opened(Forgetful(), ticking_clock, deadline=60.0)
    lost = Flight(channel)
    lost.ask(wire.lstat("13"))

    def go_on():
        for size in range(100, 200):
            ticking_clock.elapsed += 30
            assert channel.ask(wire.lstat(str(size))) == [Attributes(size=size)]

    with pytest.raises(StoreGoneError):
        go_on()
    assert ticking_clock.elapsed <= 60 * 5
    with pytest.raises(StoreGoneError):
        lost.wait()


def test_an_answer_that_arrived_is_kept_though_the_channel_broke(opened):
    """What was answered before the end is an answer."""
    channel = opened(Shuffling())
    flight = Flight(channel)
    flight.ask(wire.lstat("5"))
    flight.landed.wait(5)
    channel.close()
    assert flight.wait() == [Attributes(size=5)]


def test_answers_nobody_asked_for_end_the_channel(opened):
    """So does any other breach; it is not tried again."""
    stream = Shuffling()
    channel = opened(stream)
    with stream.wake:
        stream.answers.append(struct.pack(">IBII", 9, 101, 4711, 0))
        stream.wake.notify_all()
    channel._reader.join(5)
    with pytest.raises(StoreError, match="nobody asked for") as caught:
        channel.ask(wire.lstat("1"))
    assert not caught.value.retryable


def test_limits_are_taken_but_not_without_bound(opened):
    """A server's own limits decide the size of requests, within what a packet can hold."""

    class Limited(Shuffling):
        def __init__(self, reading, writing):
            super().__init__()
            name = b"limits@openssh.com"
            body = struct.pack(">I", 3) + struct.pack(">I", len(name)) + name + struct.pack(">I", 1) + b"1"
            self.answers = [struct.pack(">IB", len(body) + 1, 2) + body]
            self.values = (0, reading, writing, 0)

        def answer(self, _kind: int, body: bytes) -> bytes:
            reply = bytes([201]) + body[:4] + struct.pack(">4Q", *self.values)
            return struct.pack(">I", len(reply)) + reply

    small = opened(Limited(1000, 2000))
    assert (small.read_size, small.write_size) == (1000, 2000)
    huge = opened(Limited(2**60, 2**60))
    assert max(huge.read_size, huge.write_size) < wire.LONGEST_PACKET
    unlimited = opened(Limited(0, 0))
    assert (unlimited.read_size, unlimited.write_size) == (32_768, 32_768)


def test_the_round_trip_is_the_shortest_time_of_an_answer(opened, ticking_clock):
    """A server that is busy once makes nobody believe that it is far."""

    class Slow(Shuffling):
        seconds = 0.0

        def send(self, data: bytes) -> None:
            ticking_clock.elapsed += self.seconds
            super().send(data)

    stream = Slow()
    channel = opened(stream, ticking_clock)
    assert channel.round_trip == math.inf
    for stream.seconds, shortest in ((0.5, 0.5), (0.125, 0.125), (2.0, 0.125)):
        channel.ask(wire.lstat("1"))
        assert channel.round_trip == shortest
