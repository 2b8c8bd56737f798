"""The plan of a restore, decided from a record and the manifests of its segments before anything is touched. Pure.

The caller decides whose rows are restored by the segments it adds; the selection decides which tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from backupd.errors import DamageError, EverythingPurgedError
from backupd.model.documents import Record
from backupd.model.facts import SnapshotFacts, snapshot_facts
from backupd.model.manifest import (
    Entry,
    FactsEntry,
    FileEntry,
    RowsEntry,
    SequencesEntry,
    SequenceValue,
    Span,
    TableEntry,
)
from backupd.planning.selection import Selection

_BIG = 4 << 20
"""Bytes from which a piece is read on its own: it shares few sections with others compared to its size."""
_BUNDLE = 2 << 20
"""Bytes of small pieces read by one reader at a stretch: its sections lie side by side, and are fetched together."""

Kept = bytes | Callable[[], bytes]
"""A few bytes, or a function that returns more, which were stored outside of the plan."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[tuple[int, int, bytes]], list[int]]).decode


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table to be filled, with the sums of its pieces."""

    schema: str
    name: str
    columns: tuple[str, ...]
    rows: int
    bytes: int
    pieces: int


class Piece(NamedTuple):
    """A table's rows in one segment. There may be a hundred thousand pieces, so spans and runs are stored elsewhere."""

    table: int
    """Index of the table in the plan's tables."""
    segment: int
    """Index of the segment among those that are restored."""
    size: int
    kept: Kept
    at: int = 0
    """Where its rows begin among those of its segment: pieces that lie side by side are best read in this order."""

    def unpacked(self) -> tuple[list[Span], list[int]]:
        """Return the piece's spans and runs. Raises what `kept` raises."""
        return _unpack(self.kept if isinstance(self.kept, bytes) else self.kept())


Bundle = tuple[Piece, ...]
"""Pieces read by one reader, in this order."""


@dataclass(frozen=True, slots=True)
class RestorePlan:
    """Everything a restore does, in the order in which it does it."""

    tables: tuple[TablePlan, ...]
    """Tables with rows, biggest first; the schema alone makes the others."""
    passes: tuple[tuple[Bundle, ...], ...]
    """The passes: a table is filled in one pass, and each pass has at most `wide` tables open at once, not counting
    tables of a single piece.

    Big pieces come first, bundled by table, then the small ones, segment by segment, some segments to a bundle: a small
    segment's tables share its sections, so that reading it table by table would open each section many times.
    """
    files: dict[str, list[tuple[int, FileEntry]]]
    """Files by name, each with the index of its segment."""
    sequences: tuple[SequenceValue, ...]
    facts: SnapshotFacts
    refresh: tuple[tuple[str, str], ...]
    """Materialized views in the order to refresh them."""
    rows: int
    bytes: int
    spans: int
    """Number of digests of rows."""
    empty: frozenset[tuple[str, str]] = frozenset()
    """Tables that existed but had no rows: they have an entry."""


@dataclass(slots=True)
class _Draft:
    """A table while the manifests are still being read."""

    columns: list[str]
    rows: int = 0
    size: int = 0
    pieces: list[tuple[int, int, Kept, int]] = field(default_factory=list)
    """Segment, size, and the rest of each piece."""


