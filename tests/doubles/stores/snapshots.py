"""A snapshot looked at with an identity: which segment holds which rows, and where its sections lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from doubles.stores.segments import HandmadeKeys, sha256

from backupd.model.documents import Record
from backupd.model.ids import Pseudonym, SnapshotName
from backupd.model.manifest import FactsEntry, FileEntry, RowsEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import SegmentName
from backupd.repository.keys import SecretKeys
from backupd.repository.manifests import read_entries
from backupd.repository.packs import Section, SnapshotSections, fetch_section
from backupd.repository.repository import Repository
from backupd.seal.section_reader import SectionReader
from backupd.store.base import StoreView


@dataclass
class SegmentContent:
    """What a snapshot holds of one segment, plain."""

    pseudonym: Pseudonym
    tables: dict[str, bytes] = field(default_factory=dict)
    """COPY text by `schema.table`."""
    files: dict[str, bytes] = field(default_factory=dict)
    sequences: list[tuple[str, str, int, bool]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    definitions: list[TableEntry] = field(default_factory=list)
    sections: frozenset[tuple[str, int]] = frozenset()
    """The section with its manifest and all that this needs: the pack's object, and the place in that."""


@dataclass
class Look:
    record: Record
    segments: dict[SegmentName, SegmentContent]

    def of(self, tenant: str | None, data_class: str = "uploaded") -> SegmentContent:
        (found,) = (
            one for name, one in self.segments.items() if (name.tenant, name.data_class) == (tenant, data_class)
        )
        return found

    def rows(self, table: str) -> dict[str | None, list[str]]:
        """A table's rows by tenant, tenants without an entry left out."""
        return {
            name.tenant: one.tables[table].decode().splitlines()
            for name, one in self.segments.items()
            if table in one.tables
        }


def look(repository: Repository, snapshot: SnapshotName, identity: bytes, without: Collection[Pseudonym] = ()) -> Look:
    """Every byte of a snapshot, `without` purged segments, checked against its manifests on the way."""
    record = repository.record(snapshot)
    keys = repository.open_keys(identity, [record.generation])
    listed = repository.sections(record)
    listed = SnapshotSections(
        {segment: section for segment, section in listed.manifests.items() if segment not in without},
        {place: section for place, section in listed.sections.items() if place[0] not in without},
    )
    opened = {place: open_section(repository.store, section, keys) for place, section in listed.sections.items()}
    entries = {
        segment: list(read_entries(opened[segment, section.row.number]))
        for segment, section in listed.manifests.items()
    }
    definitions = {
        entry.number: entry for found in entries.values() for entry in found if isinstance(entry, TableEntry)
    }
    looked = Look(record, {})
    for segment, found in entries.items():
        chunks = {number: chunks_of(opened[one, number]) for one, number in opened if one == segment}
        name = keys.of(listed.manifests[segment].row).name
        assert name not in looked.segments
        content = looked.segments[name] = SegmentContent(segment)
        _fill(content, found, chunks, definitions)
        content.sections = frozenset(
            (section.pack.name, section.at) for (one, _), section in listed.sections.items() if one == segment
        )
    return looked


def open_section(store: StoreView, section: Section, keys: SecretKeys | HandmadeKeys) -> SectionReader:
    """A section read whole, compared with its hash, and opened."""
    data = fetch_section(store, section)
    return SectionReader(
        lambda at, length: data[at : at + length],
        len(data),
        key=keys.of(section.row).key,
        context=section.context,
        where=section.where,
    )


def chunks_of(section: SectionReader) -> list[bytes]:
    """All chunks of a section, plain."""
    found: list[bytes] = []
    for index, block in enumerate(section.blocks):
        content, at = section.open_block(index), 0
        for length in block.chunk_lengths:
            found.append(content[at : at + length])
            at += length
    return found


def run_content(runs: Sequence[int], chunks: Mapping[int, Sequence[bytes]]) -> bytes:
    """What runs stand for, out of the chunks of each section."""
    triples = zip(runs[::3], runs[1::3], runs[2::3], strict=True)
    return b"".join(b"".join(_exactly(chunks[number], first, count)) for number, first, count in triples)


def _exactly(chunks: Sequence[bytes], first: int, count: int) -> Sequence[bytes]:
    found = chunks[first : first + count]
    assert len(found) == count, "a run reaches behind its section"
    return found


def _fill(
    content: SegmentContent,
    entries: Sequence[object],
    chunks: Mapping[int, Sequence[bytes]],
    definitions: Mapping[int, TableEntry],
) -> None:
    for entry in entries:
        match entry:
            case TableEntry():
                content.definitions.append(entry)
            case RowsEntry():
                table = f"{definitions[entry.table].schema}.{definitions[entry.table].table}"
                assert table not in content.tables
                content.tables[table] = rows = run_content(entry.runs, chunks)
                check_spans(entry, rows)
            case FileEntry():
                content.files[entry.name] = data = run_content(entry.runs, chunks)
                assert (len(data), sha256(data)) == (entry.bytes, entry.sha256)
            case SequencesEntry():
                content.sequences += entry.values
            case FactsEntry():
                content.facts |= entry.facts


def check_spans(entry: RowsEntry, rows: bytes) -> None:
    """The rows are those that the entry's spans promise."""
    at = 0
    for number, size, digest in entry.spans:
        span = rows[at : at + size]
        assert (span.count(b"\n"), len(span), sha256(span)) == (number, size, digest)
        at += size
    assert at == len(rows)
