"""An SFTP server that does wrong on demand: a rule names a kind of request, which of them, and what happens."""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

from doubles.servers.pyssh import PySsh
from doubles.servers.sftp_engine import (
    ATTRS,
    DATA,
    EXTENDED,
    FAILURE,
    FSTAT,
    HANDLE,
    INIT,
    LSTAT,
    NAME,
    OK,
    WRITE,
    Fields,
    SftpEngine,
    packet,
    status,
    text,
)


@dataclass
class Rule:
    """`act` on the `nth` request of `kind`, counted over all connections; `every` repeats it.

    A kind is a number, or the name of an extension, or None for any.

    Acts: fail (status Failure, no effect), drop (answered OK, no effect), half (half of the data written, answered OK),
    flip (the last bit of the data written wrong, answered OK), refuse (effect, answered Failure),
    lose (effect, no answer), cut (connection ends before the effect), cut-after (effect, connection ends unanswered),
    stall (nothing is answered any more), wrong-id, wrong-type, ok-instead, huge, cut-short, garbage, long-name,
    grow (sizes told are larger), more (more data than asked for), deny (status Permission denied),
    absent (status No such file).
    """

    act: str
    kind: int | bytes | None = None
    nth: int = 1
    every: int = 0
    seen: int = 0

    def hits(self, kind: int | bytes) -> bool:
        if self.kind is not None and kind != self.kind:
            return False
        self.seen += 1
        return self.seen == self.nth or bool(
            self.every and self.seen > self.nth and (self.seen - self.nth) % self.every == 0
        )


@dataclass
class Mischief:
    """What one hostile server does; shared by its connections. `requests` counts all of them."""

    rules: list[Rule] = field(default_factory=list)
    room: int | None = None
    """Bytes that may be written before the disk is full."""
    requests: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def act_on(self, kind: int | bytes) -> str | None:
        with self.lock:
            self.requests += 1
            hits = [rule.act for rule in self.rules if rule.hits(kind)]
        return hits[0] if hits else None


class HostileEngine(SftpEngine):
    """Honest but for the mischief."""

    def __init__(self, home: Path, server: HostileSftp) -> None:
        super().__init__(home)
        self.server = server
        self.mischief = server.mischief

    def greet(self) -> bytes:
        act = self.mischief.act_on(INIT)
        if act == "garbage":
            return b"Welcome to the machine room!\r\n"
        if act == "wrong-type":
            return packet(2, struct.pack(">I", 6))
        if act == "stall":
            self.server.over.wait(30)
        return super().greet()

    def answer(self, kind: int, body: bytes) -> bytes:
        act = self.mischief.act_on(_asked(kind, body))
        (number,) = struct.unpack_from(">I", body)
        before = {
            "fail": status(number, FAILURE),
            "deny": status(number, 3),
            "drop": status(number, OK),
            "absent": status(number, 2),
        }
        if act in before:
            return before[act]
        if act == "stall":
            self.server.over.wait(30)
        if act == "cut":
            self.server.cut()
            return b""
        if act == "half":
            body = _halved(body)
        if act == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        reply = super().answer(kind, body)
        if act == "cut-after":
            self.server.cut()
            return b""
        return SPOILERS.get(act or "", lambda reply, _number: reply)(reply, number)

    def store(self, file: int, data: bytes, offset: int) -> None:
        mischief = self.mischief
        if mischief.room is not None:
            with mischief.lock:
                if mischief.room < len(data):
                    raise OSError(28, "no room")
                mischief.room -= len(data)
        super().store(file, data, offset)

    def statvfs(self, path: Path) -> tuple[int, ...]:
        seen = list(super().statvfs(path if path.exists() else self.home))
        if self.mischief.room is not None:
            seen[1], seen[3], seen[4] = 1, self.mischief.room, self.mischief.room
        return tuple(seen)


class HostileSftp(PySsh):
    """A server whose sessions share one `mischief`, which tests may change at any time."""

    def __init__(self, *rules: Rule, home: Path | None = None) -> None:
        self.mischief = Mischief(list(rules))
        self.over = threading.Event()
        super().__init__(home, lambda home: HostileEngine(home, self))

    def __exit__(self, *_: object) -> None:
        self.over.set()
        super().__exit__()


def published(server: HostileSftp) -> dict[str, bytes]:
    """The objects of region `be` under final names, as they lie on the server."""
    root = server.home / "be"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.parts[len(root.parts)] != "tmp"
    }


def _asked(kind: int, body: bytes) -> int | bytes:
    """What rules call a request."""
    fields = Fields(body)
    fields.number()
    return fields.string() if kind == EXTENDED else kind


def _halved(body: bytes) -> bytes:
    fields = Fields(body)
    fields.number()
    handle, offset, data = fields.string(), fields.long(), fields.string()
    return body[:4] + text(handle) + struct.pack(">Q", offset) + text(data[: len(data) // 2])


def _grown(reply: bytes, _number: int) -> bytes:
    if reply[4] != ATTRS:
        return reply
    (size,) = struct.unpack_from(">Q", reply, 13)
    return reply[:13] + struct.pack(">Q", size + 1_000_000) + reply[21:]


def _endless(_reply: bytes, number: int) -> bytes:
    """A hundred more names, every second one a folder's, and never the last."""
    names = [
        text(f"{number}-{at}".encode()) + text(b"") + struct.pack(">II", 4, 0o040755 if at % 2 else 0o100644)
        for at in range(100)
    ]
    return packet(NAME, struct.pack(">II", number, len(names)) + b"".join(names))


def _wordy(_reply: bytes, number: int) -> bytes:
    """Few names, each as long as a path may be."""
    names = [text(b"%03d" % at + b"x" * 4000) + text(b"") + struct.pack(">II", 4, 0o100644) for at in range(50)]
    return packet(NAME, struct.pack(">II", number, len(names)) + b"".join(names))


SPOILERS = {
    "lose": lambda _reply, _number: b"",
    "wrong-id": lambda reply, number: reply[:5] + struct.pack(">I", number + 77) + reply[9:],
    "wrong-type": lambda _reply, number: packet(HANDLE, struct.pack(">I", number) + text(b"h")),
    "refuse": lambda _reply, number: status(number, FAILURE),
    "ok-instead": lambda _reply, number: status(number, OK),
    "huge": lambda _reply, _number: struct.pack(">IB", 0x7FFFFFFF, DATA),
    "cut-short": lambda _reply, number: packet(DATA, struct.pack(">II", number, 5000) + b"abc"),
    "garbage": lambda _reply, _number: os.urandom(200),
    "unknown-type": lambda _reply, number: packet(99, struct.pack(">I", number)),
    "long-name": lambda _reply, number: packet(NAME, struct.pack(">II", number, 1) + text(b"x" * 9000) + text(b"")),
    "slash-name": lambda _reply, number: packet(
        NAME, struct.pack(">II", number, 1) + text(b"../up") + text(b"") + struct.pack(">I", 0)
    ),
    "no-names": lambda _reply, number: packet(NAME, struct.pack(">II", number, 0)),
    "endless": _endless,
    "wordy": _wordy,
    "grow": _grown,
    "short": lambda reply, number: packet(DATA, struct.pack(">I", number) + text(reply[13 : 13 + 1000])),
    "more": lambda _reply, number: packet(DATA, struct.pack(">I", number) + text(b"x" * 200_000)),
}

__all__ = ["FSTAT", "LSTAT", "WRITE", "HostileSftp", "Mischief", "Rule", "published"]
