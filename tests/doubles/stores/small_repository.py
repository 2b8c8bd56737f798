"""Repositories of any content, written with the production writers but without PostgreSQL."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from doubles.stores.segments import SealedSection, publish_pack, seal_section, sha256, take_out

from backupd.model.documents import PackRef, Record, RepositoryInfo, Totals
from backupd.model.ids import (
    GenerationId,
    ObjectHash,
    ObjectName,
    Pseudonym,
    RegionName,
    RepositoryId,
    RunId,
    SegmentTags,
    SnapshotName,
)
from backupd.model.ledger import Event, PurgeBegan
from backupd.model.manifest import Entry, FactsEntry, FileEntry, RowsEntry, SequencesEntry, Span, TableEntry
from backupd.model.ranges import to_ranges
from backupd.model.tenancy import SegmentName
from backupd.model.text import compact, stamp
from backupd.repository.ledger import Chain, next_document, put_entry
from backupd.repository.manifests import encode_entries
from backupd.repository.repository import Repository, signed_record
from backupd.seal import suite
from backupd.seal.documents import Signer
from backupd.seal.keyring import KeyringIds, KeyringWriter, SegmentKey, without_lines
from backupd.seal.pack import PackContext
from backupd.seal.section_format import SectionContext
from backupd.seal.tags import TenantTags
from backupd.store.base import Store

TENANT_KEY = bytes(range(32))
START = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Rows:
    """One table's rows of one segment; each row ends with a newline."""

    schema: str
    table: str
    columns: tuple[str, ...]
    rows: tuple[bytes, ...]
    own: bool = False
    """In the tenant's own schema: the definition stands in the tenant's segment, not in the database's."""


@dataclass(frozen=True)
class Content:
    """What a segment holds."""

    tables: tuple[Rows, ...] = ()
    files: dict[str, bytes] = field(default_factory=dict)
    sequences: tuple[tuple[str, str, int, bool], ...] = ()
    facts: dict[str, Any] | None = None
    apart: bool = True
    """Data in a section of its own, which is in another pack; else in the section of the manifest."""
    chunk: int = 40
    """Bytes of a chunk; rows are cut anywhere."""
    block: int = 3
    """Chunks of a block."""
    definitions: tuple[TableEntry, ...] = ()
    """Put in by `SmallRepository`, which numbers the tables."""

    def streams(self) -> list[list[bytes]]:
        """The chunks of each table and file."""
        whole = [b"".join(table.rows) for table in self.tables] + list(self.files.values())
        return [[data[at : at + self.chunk] for at in range(0, len(data), self.chunk)] for data in whole]


def notes(word: str) -> Content:
    """Nine rows that differ by this word from others."""
    return Content((Rows("public", "note", ("id", "text"), tuple(f"{at}\t{word}\n".encode() for at in range(9))),))


def facts(database: str = "app", **more: Any) -> dict[str, Any]:
    return {
        "server_version": 170000,
        "encoding": "UTF8",
        "settings": {"client_encoding": "UTF8"},
        "extensions": [],
        "collations": [],
        "database": {"name": database},
        "refresh": [],
        **more,
    }


@dataclass
class _Segment:
    """A segment as the writer knows it: where what it stored before lies."""

    pseudonym: Pseudonym
    last: int = 0
    """The highest number of a section."""
    packs: dict[int, tuple[ObjectHash, int]] = field(default_factory=dict)
    """The pack of each section, and its place in that."""
    data: dict[tuple[bytes, ...], int] = field(default_factory=dict)
    """By chunks, the section that has them and nothing else."""
    manifests: dict[bytes, int] = field(default_factory=dict)
    """By manifest, the section that has it."""


@dataclass
class _Wanted:
    """What one snapshot has of one segment, and what of that is new."""

    segment: _Segment
    manifest: int
    needs: set[int]
    """Sections that the manifest refers to."""
    fresh: dict[int, tuple[list[list[bytes]], list[bytes]]] = field(default_factory=dict)
    """New sections by number: their blocks, and pieces of their manifest."""


