"""The messages between the parent, its workers and their packers: length-prefixed MessagePack over pipes.

They learn everything through these channels and nothing through their arguments or environment, but for the numbers of
the packer's descriptors. They end when the channels close.
"""

from __future__ import annotations

import sqlite3
import struct
from array import array
from typing import IO, NamedTuple

import msgspec

from backupd.errors import BackupdError

_LENGTH = struct.Struct("<I")
_SPAN = struct.Struct("<QQ32s")


class _Message(msgspec.Struct, frozen=True):
    """A message, of which nothing but its kind is ever printed: keys, rows and tenants' names pass through here."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Setup(_Message, frozen=True, tag=True):
    """The first message to every worker, with everything it needs for one snapshot."""

    number: int
    """This worker's number, from 0 and below `workers`."""
    workers: int
    repository: str
    region: str
    generation: str
    database: str
    """The database's real name."""
    chunk_key: bytes
    tenant_key: bytes
    """The key of `TenantTags`, by which the worker names segments itself: with thousands, asking takes longer."""
    own_clocks: list[str]
    incarnations: dict[str, tuple[int, bool]]
    """See `SegmentNames`: incarnation, and whether it was purged."""
    last_section: int
    """The highest number of a section in the generation so far."""
    compression_level: int
    spool: str
    """Folder for this run's blocks and packs."""
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
    """Plain bytes of unfinished sections that a worker may hold in the spool."""
    pack_size: int
    """Bytes of finished sections that make a pack."""


class CopyTask(_Message, frozen=True, tag=True):
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
    table: str
    """Schema and name of the table, for messages: only where the task is routed, as other schemas may be tenants'."""
    mask: int
    """A row whose checksum has none of these bits ends a chunk."""
    hash_join: bool = False
    """Whether the server may join by a hash table: the targets of the foreign keys fit into its memory."""
    encoding: str = "UTF8"
    """PostgreSQL's name of the encoding in which the rows come."""


class StretchTask(_Message, frozen=True, tag=True):
    """The task of reading consecutive extents of one table by one statement, for which the server hashes once."""

    sql: str
    """As a `CopyTask`'s, but each row begins with the number of its extent among these, from 0, and a tab."""
    extents: list[CopyTask]


class MeetTask(_Message, frozen=True, tag=True):
    """The task of learning whose rows a range of a table has, all of which an earlier run has stored."""

    copy: CopyTask


class BytesTask(_Message, frozen=True, tag=True):
    """The task of storing a small file that the parent already holds (schema, globals)."""

    task: int
    data_class: str
    tenant: str | None
    data: bytes


class CommandTask(_Message, frozen=True, tag=True):
    """The task of storing a file that a program writes to its standard output (large objects)."""

    task: int
    data_class: str
    tenant: str | None
    command: list[str]


class PlacesReply(_Message, frozen=True, tag=True):
    """The answer to `PlacesWanted`: the keyring and the place of each key, in the same order."""

    places: list[tuple[str, int]]


class Closing(_Message, frozen=True, array_like=True):
    """One segment whose last section of this run is to end."""

    pseudonym: str
    manifest: bytes
    """The manifest to put there; empty when another worker has it, or when the old one holds."""
    data_class: str
    tenant: str | None
    """Both are used only for a segment that the worker has not met."""


class CloseSegments(_Message, frozen=True, tag=True):
    """The command to end the sections of these segments, which is answered by `SegmentsClosed`."""

    segments: list[Closing]


class Release(_Message, frozen=True, tag=True):
    """The command to release the exported snapshot: all rows are read."""


class Finish(_Message, frozen=True, tag=True):
    """The command to close what is open, have the packer report the remaining packs, and end."""


class Proceed(_Message, frozen=True, tag=True):
    """The answer to a `PackDone`: the spool has space again."""


Task = CopyTask | StretchTask | MeetTask | BytesTask | CommandTask
Command = Setup | Task | PlacesReply | CloseSegments | Release | Finish | Proceed


