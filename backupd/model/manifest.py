"""The manifest of a section: what a snapshot has of its segment, FORMAT.md §7. Sealed data only: never print or log an
entry.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

LINE_LIMIT = 1 << 20
"""Upper limit of a manifest's line in bytes, including its newline (FORMAT.md §7)."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Digest: TypeAlias = Annotated[bytes, Meta(min_length=32, max_length=32)]
"""SHA-256 as 32 bytes; base64 in the line."""
Span: TypeAlias = tuple[Count, Count, Digest]
"""Rows, bytes and SHA-256 of the next stretch of a table's row stream."""
SequenceValue: TypeAlias = tuple[str, str, int, bool]
"""Schema, name and last value of a sequence, and whether it was called."""


class TableEntry(Struct, frozen=True, array_like=True, tag="table"):
    """The definition of a table, to which segments of the same database and generation refer by its number."""

    number: Count
    schema: str
    table: str
    columns: list[str]


class RowsEntry(Struct, frozen=True, array_like=True, tag="rows"):
    """A table's rows of this segment: COPY text, in the order in which the server returned them."""

    table: Count
    """Number of the table's definition."""
    spans: list[Span]
    """The stretches of the row stream."""
    runs: list[Count]
    """Flat triples of integers: section, first chunk, number of chunks."""

    @property
    def rows(self) -> int:
        return sum([span[0] for span in self.spans])

    @property
    def bytes(self) -> int:
        return sum([span[1] for span in self.spans])


class FileEntry(Struct, frozen=True, array_like=True, tag="file"):
    """A file kept beside the tables: `ddl-head`, `ddl`, `globals` or `large-objects`."""

    name: str
    bytes: Count
    sha256: Digest
    runs: list[Count]


class SequencesEntry(Struct, frozen=True, array_like=True, tag="sequences"):
    """The values of the sequences that belong to this segment."""

    values: list[SequenceValue]


class FactsEntry(Struct, frozen=True, array_like=True, tag="facts"):
    """The facts that a restore or a comparison needs."""

    facts: dict[str, Any]


Entry: TypeAlias = TableEntry | RowsEntry | FileEntry | SequencesEntry | FactsEntry
