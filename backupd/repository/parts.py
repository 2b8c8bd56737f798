"""A part's manifest, written and read: typed entries to lines of JSON and back (FORMAT.md §7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from backupd.errors import DamageError
from backupd.model.manifest import (
    LINE_LIMIT,
    Count,
    Entry,
    FactsEntry,
    FileEntry,
    SegmentEntry,
    SequencesEntry,
    TableEntry,
)
from backupd.model.text import UnreadableError, from_json
from backupd.seal.container_format import MANIFEST

if TYPE_CHECKING:
    from backupd.seal.container_reader import ContainerReader

_RUNS_A_LINE = 3 * 16_000
"""Numbers of runs put on one line: at 21 bytes each they and a line's frame stay below `LINE_LIMIT`."""
_VALUES_A_LINE = 2_000
"""Sequences, or items of a fact's list, on one line: names have at most 63 bytes each, six times that when escaped."""

_CHUNK_LIMIT = 1 << 32
"""Chunks of one container at most: far above what its size allows, so that sums of runs stay small numbers."""

_encode = msgspec.json.Encoder().encode


class _More(msgspec.Struct, frozen=True, tag_field="entry", tag="more"):
    runs: list[Count]


class _Facts(msgspec.Struct, frozen=True, tag_field="entry", tag="facts"):
    """A facts line, recognised by its tag only; its facts are decoded as a plain dictionary."""


_Line: TypeAlias = SegmentEntry | TableEntry | FileEntry | SequencesEntry | _Facts | _More


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


def read_entries(part: ContainerReader) -> Iterator[Entry]:
    """Yield the entries of a part, the segment's first, with continued runs joined and every limit checked.

    Raises DamageError naming the part, never its content.
    """
    try:
        yield from _checked(_joined(_manifest_lines(part)), containers=1 + len(part.packs))
    except _WrongError as error:
        raise DamageError(f"the manifest of '{part.where}' cannot be read: {error}") from error


class _WrongError(Exception):
    """A fault in a manifest, described in words that quote nothing of it."""


def _manifest_lines(part: ContainerReader) -> Iterator[bytes]:
    rest = b""
    for index, block in enumerate(part.blocks):
        if block.kind == MANIFEST:
            *lines, rest = (rest + part.open_block(index)).split(b"\n")
            yield from lines
            if len(rest) >= LINE_LIMIT:
                raise _WrongError("a line is too long")
    if rest:
        raise _WrongError("it does not end with a line")


def _joined(lines: Iterable[bytes]) -> Iterator[Entry]:
    entry: Entry | None = None
    for line in lines:
        if len(line) >= LINE_LIMIT:
            raise _WrongError("a line is too long")
        value = _decoded(line)
        if isinstance(value, _More):
            if not isinstance(entry, TableEntry | FileEntry):
                raise _WrongError("a line continues an entry that has no runs")
            entry.runs.extend(value.runs)
            continue
        if entry is not None:
            yield entry
        entry = value
    if entry is not None:
        yield entry


def _decoded(line: bytes) -> Entry | _More:
    try:
        value: _Line = from_json(line, _Line)  # type: ignore[arg-type]  # a union is a shape to msgspec
        if not isinstance(value, _Facts):
            return value
        facts = from_json(line, dict[str, Any])
    except UnreadableError:
        # Its message may quote the line: an unknown kind of entry, for one.
        raise _WrongError("a line is no entry this program knows") from None
    del facts["entry"]
    return FactsEntry(facts)


def _checked(entries: Iterable[Entry], containers: int) -> Iterator[Entry]:
    for place, entry in enumerate(entries):
        if isinstance(entry, SegmentEntry) != (place == 0):
            raise _WrongError("its first entry, and no other, must name the segment")
        if isinstance(entry, TableEntry | FileEntry):
            _check_runs(entry.runs, containers)
        if isinstance(entry, TableEntry):
            _check_spans(entry)
        yield entry


def _check_runs(runs: list[int], containers: int) -> None:
    if len(runs) % 3:
        raise _WrongError("runs are not triples")
    for container, first, number in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        if container >= containers or not number or first + number > _CHUNK_LIMIT:
            raise _WrongError("a run is impossible")


def _check_spans(entry: TableEntry) -> None:
    if sum(span[0] for span in entry.spans) != entry.rows or sum(span[1] for span in entry.spans) != entry.bytes:
        raise _WrongError("spans do not add up to their table")
