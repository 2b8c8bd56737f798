"""What a part says of its segment: the entries of FORMAT.md §7 as values. Sealed data only: never print or log one."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

from backupd.model.tenancy import SegmentName

LINE_LIMIT = 1 << 20
"""Bytes a line of a manifest stays below, its newline included (FORMAT.md §7)."""

Count: TypeAlias = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Sha256: TypeAlias = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Span: TypeAlias = tuple[Count, Count, Sha256]
"""Rows, bytes and SHA-256 of the next stretch of a table's row stream."""
SequenceValue: TypeAlias = tuple[str, str, int, bool]
"""Schema, name, last value, whether it was called."""


class SegmentEntry(Struct, frozen=True, tag_field="entry", tag="segment", rename={"data_class": "class"}):
    """The first line: which segment this part speaks of."""

    database: str
    data_class: str
    tenant: str | None

    @property
    def name(self) -> SegmentName:
        return SegmentName(self.database, self.data_class, self.tenant)


class TableEntry(Struct, frozen=True, tag_field="entry", tag="table"):
    """A table's rows of this segment: COPY text, in the order the server returned them."""

    schema: str
    table: str
    columns: list[str]
    rows: Count
    bytes: Count
    spans: list[Span]
    """Sums are `rows` and `bytes`."""
    runs: list[Count]
    """Flat triples: container, first chunk, number of chunks."""


class FileEntry(Struct, frozen=True, tag_field="entry", tag="file"):
    """A file kept beside the tables: `ddl-head`, `ddl`, `globals`, `large-objects`."""

    name: str
    bytes: Count
    sha256: Sha256
    runs: list[Count]


class SequencesEntry(Struct, frozen=True, tag_field="entry", tag="sequences"):
    values: list[SequenceValue]


class FactsEntry(Struct, frozen=True):
    """What else a restore or a comparison needs to know; its keys stand in the line itself."""

    facts: dict[str, Any]


Entry: TypeAlias = SegmentEntry | TableEntry | FileEntry | SequencesEntry | FactsEntry
