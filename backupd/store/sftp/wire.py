"""SFTP version 3 as bytes (draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL). Pure: no socket, no thread.

Bytes from the server are hostile until decoded here: every length is checked against what is left, every type against
what can answer, and no field is taken that does not fill its packet.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from backupd.errors import StoreError

VERSION = 3
LONGEST_PACKET = 256 * 1024
"""Bytes of a packet: OpenSSH's SFTP_MAX_MSG_LENGTH; a longer one is refused unread."""
_LONGEST_TEXT = 4096
EXCHANGE = "posix-rename@openssh.com"
COPY = "copy-data"


class Ask(IntEnum):
    """The types of packets that a client may send."""

    INIT = 1
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    RENAME = 18
    EXTENDED = 200


class Answer(IntEnum):
    """The types of packets that a server may send."""

    VERSION = 2
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED_REPLY = 201


class Code(IntEnum):
    """The status codes of version 3."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    UNSUPPORTED = 8


class Mode(IntFlag):
    """The flags with which a file is opened."""

    READ = 0x01
    WRITE = 0x02
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class ProtocolError(StoreError):
    """The server sent something that SFTP does not allow."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the store does not speak SFTP properly: {what}",
            hint="Check that the account's shell prints nothing at login and that SFTP is switched on for it.",
        )


@dataclass(frozen=True, slots=True)
class SftpRequest:
    """One request, without the id that its channel gives it."""

    ask: Ask
    payload: bytes
    cost: int = 0
    """Bytes of answer that the request asks for, beyond a small one."""

    def encode(self, number: int) -> bytes:
        return struct.pack(">IBI", 5 + len(self.payload), self.ask, number) + self.payload


@dataclass(frozen=True, slots=True)
class Status:
    """The result of a request. The server's message is dropped, because it can quote anything."""

    code: int

    @property
    def ok(self) -> bool:
        return self.code == Code.OK


@dataclass(frozen=True, slots=True)
class Handle:
    """A file or folder opened on the server."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Data:
    """The bytes that a read returned."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of a file; None where the server did not send one."""

    size: int | None = None
    mode: int | None = None
    modified: int | None = None
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class NameReply:
    """Some entries of a folder, each a name with its attributes."""

    entries: tuple[tuple[str, Attributes], ...]


@dataclass(frozen=True, slots=True)
class Extended:
    """The answer to an extension request, still encoded."""

    value: bytes


Reply = Status | Handle | Data | Attributes | NameReply | Extended


# Requests: what we send
def hello() -> bytes:
    return struct.pack(">IBI", 5, Ask.INIT, VERSION)


def open_file(path: str, mode: Mode, permissions: int | None = None) -> SftpRequest:
    attributes = struct.pack(">I", 0) if permissions is None else struct.pack(">II", 0x4, permissions)
    return SftpRequest(Ask.OPEN, _text(path) + struct.pack(">I", mode) + attributes)


def close(handle: Handle) -> SftpRequest:
    return SftpRequest(Ask.CLOSE, _string(handle.value))


def read(handle: Handle, offset: int, length: int) -> SftpRequest:
    return SftpRequest(Ask.READ, _string(handle.value) + struct.pack(">QI", offset, length), cost=length)


def write(handle: Handle, offset: int, data: bytes) -> SftpRequest:
    return SftpRequest(Ask.WRITE, b"".join((_string(handle.value), struct.pack(">QI", offset, len(data)), data)))


def lstat(path: str) -> SftpRequest:
    return SftpRequest(Ask.LSTAT, _text(path))


def fstat(handle: Handle) -> SftpRequest:
    return SftpRequest(Ask.FSTAT, _string(handle.value))


def chmod(path: str, permissions: int) -> SftpRequest:
    return SftpRequest(Ask.SETSTAT, _text(path) + struct.pack(">II", 0x4, permissions))


def fchmod(handle: Handle, permissions: int) -> SftpRequest:
    return SftpRequest(Ask.FSETSTAT, _string(handle.value) + struct.pack(">II", 0x4, permissions))


def lchmod(path: str, permissions: int) -> SftpRequest:
    return SftpRequest(
        Ask.EXTENDED, _string(b"lsetstat@openssh.com") + _text(path) + struct.pack(">II", 0x4, permissions)
    )


def opendir(path: str) -> SftpRequest:
    return SftpRequest(Ask.OPENDIR, _text(path))


def readdir(handle: Handle) -> SftpRequest:
    return SftpRequest(Ask.READDIR, _string(handle.value))


def remove(path: str) -> SftpRequest:
    return SftpRequest(Ask.REMOVE, _text(path))


def mkdir(path: str, mode: int = 0o700) -> SftpRequest:
    return SftpRequest(Ask.MKDIR, _text(path) + struct.pack(">II", 0x4, mode))


def rmdir(path: str) -> SftpRequest:
    return SftpRequest(Ask.RMDIR, _text(path))


def rename(old: str, new: str) -> SftpRequest:
    """Make the plain rename request, by which objects are published: OpenSSH's server refuses to overwrite by it."""
    return SftpRequest(Ask.RENAME, _text(old) + _text(new))


def exchange(old: str, new: str) -> SftpRequest:
    """Make a rename request that replaces what stands at `new` at once. Objects are never published by it."""
    return SftpRequest(Ask.EXTENDED, _string(EXCHANGE.encode()) + _text(old) + _text(new))


