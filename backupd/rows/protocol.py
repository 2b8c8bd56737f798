"""The messages between the parent and its worker processes: length-prefixed MessagePack over the worker's pipes.

A worker learns everything through this channel and nothing through its arguments or environment. It ends when the
channel closes.
"""

from __future__ import annotations

import struct
from array import array
from typing import IO, NamedTuple

import msgspec

_LENGTH = struct.Struct("<I")
_SPAN = struct.Struct("<QQ32s")


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message to every worker, with everything it needs for one snapshot."""

    number: int
    """This worker's number, from 0 and below `workers`."""
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
    """Bytes of rows that a worker may hold in memory, all segments together."""
    open_limit: int
    """Bytes of unfinished packs that a worker may hold in the spool."""
    pack_size: int


class CopyTask(msgspec.Struct, frozen=True, tag=True):
    """The task of reading the rows of one table, or of a range of its heap blocks."""

    task: int
    sql: str
    data_class: str
    routed: bool
    """Whether each row begins with its tenant."""
    tenant: str | None
    """Tenant of all rows when not routed; None is the shared segment."""
    null_to_shared: bool
    """Whether a routed row whose tenant is NULL goes to the shared segment; otherwise it fails the run."""
    locks: tuple[tuple[int, str], ...]
    """The oid of each table that is read, and the statements that lock it first (see `Psql.lock`)."""
    mask: int
    """A row whose checksum has none of these bits ends a chunk."""


class BytesTask(msgspec.Struct, frozen=True, tag=True):
    """The task of storing a small file that the parent already holds (schema, globals)."""

    task: int
    data_class: str
    tenant: str | None
    data: bytes


class CommandTask(msgspec.Struct, frozen=True, tag=True):
    """The task of storing a file that a program writes to its standard output (large objects)."""

    task: int
    data_class: str
    tenant: str | None
    command: list[str]


class SegmentReply(msgspec.Struct, frozen=True, tag=True):
    """The answer to `SegmentWanted`."""

    pseudonym: str
    """The segment's pseudonym; when empty, the rows are counted and not kept."""


class KeyReply(msgspec.Struct, frozen=True, tag=True):
    """The answer to `KeyWanted`: the public half of the segment's key."""

    public: bytes


class Release(msgspec.Struct, frozen=True, tag=True):
    """The command to release the exported snapshot: all rows are read."""


class Finish(msgspec.Struct, frozen=True, tag=True):
    """The command to close what is open, report the remaining packs, and end."""


class Proceed(msgspec.Struct, frozen=True, tag=True):
    """The answer to a `PackDone`: the spool has space again."""


Command = Setup | CopyTask | BytesTask | CommandTask | SegmentReply | KeyReply | Release | Finish | Proceed


class SegmentWanted(msgspec.Struct, frozen=True, tag=True):
    """The question for the segment of a data class and a tenant."""

    data_class: str
    tenant: str | None


class KeyWanted(msgspec.Struct, frozen=True, tag=True):
    """The question for a segment's key, asked when the segment gets a pack.

    Most of many segments never get one, and their keys would take more memory than their rows.
    """

    pseudonym: str


class PackDone(msgspec.Struct, frozen=True, tag=True):
    """The report of a finished pack that lies in the spool."""

    container: int
    """The worker's own (negative) number of the container, as used in runs."""
    pseudonym: str
    path: str
    sha256: str
    size: int
    ids: bytes


class Span(NamedTuple):
    """The rows or bytes that one task read for one segment."""

    rows: int
    size: int
    sha256: str
    runs: array[int]
    """References to chunks as triples: container, first chunk, number of chunks."""

    def packed(self) -> bytes:
        """Encode the span in a fifth of the memory: the parent keeps one for every task and segment for long."""
        return _SPAN.pack(self.rows, self.size, bytes.fromhex(self.sha256)) + self.runs.tobytes()


def unpack_span(packed: bytes) -> Span:
    """Decode a span that `Span.packed` encoded."""
    rows, size, sha256 = _SPAN.unpack_from(packed)
    runs = array("q")
    runs.frombytes(packed[_SPAN.size :])
    return Span(rows, size, sha256.hex(), runs)


class TaskDone(msgspec.Struct, frozen=True, tag=True):
    """The report that a task is finished."""

    task: int
    rows: int
    spans: list[tuple[str, bytes]]
    """Pseudonym and packed `Span` of every segment that got rows."""


class Advanced(msgspec.Struct, frozen=True, tag=True):
    """Counters of progress since the last such message: bytes and rows read, bytes added."""

    read: int
    rows: int
    added: int
    """Plain bytes of chunks that were not known."""


class Spilled(msgspec.Struct, frozen=True, tag=True):
    """A spill file: new chunks of segments too small for packs of their own, which go into the segments' parts."""

    path: str
    key: bytes
    """Key that the file is sealed under."""
    runs: list[tuple[int, int]]
    """Where each run begins and ends in the file, in bytes."""


class SnapshotReleased(msgspec.Struct, frozen=True, tag=True):
    """The report that this worker no longer holds the exported snapshot."""


class WorkerFinished(msgspec.Struct, frozen=True, tag=True):
    """The last message of a worker that did everything it was asked."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The report that the worker cannot continue; `family` names a class of backupd.errors."""

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
    """Write one message to a pipe. Raises OSError when the other side has closed it."""
    data = _encoder.encode(message)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive_command(pipe: IO[bytes]) -> Command | None:
    """Read the next command; None when the parent has closed the pipe."""
    data = _frame(pipe)
    return None if data is None else _commands.decode(data)


def receive_event(pipe: IO[bytes]) -> Event | None:
    """Read the next event; None when the worker has closed the pipe."""
    data = _frame(pipe)
    return None if data is None else _events.decode(data)


def _frame(pipe: IO[bytes]) -> bytes | None:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    return data if len(data) == length else None
