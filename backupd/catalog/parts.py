"""A part's manifest, written and read: typed entries to lines of JSON and back (FORMAT.md §7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from backupd.model.manifest import (
    LINE_LIMIT,
    Entry,
    FactsEntry,
    FileEntry,
    SegmentEntry,
    SequencesEntry,
    TableEntry,
)

_RUNS_A_LINE = 3 * 16_000
"""Numbers of runs put on one line: at 21 bytes each they and a line's frame stay below `LINE_LIMIT`."""
_VALUES_A_LINE = 2_000
"""Sequences, or items of a fact's list, on one line: names have at most 63 bytes each, six times that when escaped."""

_encode = msgspec.json.Encoder().encode


def encode_entries(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The manifest lines of `entries`, each ended by a newline and below 1 MiB.

    Raises ValueError for an entry whose columns, spans or facts cannot stand on one line.
    """
    for entry in entries:
        for line in _lines(entry):
            if len(line) >= LINE_LIMIT:
                raise ValueError(f"a manifest line of {len(line)} bytes is over the limit of {LINE_LIMIT}")
            yield line


def _lines(entry: Entry) -> Iterator[bytes]:
    match entry:
        case TableEntry() | FileEntry():
            yield from _with_runs(entry)
        case SequencesEntry():
            for at in range(0, max(len(entry.values), 1), _VALUES_A_LINE):
                yield _line(SequencesEntry(entry.values[at : at + _VALUES_A_LINE]))
        case FactsEntry():
            yield from _facts(entry.facts)
        case SegmentEntry():
            yield _line(entry)


def _line(value: object) -> bytes:
    return _encode(value) + b"\n"


def _with_runs(entry: TableEntry | FileEntry) -> Iterator[bytes]:
    whole = _line(entry) if len(entry.runs) <= _RUNS_A_LINE else b""
    if whole and len(whole) < LINE_LIMIT:
        yield whole
        return
    yield _line(msgspec.structs.replace(entry, runs=[]))
    for at in range(0, len(entry.runs), _RUNS_A_LINE):
        yield _line({"entry": "more", "runs": entry.runs[at : at + _RUNS_A_LINE]})


def _facts(facts: dict[str, Any]) -> Iterator[bytes]:
    whole = _line({"entry": "facts", **facts})
    if len(whole) < LINE_LIMIT:
        yield whole
        return
    long = {key: value for key, value in facts.items() if isinstance(value, list) and len(value) > _VALUES_A_LINE}
    yield _line({"entry": "facts", **{key: [] if key in long else value for key, value in facts.items()}})
    for key, items in long.items():
        for at in range(0, len(items), _VALUES_A_LINE):
            yield _line({"entry": "facts", key: items[at : at + _VALUES_A_LINE]})
