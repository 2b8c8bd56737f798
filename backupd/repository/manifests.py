"""A section's manifest, written and read: typed entries to lines of JSON and back (FORMAT.md §7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import add
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import msgspec

from backupd.errors import DamageError
from backupd.model.manifest import (
    LINE_LIMIT,
    Count,
    Entry,
    FactsEntry,
    FileEntry,
    RowsEntry,
    SequencesEntry,
    TableEntry,
)

if TYPE_CHECKING:
    from backupd.seal.section_reader import SectionReader

_RUNS_A_LINE = 3 * 16_000
"""Numbers of runs put on one line: at 21 bytes each they and a line's frame stay below `LINE_LIMIT`."""
_VALUES_A_LINE = 2_000
"""Sequences, or items of a fact's list, on one line: names have at most 63 bytes each, six times that when escaped."""

_CHUNK_LIMIT = 1 << 32
"""Chunks of one section at most: far above what its size allows, so that sums of runs stay small numbers."""

_encode = msgspec.json.Encoder().encode


class _More(msgspec.Struct, frozen=True, array_like=True, tag="more"):
    runs: list[Count]


_Line: TypeAlias = Entry | _More

_decode_lines = msgspec.json.Decoder(_Line).decode_lines


def encode_entries(entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield the manifest lines of `entries`, each ended by a newline and below 1 MiB.

    Raises ValueError for an entry whose columns, spans or facts cannot stand on one line.
    """
    for entry in entries:
        for line in _lines(entry):
            if len(line) >= LINE_LIMIT:
                raise ValueError(f"a manifest line of {len(line)} bytes is over the limit of {LINE_LIMIT}")
            yield line


def _lines(entry: Entry) -> Iterator[bytes]:
    match entry:
        case RowsEntry() | FileEntry():
            yield from _with_runs(entry)
        case SequencesEntry():
            for at in range(0, max(len(entry.values), 1), _VALUES_A_LINE):
                yield _line(SequencesEntry(entry.values[at : at + _VALUES_A_LINE]))
        case FactsEntry():
            yield from _facts(entry.facts)
        case TableEntry():
            yield _line(entry)
        case _ as never:
            assert_never(never)


def _line(value: _Line) -> bytes:
    return _encode(value) + b"\n"


def _with_runs(entry: RowsEntry | FileEntry) -> Iterator[bytes]:
    whole = _line(entry) if len(entry.runs) <= _RUNS_A_LINE else b""
    if whole and len(whole) < LINE_LIMIT:
        yield whole
        return
    yield _line(msgspec.structs.replace(entry, runs=[]))
    for at in range(0, len(entry.runs), _RUNS_A_LINE):
        yield _line(_More(entry.runs[at : at + _RUNS_A_LINE]))


def _facts(facts: dict[str, Any]) -> Iterator[bytes]:
    whole = _line(FactsEntry(facts))
    if len(whole) < LINE_LIMIT:
        yield whole
        return
    long = {key: value for key, value in facts.items() if isinstance(value, list) and len(value) > _VALUES_A_LINE}
    yield _line(FactsEntry({key: [] if key in long else value for key, value in facts.items()}))
    for key, items in long.items():
        for at in range(0, len(items), _VALUES_A_LINE):
            yield _line(FactsEntry({key: items[at : at + _VALUES_A_LINE]}))


def read_entries(section: SectionReader) -> Iterator[Entry]:
    """Yield the entries of a section's manifest, with continued runs joined and every limit checked.

    Raises DamageError naming the section, never its content.
    """
    try:
        for entry in _joined(_values(section)):
            if isinstance(entry, RowsEntry | FileEntry):
                _check_runs(entry.runs)
            yield entry
    except _WrongError as error:
        raise DamageError(f"the manifest of '{section.where}' cannot be read: {error}") from error


class _WrongError(Exception):
    """A fault in a manifest, described in words that quote nothing of it."""


def _values(section: SectionReader) -> Iterator[_Line]:
    rest = b""
    for piece in section.manifest():
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            yield from _decoded(whole + newline)
        if len(rest) >= LINE_LIMIT:
            raise _WrongError("a line is too long")
    if rest:
        raise _WrongError("it does not end with a line")


def _joined(values: Iterable[_Line]) -> Iterator[Entry]:
    entry: Entry | None = None
    for value in values:
        if isinstance(value, _More):
            if not isinstance(entry, RowsEntry | FileEntry):
                raise _WrongError("a line continues an entry that has no runs")
            entry.runs.extend(value.runs)
            continue
        if entry is not None:
            yield entry
        entry = value
    if entry is not None:
        yield entry


def _decoded(lines: bytes) -> list[_Line]:
    """Decode whole lines, each of which holds one value."""
    if len(lines) > LINE_LIMIT and max(map(len, lines.split(b"\n"))) >= LINE_LIMIT:
        raise _WrongError("a line is too long")
    try:
        values: list[_Line] = _decode_lines(lines.decode())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Their messages may quote a line: an unknown kind of entry, for one.
        raise _WrongError("a line is no entry this program knows") from None
    if not len(values) == lines.count(b"\n") == lines.count(b"]\n[") + 1:
        raise _WrongError("a line is no entry this program knows")
    return values


def _check_runs(runs: list[int]) -> None:
    if len(runs) % 3:
        raise _WrongError("runs are not triples")
    numbers = runs[2::3]
    if 0 in runs[::3] or 0 in numbers or max(map(add, runs[1::3], numbers), default=0) > _CHUNK_LIMIT:
        raise _WrongError("a run is impossible")
