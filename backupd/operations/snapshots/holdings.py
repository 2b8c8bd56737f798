"""The holdings of one snapshot, opened with an identity: rows and bytes of each table, and of each tenant.

Names of tables and tenants are sealed data: they are returned to the owner of an identity, and stand in no message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import BackupdError, DamageError, StoreError, UsageError
from backupd.model.ids import Pseudonym
from backupd.model.manifest import FileEntry, RowsEntry, TableEntry
from backupd.operations.restore.choose import choose, read_history
from backupd.operations.restore.contents import SnapshotContents
from backupd.operations.restore.types import RestoreRequest
from backupd.planning.selection import STRUCTURE
from backupd.postgres.connect import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.model.manifest import Entry
    from backupd.model.tenancy import SegmentName
    from backupd.operations.restore.opened_choice import OpenedChoice
    from backupd.operations.restore.types import RestoreEnvironment
    from backupd.operations.snapshots.catalog import Catalog
    from backupd.operations.snapshots.records import SnapshotInfo
    from backupd.repository.repository import Repository

_READERS = 4


class TableHolding(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a snapshot, over all segments that were looked at."""

    schema: str
    table: str
    rows: int
    bytes: int
    """Bytes of COPY text."""


class TenantHolding(msgspec.Struct, frozen=True, kw_only=True):
    """One segment of a snapshot: the rows of one tenant, or of nobody, in one data class."""

    segment: Pseudonym
    tenant: str | None
    """None for rows that all tenants share."""
    data_class: str
    rows: int
    bytes: int
    """Bytes of COPY text and of files."""
    stored: int
    """Bytes of the sections that the snapshot needs of it."""


class OpenedHoldings(msgspec.Struct, frozen=True, kw_only=True):
    """The tables and tenants of a snapshot, those with the most bytes first."""

    tables: tuple[TableHolding, ...]
    tenants: tuple[TenantHolding, ...]
    purged: int
    """Segments left out because a purge lists them."""
    aged: int
    """Segments left out because they expired with the age of their class."""


@dataclass(frozen=True, slots=True)
class HeldRows:
    """The rows of one table in one segment."""

    schema: str
    table: str
    rows: int
    size: int
    spans: bytes
    """Digest of the spans: equal ones mean equal rows in the same order."""
    runs: bytes
    """Digest of the references to chunks: within one generation, equal ones mean equal rows, too."""


@dataclass(slots=True)
class SegmentParts:
    """One segment that was read."""

    segment: Pseudonym
    name: SegmentName = field(repr=False)
    stored: int
    parts: list[HeldRows] = field(default_factory=list, repr=False)
    files: int = 0
    """Bytes of all files in it."""
    contents: list[bytes] = field(default_factory=list, repr=False)
    """Digests of files, sequences and facts."""


def open_snapshot(catalog: Catalog, one: SnapshotInfo, world: RestoreEnvironment) -> tuple[Repository, OpenedChoice]:
    """Open a snapshot on the first store that has it, whose ledger can be followed, and that answers.

    Raises the first store's error when there is none: what `choose` raises, DamageError for a ledger.
    """
    first: BackupdError | None = None
    for store in catalog.having(one.name):
        try:
            here = replace(world, store=store.name)
            history = read_history(store.repository, here)
            request = RestoreRequest(one.database, one.name, Source(""), "")
            return store.repository, choose(request, store.repository, here, history)
        except (StoreError, DamageError) as error:
            first = first or error
    raise first or UsageError("no store has the snapshot")


def read_parts(repository: Repository, choice: OpenedChoice) -> Iterator[SegmentParts]:
    """Read the manifests of a snapshot's segments, and yield what each has.

    Raises DamageError, KeyRefusedError, RefusedError, and the store's errors.
    """
    with SnapshotContents(repository, choice, _READERS) as contents:
        defined: dict[int, TableEntry] = {}
        stored: dict[Pseudonym, int] = {}
        for (segment, _), section in choice.sections.sections.items():
            stored[segment] = stored.get(segment, 0) + section.row.length
        structure = [one for one in choice.segments if choice.name_of(one).data_class == STRUCTURE]
        apart = set(structure)
        others = [one for one in choice.segments if one not in apart]
        held = []
        for segment, entries in contents.manifests(structure):
            listed = list(entries)
            defined |= {entry.number: entry for entry in listed if isinstance(entry, TableEntry)}
            held.append((segment, listed))
        for segment, listed in held:
            yield _parts(choice, segment, stored[segment], listed, defined)
        for segment, entries in contents.manifests(others):
            yield _parts(choice, segment, stored[segment], entries, defined)


def read_holdings(repository: Repository, choice: OpenedChoice) -> OpenedHoldings:
    """Add up what a snapshot holds, by table and by segment. Raises what `read_parts` raises."""
    tables: dict[tuple[str, str], tuple[int, int]] = {}
    tenants = []
    for one in read_parts(repository, choice):
        for part in one.parts:
            rows, size = tables.get((part.schema, part.table), (0, 0))
            tables[part.schema, part.table] = rows + part.rows, size + part.size
        tenants.append(
            TenantHolding(
                segment=one.segment,
                tenant=one.name.tenant,
                data_class=one.name.data_class,
                rows=sum(part.rows for part in one.parts),
                bytes=sum(part.size for part in one.parts) + one.files,
                stored=one.stored,
            )
        )
    listed = [TableHolding(schema=s, table=t, rows=rows, bytes=size) for (s, t), (rows, size) in tables.items()]
    return OpenedHoldings(
        tables=tuple(sorted(listed, key=lambda one: (-one.bytes, one.schema, one.table))),
        tenants=tuple(sorted(tenants, key=lambda one: (-one.bytes, one.tenant or "", one.data_class))),
        purged=choice.purged,
        aged=choice.aged,
    )


def _parts(
    choice: OpenedChoice, segment: Pseudonym, stored: int, entries: Iterable[Entry], defined: dict[int, TableEntry]
) -> SegmentParts:
    found = SegmentParts(segment, choice.name_of(segment), stored)
    for entry in entries:
        if isinstance(entry, RowsEntry):
            table = defined.get(entry.table)
            if table is None:
                if segment in choice.undefined:
                    continue
                raise DamageError(
                    f"the manifest of segment {segment} speaks of a table that the snapshot does not define"
                )
            spans, runs = _digest(entry.spans), _digest(_joined(entry.runs))
            found.parts.append(HeldRows(table.schema, table.table, entry.rows, entry.bytes, spans, runs))
        elif isinstance(entry, FileEntry):
            found.files += entry.bytes
            found.contents.append(_digest([entry.name, entry.bytes, entry.sha256]))
        elif not isinstance(entry, TableEntry):
            found.contents.append(_digest(entry))
    return found


def _joined(runs: list[int]) -> list[int]:
    """Join runs of which one goes on where the one before it ended: how they are cut means nothing."""
    joined: list[int] = []
    for at in range(0, len(runs), 3):
        section, first, number = runs[at : at + 3]
        if joined and joined[-3] == section and joined[-2] + joined[-1] == first:
            joined[-1] += number
        else:
            joined += [section, first, number]
    return joined


def _digest(value: object) -> bytes:
    return hashlib.sha256(msgspec.msgpack.encode(value)).digest()