class NewKey(_Message, frozen=True, array_like=True):
    """A key that the worker drew for one segment, and whose it is."""

    pseudonym: str
    tags: tuple[str, str, str]
    data_class: str
    tenant: str | None
    key: bytes


class PlacesWanted(_Message, frozen=True, tag=True):
    """The question for places in a keyring, asked when the first sections under these keys go into a pack."""

    keys: list[NewKey]


class SegmentsClosed(_Message, frozen=True, tag=True):
    """The answer to `CloseSegments`."""


class PackDone(_Message, frozen=True, tag=True):
    """The report of a finished pack that lies in the spool."""

    path: str
    name: str
    sha256: str
    size: int
    keyrings: list[str]
    sections: list[tuple[str, int, int, bytes, bool]]
    """Pseudonym, number, bytes and chunk ids of each section in order, and whether it has a manifest."""


class Span(NamedTuple):
    """The rows or bytes that one task read for one segment."""

    rows: int
    size: int
    sha256: bytes
    runs: array[int]
    """References to chunks as triples: section, first chunk, number of chunks."""

    def packed(self) -> bytes:
        """Encode the span in a fifth of the memory: the parent keeps one for every task and segment for long."""
        return _SPAN.pack(self.rows, self.size, self.sha256) + self.runs.tobytes()


def span_counts(packed: bytes) -> tuple[int, int]:
    """Return rows and bytes of a span that `Span.packed` encoded, in a fifth of the time: there may be a million."""
    rows, size, _ = _SPAN.unpack_from(packed)
    return rows, size


def unpack_span(packed: bytes) -> Span:
    """Decode a span that `Span.packed` encoded."""
    rows, size, sha256 = _SPAN.unpack_from(packed)
    runs = array("q")
    runs.frombytes(packed[_SPAN.size :])
    return Span(rows, size, sha256, runs)


class TaskDone(_Message, frozen=True, tag=True):
    """The report that a task is finished."""

    task: int
    rows: int
    spans: list[tuple[str, bytes]]
    """Pseudonym and packed `Span` of every segment that got rows."""
    worker: int


class StretchDone(_Message, frozen=True, tag=True):
    """The report that all extents of a stretch are finished."""

    extents: list[TaskDone]


class Met(_Message, frozen=True, tag=True):
    """The report that a `MeetTask` is finished: the worker now knows whose these segments are."""

    segments: list[str]
    """The pseudonyms of these segments."""
    worker: int


class Advanced(_Message, frozen=True, tag=True):
    """Counters of progress since the last such message: bytes and rows read, bytes added."""

    read: int
    rows: int
    added: int
    """Plain bytes of chunks that were not known."""


class SnapshotReleased(_Message, frozen=True, tag=True):
    """The report that this worker no longer holds the exported snapshot."""


class WorkerFinished(_Message, frozen=True, tag=True):
    """The last message of a worker that did everything it was asked."""


class PackerFinished(_Message, frozen=True, tag=True):
    """The last message of a worker's packer, after which all its packs were reported."""


class Failed(_Message, frozen=True, tag=True):
    """The report that the worker cannot continue; `family` names a class of backupd.errors."""

    family: str
    message: str
    hint: str


FromWorker = SegmentsClosed | TaskDone | StretchDone | Met | Advanced | SnapshotReleased | WorkerFinished | Failed
FromPacker = PlacesWanted | PackDone | PackerFinished | Failed
Event = FromWorker | FromPacker

_encoder = msgspec.msgpack.Encoder()
_commands = msgspec.msgpack.Decoder(Command)
_events = msgspec.msgpack.Decoder(Event)


def describe(error: BaseException) -> Failed:
    """Encode an error for the pipe: ours completely, any other by its kind only, because it might quote a row."""
    if isinstance(error, BackupdError):
        return Failed(type(error).__name__, error.message, error.hint)
    if isinstance(error, sqlite3.DatabaseError):
        hint = "If it is damaged, the next run sets it aside and starts a new generation."
        return Failed(BackupdError.__name__, "the node's index cannot be read", hint)
    return Failed(BackupdError.__name__, f"a worker failed ({type(error).__name__})", "")


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