class Planner:
    """Collector of the entries of a snapshot's manifests, which makes a plan of them.

    The manifests of the class `structure` come first: they define the tables that all others speak of.
    """

    def __init__(
        self,
        record: Record,
        selection: Selection | None = None,
        *,
        exact: bool = True,
        put: Callable[[bytes], Kept] = bytes,
    ) -> None:
        """Prepare for the segments of a record.

        Say not `exact` when the record's totals are of more segments than will be added. `put` stores bytes outside of
        the plan, about as many as the database has thousands of rows. Of tables that the selection does not take, no
        row is planned.
        """
        self._record = record
        self._selection = selection or Selection()
        self._exact = exact
        self._put = put
        self._defined: dict[int, TableEntry | None] = {}
        """By number; None for a table of which no row is wanted."""
        self._tables: dict[tuple[str, str], _Draft] = {}
        self._files: defaultdict[str, list[tuple[int, FileEntry]]] = defaultdict(list)
        self._sequences: list[SequenceValue] = []
        self._facts: dict[str, Any] = {}
        self._spans = 0
        self._empty: set[tuple[str, str]] = set()

    def define(self, entries: Iterable[Entry], where: str) -> None:
        """Take the tables' definitions from the entries of a segment of the class `structure`; `where` names it.

        Raises DamageError when a number is defined twice.
        """
        for entry in entries:
            if not isinstance(entry, TableEntry):
                continue
            if entry.number in self._defined:
                raise DamageError(f"{where} defines a table a second time")
            self._defined[entry.number] = entry if self._selection.takes_table(entry.schema, entry.table) else None

    def add(
        self, segment: int, entries: Iterable[Entry], where: str, *, structure: bool = False, defined: bool = True
    ) -> None:
        """Add the entries of one segment, given by its index among those that are restored; `where` names it.

        Definitions that `define` has taken already are passed over in the class `structure`, and stand nowhere else.
        Say not `defined` of a tenant whose own schema was purged: rows of tables in that are left out. Raises
        DamageError when the entries contradict those of other segments, or speak of a table that none defines.
        """
        for entry in entries:
            match entry:
                case RowsEntry():
                    self._add_rows(segment, entry, where, defined=defined)
                case TableEntry() if not structure:
                    raise DamageError(f"{where} defines a table, and is not of the class that does")
                case FileEntry():
                    self._files[entry.name].append((segment, entry))
                case SequencesEntry():
                    self._sequences += entry.values
                case FactsEntry():
                    self._add_facts(entry.facts)

    def plan(self, wide: int = 16) -> RestorePlan:
        """Return the plan of everything added; at most `wide` tables of several pieces are filled at once.

        Raises DamageError when the segments are not all the record says (more than it says, where not exact) or hold no
        schema or several, and EverythingPurgedError when the schema is among what was left out.
        """
        facts = snapshot_facts(self._facts)
        self._check(facts)
        drafts = sorted(self._tables.items(), key=lambda item: (-item[1].size, item[0]))
        pieces = [[Piece(place, *piece) for piece in draft.pieces] for place, (_, draft) in enumerate(drafts)]
        return RestorePlan(
            tables=tuple(
                TablePlan(schema, name, tuple(draft.columns), draft.rows, draft.size, len(draft.pieces))
                for (schema, name), draft in drafts
            ),
            passes=tuple(tuple(_bundles(group)) for group in _groups(pieces, wide)),
            files=dict(self._files),
            sequences=tuple(self._sequences),
            facts=facts,
            refresh=facts.refresh_order(),
            rows=sum(draft.rows for _, draft in drafts),
            bytes=sum(draft.size for _, draft in drafts),
            spans=self._spans,
            empty=frozenset(self._empty),
        )

    def _check(self, facts: SnapshotFacts) -> None:
        rows = {table: draft.rows for table, draft in self._tables.items()}
        size = sum(draft.size for draft in self._tables.values())
        totals = self._record.totals
        if not (self._fits(sum(rows.values()), totals.rows) and self._fits(size, totals.bytes)):
            raise DamageError("the segments of the snapshot do not add up to what its record says")
        for schema, name, count in facts.tables:
            if not self._fits(rows.get((schema, name), 0), count):
                raise DamageError("the segments of a table do not add up to what the snapshot says of it")
        if not self._exact and not self._files["ddl-head"]:
            raise EverythingPurgedError(
                "the schema of this snapshot was purged, too",
                hint="There is no database to restore; `recover` writes the rows that are left to files.",
            )
        if len(self._files["ddl-head"]) != 1:
            raise DamageError("the segments of the snapshot do not hold one schema")

    def _fits(self, found: int, said: int) -> bool:
        return found == said if self._exact else found <= said

    def _add_rows(self, segment: int, entry: RowsEntry, where: str, *, defined: bool) -> None:
        if entry.table not in self._defined:
            if not defined:
                return
            raise DamageError(f"{where} speaks of a table that the snapshot does not define")
        table = self._defined[entry.table]
        if table is None:
            return
        name, size = (table.schema, table.table), entry.bytes
        if not size:
            self._empty.add(name)
            return
        draft = self._tables.get(name)
        if draft is None:
            draft = self._tables[name] = _Draft(table.columns)
        if draft.columns != table.columns:
            raise DamageError(f"{where} contradicts another segment about a table's columns")
        if draft.pieces and draft.pieces[-1][0] == segment:
            raise DamageError(f"{where} lists the rows of a table twice")
        spans, runs = entry.spans, entry.runs
        self._spans += len(spans)
        draft.rows += entry.rows
        draft.size += size
        draft.pieces.append((segment, size, self._put(_pack((spans, runs))), _beginning(runs)))

    def _add_facts(self, facts: dict[str, Any]) -> None:
        for key, value in facts.items():
            before = self._facts.get(key)
            joined = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value
            self._facts[key] = joined


def _beginning(runs: Sequence[int]) -> int:
    """Return a number that orders pieces of one segment by section and chunk."""
    return runs[0] << 32 | runs[1] if runs else 0


def _groups(tables: Sequence[Sequence[Piece]], wide: int) -> Iterator[list[Piece]]:
    """Yield the pieces of each pass: `wide` tables of several pieces; tables of one piece are in the first pass."""
    single = [pieces[0] for pieces in tables if len(pieces) == 1]
    several = [pieces for pieces in tables if len(pieces) > 1]
    for place in range(0, max(len(several), 1), wide):
        group = [piece for pieces in several[place : place + wide] for piece in pieces]
        yield [*group, *single] if place == 0 else group


def _bundles(pieces: Iterable[Piece]) -> Iterator[Bundle]:
    by_table: defaultdict[int, list[Piece]] = defaultdict(list)
    small: list[Piece] = []
    for piece in pieces:
        if piece.size >= _BIG:
            by_table[piece.table].append(piece)
        else:
            small.append(piece)
    for bundle in sorted(by_table.values(), key=lambda bundle: -sum(piece.size for piece in bundle)):
        yield tuple(bundle)
    yield from _stretches(sorted(small, key=lambda piece: (piece.segment, piece.at, piece.table)))


def _stretches(pieces: Iterable[Piece]) -> Iterator[Bundle]:
    """Yield pieces that are sorted by segment in bundles of about `_BUNDLE` bytes, each of whole segments."""
    bundle: list[Piece] = []
    size = 0
    for piece in pieces:
        if size >= _BUNDLE and bundle[-1].segment != piece.segment:
            yield tuple(bundle)
            bundle, size = [], 0
        bundle.append(piece)
        size += piece.size
    if bundle:
        yield tuple(bundle)
