"""What the parent and its worker processes say to each other: length-prefixed MessagePack over the worker's pipes.

A worker learns everything through this channel, nothing through its arguments or environment, and ends when it closes.
"""

from __future__ import annotations

import struct
from array import array
from typing import IO, NamedTuple

import msgspec

_LENGTH = struct.Struct("<I")
_SPAN = struct.Struct("<QQ32s")


class Setup(msgspec.Struct, frozen=True, tag=True):
    """First message of every worker: all it needs for one snapshot."""

    number: int
    """This worker's number, below `workers`."""
    workers: int
    repository: str
    generation: str
    chunk_key: bytes
    compression_level: int
    spool: str
    """Folder for this run's containers."""
    index: str | None
    """SQLite file with the generation's known chunks; None when there are none."""
    psql: list[str]
    """Arguments that start psql, connected, without a script."""
    environment: dict[str, str]
    preamble: str
    """SQL that imports the exported snapshot and fixes the settings."""
    pending_limit: int
    """Bytes of rows a worker may hold in memory, all segments together."""
    open_limit: int
    """Bytes of unfinished packs a worker may hold in the spool."""
    pack_size: int


class CopyTask(msgspec.Struct, frozen=True, tag=True):
    """Rows of one table, or of a range of its heap blocks."""

    task: int
    sql: str
    data_class: str
    routed: bool
    """Whether each row begins with its tenant."""
    tenant: str | None
    """Where all rows go when not routed; None is the shared segment."""
    null_to_shared: bool
    """Whether a routed row whose tenant is NULL goes to the shared segment; it fails the run otherwise."""
    locks: tuple[tuple[int, str], ...]
    """The oid of each table that is read, and the statements that lock it before (see `Psql.lock`)."""
    mask: int
    """A row whose checksum has none of these bits ends a chunk."""


class BytesTask(msgspec.Struct, frozen=True, tag=True):
    """A small file the parent already holds (schema, globals)."""

    task: int
    data_class: str
    tenant: str | None
    data: bytes


class CommandTask(msgspec.Struct, frozen=True, tag=True):
    """A file that a program writes to its standard output (large objects)."""

    task: int
    data_class: str
    tenant: str | None
    command: list[str]


class SegmentReply(msgspec.Struct, frozen=True, tag=True):
    pseudonym: str
    """Empty: the segment's rows are counted and not kept."""


class KeyReply(msgspec.Struct, frozen=True, tag=True):
    public: bytes


class Release(msgspec.Struct, frozen=True, tag=True):
    """All rows are read: let go of the exported snapshot."""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Close what is open, hand over what is left, end."""


class Proceed(msgspec.Struct, frozen=True, tag=True):
    """The spool has room again: answer to a `PackDone`."""


Command = Setup | CopyTask | BytesTask | CommandTask | SegmentReply | KeyReply | Release | Finish | Proceed


class SegmentWanted(msgspec.Struct, frozen=True, tag=True):
    data_class: str
    tenant: str | None


class KeyWanted(msgspec.Struct, frozen=True, tag=True):
    """A segment gets a pack: most of many never do, and their keys would take more memory than their rows."""

    pseudonym: str


class PackDone(msgspec.Struct, frozen=True, tag=True):
    """A finished pack lies in the spool."""

    container: int
    """The worker's own (negative) number of it, as used in runs."""
    pseudonym: str
    path: str
    sha256: str
    size: int
    ids: bytes


class Span(NamedTuple):
    """What one task read for one segment."""

    rows: int
    size: int
    sha256: str
    runs: array[int]
    """Triples container, first chunk, number."""

    def packed(self) -> bytes:
        """A fifth of the memory: the parent keeps one for every task and segment until the parts are written."""
        return _SPAN.pack(self.rows, self.size, bytes.fromhex(self.sha256)) + self.runs.tobytes()


def unpack_span(packed: bytes) -> Span:
    rows, size, sha256 = _SPAN.unpack_from(packed)
    runs = array("q")
    runs.frombytes(packed[_SPAN.size :])
    return Span(rows, size, sha256.hex(), runs)


class TaskDone(msgspec.Struct, frozen=True, tag=True):
    task: int
    rows: int
    spans: list[tuple[str, bytes]]
    """Pseudonym and packed `Span` of every segment that got rows."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """Counters since the last such message."""

    read: int
    rows: int
    added: int
    """Plain bytes of chunks that were not known."""


class Spilled(msgspec.Struct, frozen=True, tag=True):
    """New chunks of segments too small for packs of their own, left in the spool; they go into the segments' parts."""

    path: str
    key: bytes
    """What the file is sealed under."""
    runs: list[tuple[int, int]]
    """Where each begins and ends in the file."""


class SnapshotReleased(msgspec.Struct, frozen=True, tag=True):
    """The exported snapshot is no longer held here."""


class WorkerFinished(msgspec.Struct, frozen=True, tag=True):
    """The last message of a worker that did all it was asked."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The worker cannot go on; `family` names a class of backupd.errors."""

    family: str
    message: str
    hint: str


Event = (
    SegmentWanted | KeyWanted | PackDone | TaskDone | Advanced | Spilled | SnapshotReleased | WorkerFinished | Failed
)

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(Command)
_events = msgspec.msgpack.Decoder(Event)


def send(pipe: IO[bytes], message: Command | Event) -> None:
    data = _encoder.encode(message)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive_command(pipe: IO[bytes]) -> Command | None:
    """None when the parent has closed the pipe."""
    data = _frame(pipe)
    return None if data is None else _commands.decode(data)


def receive_event(pipe: IO[bytes]) -> Event | None:
    """None when the worker has closed the pipe."""
    data = _frame(pipe)
    return None if data is None else _events.decode(data)


def _frame(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None
