"""The difference between two snapshots of one database: which segments, and with an identity which tables and tenants.

Nothing is compared byte by byte: a segment is as it was where both snapshots have the same manifest of it, a table
where its digests are the same, or within one generation its references to chunks. Where a table was read in other
stretches, or its rows lie in another order, it counts as changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from backupd.errors import UsageError
from backupd.model.documents import Record
from backupd.model.ids import Pseudonym, SnapshotName
from backupd.operations.snapshots.holdings import HeldRows, SegmentParts, read_parts

if TYPE_CHECKING:
    from backupd.operations.restore.opened_choice import OpenedChoice
    from backupd.repository.packs import SnapshotSections
    from backupd.repository.repository import Repository


class ChangeKind(StrEnum):
    """The fate of a segment, a table or a tenant from one snapshot to the other."""

    NEW = "new"
    GONE = "gone"
    CHANGED = "changed"


class SegmentChange(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that is not the same in both snapshots, as the store shows it."""

    segment: Pseudonym
    change: ChangeKind
    stored_before: int
    """Bytes of the sections that the first snapshot needs of it."""
    stored: int


class TableDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A table whose rows are not the same in both snapshots."""

    schema: str
    table: str
    change: ChangeKind
    rows_before: int
    rows: int
    bytes_before: int
    bytes: int


class TenantDifference(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's rows in one data class that are not the same in both snapshots."""

    tenant: str | None
    data_class: str
    change: ChangeKind
    rows_before: int
    rows: int
    bytes_before: int
    bytes: int


class SnapshotDifference(msgspec.Struct, frozen=True, kw_only=True):
    """The difference between two snapshots of one database."""

    before: SnapshotName
    after: SnapshotName
    same: int
    """Number of segments that are as they were."""
    segments: tuple[SegmentChange, ...] | None
    """None between generations, where no segment has the pseudonym that it had."""
    tables: tuple[TableDifference, ...] | None = None
    """None without an identity, as `tenants`."""
    tenants: tuple[TenantDifference, ...] | None = None


def compare_segments(
    names: tuple[SnapshotName, SnapshotName], records: tuple[Record, Record], found: tuple[SnapshotSections, ...]
) -> SnapshotDifference:
    """Compare two snapshots of one generation by what their records and packs list.

    Raises UsageError when they are of different generations, or of different databases.
    """
    _require_comparable(*records)
    if records[0].generation != records[1].generation:
        raise UsageError(
            "the snapshots are of different generations, in which segments have other pseudonyms",
            hint="With --identity FILE they are compared by tables and tenants.",
        )
    changes = _segment_changes(*found)
    return SnapshotDifference(
        before=names[0],
        after=names[1],
        same=sum(1 for segment in found[1].manifests if segment in found[0].manifests) - _changed(changes),
        segments=changes,
    )


def compare_opened(
    repositories: tuple[Repository, Repository], choices: tuple[OpenedChoice, OpenedChoice]
) -> SnapshotDifference:
    """Compare two snapshots by the tables and tenants in them.

    Raises UsageError for snapshots of different databases, and what `read_parts` raises.
    """
    before, after = choices
    _require_comparable(before.record, after.record)
    alike = before.record.generation == after.record.generation
    old, new = (
        {(one.name.tenant, one.name.data_class): one for one in read_parts(repository, choice)}
        for repository, choice in zip(repositories, choices, strict=True)
    )
    return SnapshotDifference(
        before=before.snapshot,
        after=after.snapshot,
        same=sum(1 for key, one in new.items() if key in old and _is_same(old[key], one, alike=alike)),
        segments=_segment_changes(before.sections, after.sections) if alike else None,
        tables=_table_changes(old, new, alike=alike),
        tenants=_tenant_changes(old, new, alike=alike),
    )


_Parts = Mapping[tuple[str | None, str], SegmentParts]


def _require_comparable(before: Record, after: Record) -> None:
    if before.database != after.database:
        raise UsageError("the snapshots are of different databases", hint="`backupd snapshots` says of which each is.")


