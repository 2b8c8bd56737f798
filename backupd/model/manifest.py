"""The manifest of a part: what it says of its segment, FORMAT.md §7. Sealed data only: never print or log an entry."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from backupd.model.tenancy import SegmentName

LINE_LIMIT = 1 << 20
"""Upper limit of a manifest's line in bytes, including its newline (FORMAT.md §7)."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Span: TypeAlias = tuple[Count, Count, Sha256]
"""Rows, bytes and SHA-256 of the next stretch of a table's row stream."""
SequenceValue: TypeAlias = tuple[str, str, int, bool]
"""Schema, name and last value of a sequence, and whether it was called."""


class SegmentEntry(Struct, frozen=True, tag_field="entry", tag="segment", rename={"data_class": "class"}):
    """The first line of a manifest: which segment the part belongs to."""

    database: str
    data_class: str
    tenant: str | None

    @property
    def name(self) -> SegmentName:
        return SegmentName(self.database, self.data_class, self.tenant)


class TableEntry(Struct, frozen=True, tag_field="entry", tag="table"):
    """A table's rows of this segment: COPY text, in the order in which the server returned them."""

    schema: str
    table: str
    columns: list[str]
    rows: Count
    bytes: Count
    spans: list[Span]
    """The stretches of the row stream; they add up to `rows` and `bytes`."""
    runs: list[Count]
    """Flat triples of integers: container, first chunk, number of chunks."""


class FileEntry(Struct, frozen=True, tag_field="entry", tag="file"):
    """A file kept beside the tables: `ddl-head`, `ddl`, `globals` or `large-objects`."""

    name: str
    bytes: Count
    sha256: Sha256
    runs: list[Count]


class SequencesEntry(Struct, frozen=True, tag_field="entry", tag="sequences"):
    """The values of the sequences that belong to this segment."""

    values: list[SequenceValue]


class FactsEntry(Struct, frozen=True):
    """The facts that a restore or a comparison needs; their keys stand in the line itself."""

    facts: dict[str, Any]


Entry: TypeAlias = SegmentEntry | TableEntry | FileEntry | SequencesEntry | FactsEntry
