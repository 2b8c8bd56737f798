"""The facts by which a backup decides what it need not read, and the reasons for which it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

UNIT = 256
"""Heap blocks that count as one when changes are looked up, 2 MiB: every extent begins at a multiple of it."""


class Reason(StrEnum):
    """The reasons for which something is read although an earlier backup has read it."""

    OLD_SERVER = "the server is older than PostgreSQL 17"
    STANDBY = "the server is a standby, which makes no checkpoints of its own"
    NOT_SUMMARIZED = "summarize_wal is off on the server"
    NOT_DURABLE = "fsync is off on the server"
    NO_CHECKPOINT = "the role may not make checkpoints"
    NOT_ALLOWED = "the role may not ask which blocks have changed"
    SLOW_SUMMARIES = "the server did not summarize its WAL in time"
    NOTHING_REMEMBERED = "nothing of the kind was read before"
    ANOTHER_SERVER = "the server was started, restored, promoted or upgraded since"
    WENT_BACK = "the server's WAL is not the one that was seen before"
    LONG_TRANSACTION = "a transaction was running that had begun long before the last backup"
    GAP = "WAL summaries are missing"
    AUDIT = "it is time to compare everything with what would have been skipped"
    DISTRUSTED = "an audit found a difference, and nobody has looked since"
    UNLOGGED = "the table is unlogged"
    NOT_HEAP = "the table is no heap"
    OUTPUT = "a column's text may change without its row"
    CONDITION = "an extension selects the table's rows"
    ROUTE = "rows find their tenant in a way whose changes are not seen"
    ROUTE_CHANGED = "the rows that lead to a tenant have changed"
    NEW_FILE = "the table's file was made, truncated or dropped"
    CHANGED = "blocks have changed"


OBSTACLES = frozenset(
    {
        Reason.OLD_SERVER,
        Reason.STANDBY,
        Reason.NOT_SUMMARIZED,
        Reason.NOT_DURABLE,
        Reason.NO_CHECKPOINT,
        Reason.NOT_ALLOWED,
    }
)
"""The reasons that stay until somebody changes something of the server: saying them once is enough."""


class WalPair(NamedTuple):
    """A place in the WAL with the next transaction id there: every record before it is of an older transaction."""

    lsn: int
    next_xid: int
    """With its epoch, so that it never begins again."""


class Summary(NamedTuple):
    """A WAL summary that the server keeps: the part of the WAL that it covers."""

    timeline: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ServerMark:
    """The marks by which the same server in the same life is known again: all have to be the same."""

    system: int
    """The system identifier that PostgreSQL drew for the cluster."""
    timeline: int
    started: str
    """When the server was started: to put files of another time into place, it has to be stopped."""
    version: int
    database: int
    """The oid of the database, by which files are named."""


@dataclass(frozen=True, slots=True)
class Look:
    """The state of a server under an exported snapshot, after a checkpoint that was forced behind it."""

    server: ServerMark
    oldest: int
    """Oldest transaction that the exported snapshot takes for running: all before it have ended."""
    lsn: int
    """A place in the WAL behind everything that the exported snapshot shows."""
    durable: int
    """The place up to which the checkpoint, made after the export, has put the WAL on disk."""
    pairs: tuple[WalPair, ...]
    """Pairs noted by checkpoints of this run, before and after the export."""
    summaries: tuple[Summary, ...]


@dataclass(frozen=True, slots=True)
class Base:
    """The state to which remembered extents belong: that of the last published snapshot whose reading is remembered."""

    server: ServerMark
    oldest: int
    lsn: int
    summarized: int
    """Where a summary ended then: it has to be there still."""
    pairs: tuple[WalPair, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the WAL that may have changed what the exported snapshot shows, with the summaries that cover it."""

    start: int
    end: int
    summaries: tuple[Summary, ...]


class FileId(NamedTuple):
    """A relation's file in the database."""

    tablespace: int
    number: int


@dataclass(frozen=True, slots=True)
class BlockChanges:
    """The changed blocks of one database's heaps, as the summaries of a window name them."""

    units: Mapping[FileId, frozenset[int]] = field(default_factory=dict)
    """Numbers of the units of `UNIT` blocks in which a block has changed."""
    limited: frozenset[FileId] = frozenset()
    """Files that were made, truncated or dropped."""
    whole: bool = False
    """Whether the database's files were made, moved or dropped as a whole."""

    def touch(self, file: FileId, start: int = 0, end: int | None = None) -> bool:
        """Check whether a block from `start` up to but excluding `end` has changed; both are multiples of `UNIT`."""
        units = self.units.get(file, frozenset())
        if end is not None and end - start < UNIT * len(units):
            return any(unit in units for unit in range(start // UNIT, end // UNIT))
        return any(unit >= start // UNIT and (end is None or unit < end // UNIT) for unit in units)

    def renewed(self, file: FileId) -> bool:
        """Check whether a file was made, truncated or dropped."""
        return self.whole or file in self.limited


class ColumnFacts(NamedTuple):
    """A column as the catalog has it, dropped ones too."""

    number: int
    name: str
    type: str
    """Schema and name of the type, with `[]` behind those of an array's elements."""
    modifier: int
    dropped: bool
    generated: str
    """Empty for a plain column, else as in the catalog."""
    version: str
    """The catalog row's transaction: it is another one when anything of the row was changed."""
    labels: str = ""
    """The labels of an enum, each with the transaction that wrote it, so that a renamed one never has its name again;
    empty for other types."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """A table as far as it matters to whether its rows can have changed."""

    oid: int
    file: FileId
    logged: bool
    heap: bool
    """Whether it is of PostgreSQL's own kind of tables: another writes a WAL of its own."""
    columns: tuple[ColumnFacts, ...]

    def column(self, name: str) -> ColumnFacts | None:
        """Return a column that is not dropped."""
        return next((one for one in self.columns if one.name == name and not one.dropped), None)