def _segment_changes(before: SnapshotSections, after: SnapshotSections) -> tuple[SegmentChange, ...]:
    old, new = _stored(before), _stored(after)
    changes = []
    for segment in sorted({*old, *new}):
        if segment not in old:
            kind = ChangeKind.NEW
        elif segment not in new:
            kind = ChangeKind.GONE
        elif before.manifests[segment].row.sha256 != after.manifests[segment].row.sha256:
            kind = ChangeKind.CHANGED
        else:
            continue
        changes.append(
            SegmentChange(segment=segment, change=kind, stored_before=old.get(segment, 0), stored=new.get(segment, 0))
        )
    return tuple(changes)


def _changed(changes: tuple[SegmentChange, ...]) -> int:
    return sum(1 for one in changes if one.change is ChangeKind.CHANGED)


def _stored(sections: SnapshotSections) -> dict[Pseudonym, int]:
    stored: dict[Pseudonym, int] = {}
    for (segment, _), section in sections.sections.items():
        stored[segment] = stored.get(segment, 0) + section.row.length
    return stored


def _is_same(old: SegmentParts, new: SegmentParts, *, alike: bool) -> bool:
    mine, theirs = _by_table(old), _by_table(new)
    return (
        old.contents == new.contents
        and mine.keys() == theirs.keys()
        and all(_is_same_part(mine[table], theirs[table], alike=alike) for table in mine)
    )


def _by_table(one: SegmentParts) -> dict[tuple[str, str], HeldRows]:
    return {(part.schema, part.table): part for part in one.parts}


def _is_same_part(old: HeldRows, new: HeldRows, *, alike: bool) -> bool:
    return old.spans == new.spans or (alike and old.runs == new.runs)


def _table_changes(old: _Parts, new: _Parts, *, alike: bool) -> tuple[TableDifference, ...]:
    """Return the tables that differ in any segment, by name, with their sums over all segments."""
    sums: dict[tuple[str, str], list[int]] = {}
    differing: set[tuple[str, str]] = set()
    for key in {**old, **new}:
        mine = _by_table(old[key]) if key in old else {}
        theirs = _by_table(new[key]) if key in new else {}
        for table in {**mine, **theirs}:
            was, now = mine.get(table), theirs.get(table)
            total = sums.setdefault(table, [0, 0, 0, 0])
            for place, number in enumerate((was and was.rows, now and now.rows, was and was.size, now and now.size)):
                total[place] += number or 0
            if was is None or now is None or not _is_same_part(was, now, alike=alike):
                differing.add(table)
    return tuple(
        TableDifference(
            schema=schema,
            table=table,
            change=_kind(sums[schema, table]),
            rows_before=sums[schema, table][0],
            rows=sums[schema, table][1],
            bytes_before=sums[schema, table][2],
            bytes=sums[schema, table][3],
        )
        for schema, table in sorted(differing)
    )


def _kind(sums: list[int]) -> ChangeKind:
    return ChangeKind.NEW if not sums[2] else ChangeKind.GONE if not sums[3] else ChangeKind.CHANGED


def _tenant_changes(old: _Parts, new: _Parts, *, alike: bool) -> tuple[TenantDifference, ...]:
    changes = []
    for key in sorted({**old, **new}, key=lambda key: (key[0] or "", key[1])):
        was, now = old.get(key), new.get(key)
        if was is None:
            kind = ChangeKind.NEW
        elif now is None:
            kind = ChangeKind.GONE
        elif not _is_same(was, now, alike=alike):
            kind = ChangeKind.CHANGED
        else:
            continue
        changes.append(
            TenantDifference(
                tenant=key[0],
                data_class=key[1],
                change=kind,
                rows_before=_rows(was),
                rows=_rows(now),
                bytes_before=_bytes(was),
                bytes=_bytes(now),
            )
        )
    return tuple(changes)


def _rows(one: SegmentParts | None) -> int:
    return sum(part.rows for part in one.parts) if one is not None else 0


def _bytes(one: SegmentParts | None) -> int:
    return sum(part.size for part in one.parts) + one.files if one is not None else 0