def copy(source: Handle, offset: int, length: int, target: Handle, at: int) -> SftpRequest:
    """Make the request by which the server copies bytes from one open file to another; `length` is not 0."""
    return SftpRequest(
        Ask.EXTENDED,
        b"".join(
            (
                _string(COPY.encode()),
                _string(source.value),
                struct.pack(">QQ", offset, length),
                _string(target.value),
                struct.pack(">Q", at),
            )
        ),
    )


def realpath(path: str) -> SftpRequest:
    return SftpRequest(Ask.REALPATH, _text(path))


def fsync(handle: Handle) -> SftpRequest:
    return SftpRequest(Ask.EXTENDED, _string(b"fsync@openssh.com") + _string(handle.value))


def statvfs(path: str) -> SftpRequest:
    return SftpRequest(Ask.EXTENDED, _string(b"statvfs@openssh.com") + _text(path))


def limits() -> SftpRequest:
    return SftpRequest(Ask.EXTENDED, _string(b"limits@openssh.com"))


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _text(value: str) -> bytes:
    return _string(value.encode("utf-8", "surrogateescape"))


# Answers: what the server sends
class Framer:
    """A splitter of a byte stream into packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield the packets that the next bytes complete, each as its type and its body.

        Raises ProtocolError for a packet that is empty or longer than `LONGEST_PACKET`.
        """
        self._buffer += piece
        start = 0
        while len(self._buffer) - start >= 5:
            length, kind = struct.unpack_from(">IB", self._buffer, start)
            if not 1 <= length <= LONGEST_PACKET:
                raise ProtocolError(f"a packet of {length} bytes")
            end = start + 4 + length
            if len(self._buffer) < end:
                break
            yield kind, bytes(memoryview(self._buffer)[start + 5 : end])
            start = end
        del self._buffer[:start]


def decode_version(kind: int, body: bytes) -> dict[str, bytes]:
    """Return the extensions that a server names in its greeting.

    Raises ProtocolError unless the greeting is of version 3.
    """
    if kind != Answer.VERSION:
        raise ProtocolError(f"a greeting of type {kind}")
    reader = _Reader(body)
    if (version := reader.number()) != VERSION:
        raise ProtocolError(f"version {version}")
    extensions = {}
    while reader.left:
        name = reader.text()
        extensions[name] = reader.string()
    return extensions


def decode_reply(kind: int, body: bytes) -> tuple[int, Reply]:
    """Return the id of the request that a packet answers, and the answer. Raises ProtocolError."""
    reader = _Reader(body)
    number = reader.number()
    decode = _DECODERS.get(kind)
    if decode is None:
        raise ProtocolError(f"a reply of type {kind}")
    reply = decode(reader)
    # A status may lack the words, or carry more than those: older servers do both.
    if reader.left and kind != Answer.STATUS:
        raise ProtocolError("a reply with something left over")
    return number, reply


def decode_limits(value: bytes) -> tuple[int, int]:
    """Return the longest read and the longest write, in bytes; 0 where the server gives none."""
    reader = _Reader(value)
    _packet, reading, writing, _handles = (reader.long() for _ in range(4))
    return reading, writing


def decode_statvfs(value: bytes) -> tuple[int, int]:
    """Return the bytes free for this account, and the bytes in all."""
    reader = _Reader(value)
    _block, fragment, blocks, _free, available, *_ = (reader.long() for _ in range(11))
    return available * fragment, blocks * fragment


class _Reader:
    """A reader of a packet's fields; a field that does not fit raises ProtocolError."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._body) - self._at

    def number(self) -> int:
        return self._unpack(">I", 4)

    def long(self) -> int:
        return self._unpack(">Q", 8)

    def string(self) -> bytes:
        length = self.number()
        if length > self.left:
            raise ProtocolError("a field longer than its packet")
        self._at += length
        return self._body[self._at - length : self._at]

    def rest(self) -> bytes:
        start, self._at = self._at, len(self._body)
        return self._body[start:]

    def text(self) -> str:
        value = self.string()
        if len(value) > _LONGEST_TEXT:
            raise ProtocolError(f"a name of {len(value)} bytes")
        return value.decode("utf-8", "surrogateescape")

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & 0x1 else None
        if flags & 0x2:
            self.long()  # user and group
        mode = self.number() if flags & 0x4 else None
        modified = None
        if flags & 0x8:
            self.number()  # time of last access
            modified = self.number()
        if flags & 0x80000000:
            for _ in range(self.number()):
                self.string()
                self.string()
        return Attributes(size, mode, modified)

    def _unpack(self, form: str, size: int) -> int:
        if size > self.left:
            raise ProtocolError("a packet cut short")
        (value,) = struct.unpack_from(form, self._body, self._at)
        self._at += size
        return int(value)


def _handle(reader: _Reader) -> Handle:
    value = reader.string()
    if not 1 <= len(value) <= 256:
        raise ProtocolError(f"a handle of {len(value)} bytes")
    return Handle(value)


def _names(reader: _Reader) -> NameReply:
    entries = []
    for _ in range(reader.number()):
        name = reader.text()
        reader.string()  # what `ls -l` would print, for people
        entries.append((name, reader.attributes()))
    return NameReply(tuple(entries))


_DECODERS: dict[int, Callable[[_Reader], Reply]] = {
    Answer.STATUS: lambda reader: Status(reader.number()),
    Answer.HANDLE: _handle,
    Answer.DATA: lambda reader: Data(reader.string()),
    Answer.NAME: _names,
    Answer.ATTRS: lambda reader: reader.attributes(),
    Answer.EXTENDED_REPLY: lambda reader: Extended(reader.rest()),
}
