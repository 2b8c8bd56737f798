"""A snapshot looked at with an identity: which segment holds which rows, and where its objects lie."""

from __future__ import annotations

from dataclasses import dataclass, field

from backupd.model.documents import Record
from backupd.model.ids import ObjectHash, SnapshotName
from backupd.model.manifest import FactsEntry, FileEntry, SegmentEntry, SequencesEntry, TableEntry
from backupd.model.tenancy import SegmentName
from backupd.repository.blocks import Blocks
from backupd.repository.containers import ContainerCache, ContainerRef
from backupd.repository.content import ContentReader, file_content, table_content
from backupd.repository.parts import read_entries
from backupd.repository.repository import Repository
from backupd.seal.container_format import ContainerContext


@dataclass
class SegmentContent:
    """What a snapshot holds of one segment, plain."""

    pseudonym: str
    tables: dict[str, bytes] = field(default_factory=dict)
    """COPY text by `schema.table`."""
    files: dict[str, bytes] = field(default_factory=dict)
    sequences: list[tuple[str, str, int, bool]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    containers: frozenset[ObjectHash] = frozenset()
    """Its part and all that part needs."""


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


def look(repository: Repository, snapshot: SnapshotName, identity: bytes) -> Look:
    """Every byte of a snapshot, checked against its manifests on the way."""
    record = repository.record(snapshot)
    keys = repository.open_keys(identity, [record.generation])
    containers = ContainerCache(repository.store, lambda segment: keys[segment].secret)
    found: dict[SegmentName, SegmentContent] = {}
    blocks = Blocks()
    try:
        reader = ContentReader(containers, blocks)
        for pseudonym, sha256, size in record.parts:
            ref = ContainerRef(ContainerContext(record.repository, record.generation, pseudonym), sha256, size)
            assert keys[pseudonym].name not in found
            found[keys[pseudonym].name] = _content(ref, containers, reader)
    finally:
        blocks.close()
    return Look(record, found)


def _content(ref: ContainerRef, containers: ContainerCache, reader: ContentReader) -> SegmentContent:
    part = containers.open(ref).reader
    content = SegmentContent(ref.context.segment, containers=frozenset({ref.sha256, *(sha for sha, _ in part.packs)}))
    for entry in read_entries(part):
        match entry:
            case TableEntry():
                assert f"{entry.schema}.{entry.table}" not in content.tables
                content.tables[f"{entry.schema}.{entry.table}"] = reader.whole(table_content(ref, entry))
            case FileEntry():
                content.files[entry.name] = reader.whole(file_content(ref, entry))
            case SequencesEntry():
                content.sequences += entry.values
            case FactsEntry():
                content.facts |= entry.facts
            case SegmentEntry():
                pass
    return content