class SmallRepository:
    """One region's repository with one identity, one signer and one tenant key, all in a few objects.

    Every run is a minute after the one before. As with the real writer, what a segment stored before in its generation
    is referred to, and each run that adds to it does so under a key of its own.
    """

    def __init__(self, store: Store, region: str = "be") -> None:
        self.store = store
        self.identity = suite.generate()
        self.signer = Signer(os.urandom(32))
        self.repository = Repository(store, [self.signer.public])
        self.info = RepositoryInfo(
            repository=RepositoryId(os.urandom(16).hex()),
            region=RegionName(region),
            created=stamp(START),
            signers=[self.signer.public],
        )
        self.repository.put_info(self.info, self.signer)
        self.tags = TenantTags(TENANT_KEY, self.info.region)
        self.previous: SnapshotName | None = None
        self.chain = Chain(self.info.region, self.info.repository)
        self.incarnations: dict[str, int] = {}
        """Of tenants that came back; all others are in their first."""
        self._runs = 0
        self._run = RunId("")
        self._segments: dict[Pseudonym, _Segment] = {}
        self._numbers: dict[tuple[Any, ...], int] = {}
        self.start_generation()

    def start_generation(self) -> None:
        self.generation = GenerationId(f"{compact(self._now())}-{os.urandom(4).hex()}")

    def tags_of(self, name: SegmentName) -> SegmentTags:
        """The tags of a segment of the present generation."""
        incarnation = self.incarnations.get(name.tenant, 1) if name.tenant else 0
        return SegmentTags(
            self.tags.tenant_tag(self.generation, self.tags.tenant_id(name.tenant), incarnation),
            self.tags.class_tag(self.generation, name.data_class),
            self.tags.database_tag(self.generation, name.database),
        )

    def pseudonym(self, name: SegmentName) -> Pseudonym:
        """The pseudonym of a segment of the present generation."""
        return self.tags.pseudonym(self.generation, self.tags_of(name))

    def snapshot(
        self, segments: dict[SegmentName, Content], *, label: str = "app", member: str | None = None
    ) -> SnapshotName:
        """One run: keyring, packs, record, in FORMAT.md's order.

        Definitions go to a segment of the class `structure`, which is there even when `segments` does not name it.
        """
        packs, stored = self.write(segments, member=member)
        record = Record(
            repository=self.info.repository,
            region=self.info.region,
            generation=self.generation,
            run=self._run,
            database=label,
            member=member,
            exported=stamp(self._now()),
            published=stamp(self._now() + timedelta(seconds=5)),
            server=170000,
            previous=self.previous,
            ledger=self.chain.head,
            packs=packs,
            totals=_totals(segments.values(), stored),
        )
        return self.publish(record)

    def publish(self, record: Record) -> SnapshotName:
        """Sign and publish a record."""
        self.previous, signed = signed_record(record, self.signer)
        self.repository.put_record(record, signed)
        return self.previous

    def write(self, segments: Mapping[SegmentName, Content], *, member: str | None = None) -> tuple[list[PackRef], int]:
        """All of a run but its record: return what that would name, and the bytes of all sections in that."""
        self._runs += 1
        self._run = RunId(f"{compact(self._now())}-{os.urandom(4).hex()}")
        complete = self._with_definitions(segments, member)
        wanted = {name: self._wanted(name, content) for name, content in complete.items()}
        sealed = self._seal({name: one for name, one in wanted.items() if one.fresh})
        for one in ([pair for pair in sealed if pair[1]], [pair for pair in sealed if not pair[1]]):
            self._publish_pack([section for section, _ in one])
        return self._named(wanted.values())

    def tell(self, *events: Event) -> None:
        """Append an entry to the ledger; the writer is its keeper, too."""
        document = next_document(self.chain, stamp(self._now()), list(events), self.signer)
        self.chain = self.chain.extended(document, {self.signer.public})
        put_entry(self.store, len(self.chain.links), document)

    def purge_began(self, *names: SegmentName) -> PurgeBegan:
        """The intent to purge these segments of the present generation."""
        tenant = self.tags.tenant_id(names[0].tenant)
        incarnation = self.incarnations.get(names[0].tenant or "", 1)
        segments = [(self.generation, self.pseudonym(name)) for name in names]
        return PurgeBegan(tenant=tenant, incarnation=incarnation, segments=segments, stores=["disk"])

    def take_out(self, *names: SegmentName, keys: bool = True, objects: bool = True) -> None:
        """Remove segments of the present generation as a purge does: their keys, and their sections of all packs."""
        segments = {self.pseudonym(name) for name in names}
        for keyring in self.repository.keyrings(self.generation) if keys else ():
            where = ObjectName(keyring.where)
            if segments & keyring.segments:
                data = without_lines(self.repository.read(where, "keyring"), keyring, segments)
                self.store.replace(where, io.BytesIO(data), len(data), ObjectHash(hashlib.sha256(data).hexdigest()))
        for listed in list(self.repository.list_packs(self.generation)) if objects else ():
            pack = self.repository.pack(self.generation, listed)
            theirs = [at for at in pack.there.there if pack.header.rows[at].segment in segments]
            if theirs:
                take_out(self.store, pack, theirs)

    def come_back(self, tenant: str) -> None:
        """A tenant that was purged begins its next incarnation: its segments are others from now on."""
        self.incarnations[tenant] = self.incarnations.get(tenant, 1) + 1

    def _with_definitions(
        self, segments: Mapping[SegmentName, Content], member: str | None
    ) -> dict[SegmentName, Content]:
        found: dict[SegmentName, dict[int, TableEntry]] = {}
        for name, content in segments.items():
            for table in content.tables:
                home = SegmentName(name.database, "structure", name.tenant if member or table.own else None)
                definition = self._definition(name.database, table)
                found.setdefault(home, {})[definition.number] = definition
        complete = {**{name: Content() for name in found}, **segments}
        return {
            name: replace(content, definitions=tuple(found[name].values())) if name in found else content
            for name, content in complete.items()
        }

    def _definition(self, database: str, table: Rows) -> TableEntry:
        key = (self.generation, database, table.schema, table.table, table.columns)
        number = self._numbers.setdefault(key, len(self._numbers) + 1)
        return TableEntry(number, table.schema, table.table, list(table.columns))

    def _wanted(self, name: SegmentName, content: Content) -> _Wanted:
        pseudonym = self.pseudonym(name)
        segment = self._segments.setdefault(pseudonym, _Segment(pseudonym))
        streams = content.streams()
        chunks = tuple(chunk for stream in streams for chunk in stream)
        blocks = [list(chunks[at : at + content.block]) for at in range(0, len(chunks), content.block)]
        wanted = _Wanted(segment, 0, set())
        data = segment.data.get(chunks)
        if data is None and chunks:
            segment.last += 1
            data = segment.data[chunks] = segment.last
            wanted.fresh[data] = blocks, []
        manifest = b"".join(encode_entries(self._entries(name.database, content, streams, data or 0)))
        wanted.needs = {data} if data else set()
        if manifest not in segment.manifests:
            if content.apart or not wanted.fresh:
                segment.last += 1
                wanted.fresh[segment.last] = [], []
            wanted.fresh[segment.last][1].extend(manifest[at : at + 100] for at in range(0, len(manifest), 100))
            segment.manifests[manifest] = segment.last
        wanted.manifest = segment.manifests[manifest]
        return wanted

    def _entries(self, database: str, content: Content, streams: list[list[bytes]], section: int) -> Iterator[Entry]:
        yield from content.definitions
        first = 0
        described = [*content.tables, *content.files.items()]
        for thing, chunks in zip(described, streams, strict=True):
            # Two runs where there can be: the second continues the first.
            half = len(chunks) // 2
            pairs = ((first, half), (first + half, len(chunks) - half))
            runs = [number for at, count in pairs if count for number in (section, at, count)]
            if isinstance(thing, Rows):
                yield RowsEntry(self._definition(database, thing).number, _spans(thing.rows), runs)
            else:
                yield FileEntry(thing[0], len(thing[1]), sha256(thing[1]), runs)
            first += len(chunks)
        if content.sequences:
            yield SequencesEntry(list(content.sequences))
        if content.facts is not None:
            yield FactsEntry(content.facts)

    def _seal(self, wanted: Mapping[SegmentName, _Wanted]) -> list[tuple[SealedSection, bool]]:
        """Publish the run's keyring; return its sections, and whether each is of data only."""
        ids = KeyringIds(self.info.repository, self.info.region, self.generation, self._run)
        writer = KeyringWriter(ids, [self.identity.public])
        sealed = []
        for name, one in wanted.items():
            key = SegmentKey(os.urandom(32), name)
            place = self._run, writer.add(one.segment.pseudonym, key.key, name, self.tags_of(name))
            for number, (blocks, pieces) in one.fresh.items():
                context = SectionContext(ids.repository, ids.generation, one.segment.pseudonym, number)
                sealed.append((seal_section(context, key, place, blocks, pieces), not pieces))
        if wanted:
            self.repository.put_keyring(ids, writer.render(stamp(self._now()), self.signer))
        return sealed

    def _publish_pack(self, sections: list[SealedSection]) -> None:
        if sections:
            context = PackContext(self.info.repository, self.generation)
            header = publish_pack(self.store, context, sections).header
            for at, row in enumerate(header.rows):
                self._segments[row.segment].packs[row.number] = header.sha256, at

    def _named(self, wanted: Iterable[_Wanted]) -> tuple[list[PackRef], int]:
        packs: dict[ObjectHash, tuple[set[int], set[int]]] = {}
        for one in wanted:
            for number in {one.manifest, *one.needs}:
                pack, at = one.segment.packs[number]
                packs.setdefault(pack, (set(), set()))[number != one.manifest].add(at)
        rows = {name: self.repository.pack(self.generation, name).header.rows for name in packs}
        stored = sum(rows[name][at].length for name, (mine, others) in packs.items() for at in mine | others)
        return sorted((name, to_ranges(mine), to_ranges(others)) for name, (mine, others) in packs.items()), stored

    def _now(self) -> datetime:
        return START + timedelta(minutes=self._runs)


def _spans(rows: tuple[bytes, ...]) -> list[Span]:
    halves = [rows[: len(rows) // 2], rows[len(rows) // 2 :]]
    joined = [(len(half), b"".join(half)) for half in halves if half]
    return [(number, len(data), sha256(data)) for number, data in joined]


def _totals(contents: Iterable[Content], stored: int) -> Totals:
    tables = [table for content in contents for table in content.tables]
    size = sum(len(row) for table in tables for row in table.rows)
    rows = sum(len(table.rows) for table in tables)
    return Totals(tables=len(tables), rows=rows, bytes=size, stored=stored, added=stored)
