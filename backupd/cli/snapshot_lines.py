"""The lines that describe a region, a snapshot, what it holds, and how two differ; none is wider than 80 columns unless
a name is.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from backupd.cli.output import Cell, TextTable, age, fact_lines, human_bytes
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted, counts, day

if TYPE_CHECKING:
    from backupd.model.documents import Totals
    from backupd.operations.snapshots.details import (
        DatabaseDetails,
        DatabaseOnStore,
        RegionDetails,
        SnapshotDetails,
        SnapshotOnStore,
    )
    from backupd.operations.snapshots.difference import SnapshotDifference, TableDifference, TenantDifference
    from backupd.operations.snapshots.holdings import OpenedHoldings
    from backupd.operations.snapshots.records import SnapshotInfo

_MOST_TABLES = 12
"""Tables that the screen of one snapshot shows; `ls` lists them all."""
_SHARED = "(shared)"


def region_lines(one: RegionDetails, now: datetime) -> Iterator[str]:
    """Yield the screen of a region."""
    yield f"{one.region}: repository {one.repository}"
    if one.generations:
        yield f"  {counted(len(one.generations), 'generation')}, the newest {one.generations[-1]}"
    for store in one.stores:
        room = "" if store.free is None else f", {human_bytes(store.free)} free of {human_bytes(store.total or 0)}"
        yield f"  {store.store}: {counts(snapshot=store.snapshots)}, ledger of {counted(store.ledger, 'entry')}{room}"
    for database in one.databases:
        yield from _database_lines(database, now)
    if not one.databases:
        yield "  there is no snapshot yet"


def _database_lines(one: DatabaseDetails, now: datetime) -> Iterator[str]:
    newest, totals = one.newest, one.newest.totals
    yield f"{label_of(one.database, one.member)}: {counted(one.snapshots, 'snapshot')} since {day(one.oldest)}"
    yield f"  newest {newest.snapshot[:SHORT_NAME]}, {age(newest.exported, now)}"
    yield f"    {counts(table=totals.tables, row=totals.rows, segment=newest.segments)}, {human_bytes(totals.bytes)}"
    yield f"    {_stored(totals)}"
    yield f"  all of them added {human_bytes(one.added)}"
    for store in one.stores:
        yield f"  {store.store}: {counted(store.snapshots, 'snapshot')}, {_verified(store, now)}"
    if one.restored is not None:
        yield f"  restored {age(one.restored_at, now)}: {one.restored[:SHORT_NAME]}"
    else:
        yield "  restored never"


def _stored(totals: Totals) -> str:
    return f"{human_bytes(totals.stored)} stored, {human_bytes(totals.added)} of it new"


def _verified(store: DatabaseOnStore, now: datetime) -> str:
    if store.verified is None:
        return "none verified"
    return f"verified {age(store.verified_at, now)}: {store.verified[:SHORT_NAME]}"


def snapshot_lines(one: SnapshotDetails, holdings: OpenedHoldings | None, now: datetime) -> Iterator[str | TextTable]:
    """Yield the screen of one snapshot, with its biggest tables where it was opened."""
    totals = one.totals
    facts: dict[str, Cell] = {
        "snapshot": one.snapshot[:SHORT_NAME],
        "database": f"{one.region}/{label_of(one.database, one.member)}",
        "exported": f"{one.exported:%Y-%m-%d %H:%M:%S} UTC, {age(one.exported, now)}",
        "published": f"{one.published:%Y-%m-%d %H:%M:%S} UTC",
        "server": f"PostgreSQL {one.server // 10000}.{one.server % 10000}",
        "generation": one.generation,
        "holds": f"{counts(table=totals.tables, row=totals.rows, segment=one.segments)}, {human_bytes(totals.bytes)}",
        "stored": f"{_stored(totals)}, in {counted(one.packs, 'pack')}",
        "restored": "never" if one.restored_at is None else age(one.restored_at, now),
    }
    if holdings is not None:
        facts["left out"] = f"{counted(holdings.purged, 'segment')} purged, {holdings.aged} expired"
    yield from fact_lines(facts)
    for store in one.stores:
        yield from _on_store_lines(store, now)
    if holdings is not None:
        yield ""
        shown = holdings.tables[:_MOST_TABLES]
        yield TextTable(
            ("table", "rows", "bytes"), [(f"{t.schema}.{t.table}", t.rows, human_bytes(t.bytes)) for t in shown]
        )
        if len(holdings.tables) > len(shown):
            more = counted(len(holdings.tables) - len(shown), "more table")
            yield f"{more}: backupd ls {one.region} {one.snapshot[:SHORT_NAME]}"


def _on_store_lines(store: SnapshotOnStore, now: datetime) -> Iterator[str]:
    if not store.there:
        yield f"on {store.store}: not there"
        return
    verified = "never verified" if store.verified_at is None else f"verified {age(store.verified_at, now)}"
    yield f"on {store.store}: {verified}"
    if not store.kept:
        yield f"  goes at the next expiry: {'; '.join(store.reasons)}"
        return
    for reason in store.reasons:
        yield f"  kept: {reason}"
    if store.until is not None:
        yield f"  goes on {day(store.until)}, or before if something newer takes its place"


def listed_line(one: SnapshotInfo) -> str:
    """Return the line that says which snapshot is listed, of which database: `latest` may be any one's."""
    label = one.database if one.member is None else f"{one.database} ({one.member})"
    return f"snapshot {one.name[:SHORT_NAME]} of {label}, exported {one.exported:%Y-%m-%d %H:%M} UTC"


def holdings_tables(holdings: OpenedHoldings) -> Iterator[str | TextTable]:
    """Yield every table and every tenant of a snapshot that was opened."""
    yield TextTable(
        ("table", "rows", "bytes"),
        [(f"{one.schema}.{one.table}", one.rows, human_bytes(one.bytes)) for one in holdings.tables],
    )
    yield ""
    yield TextTable(
        ("tenant", "class", "rows", "bytes", "stored"),
        [
            (_tenant(one.tenant), one.data_class, one.rows, human_bytes(one.bytes), human_bytes(one.stored))
            for one in holdings.tenants
        ],
    )


def difference_lines(found: SnapshotDifference) -> Iterator[str | TextTable]:
    """Yield how two snapshots differ: tables and tenants where they were opened, else segments."""
    yield f"from {found.before[:SHORT_NAME]} to {found.after[:SHORT_NAME]}"
    if found.segments is not None:
        kinds = [one.change.value for one in found.segments]
        numbers = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("new", "gone", "changed"))
        yield f"  segments: {numbers}, {found.same} as they were"
    if found.tables is not None and found.tenants is not None:
        yield from _opened_difference(found)
    elif found.segments:
        yield ""
        yield TextTable(
            ("segment", "change", "stored", "before"),
            [
                (one.segment, one.change.value, human_bytes(one.stored), human_bytes(one.stored_before))
                for one in found.segments
            ],
        )


def _opened_difference(found: SnapshotDifference) -> Iterator[str | TextTable]:
    if not found.tables and not found.tenants:
        yield "  no table and no tenant differs"
        return
    if found.tables:
        yield ""
        yield TextTable(
            ("table", "change", "rows", "before", "bytes", "before"),
            [(f"{one.schema}.{one.table}", one.change.value, *_amounts(one)) for one in found.tables],
        )
    if found.tenants:
        yield ""
        yield TextTable(
            ("tenant", "class", "change", "rows", "before", "bytes", "before"),
            [(_tenant(one.tenant), one.data_class, one.change.value, *_amounts(one)) for one in found.tenants],
        )


def _amounts(one: TableDifference | TenantDifference) -> tuple[Cell, ...]:
    return one.rows, one.rows_before, human_bytes(one.bytes), human_bytes(one.bytes_before)


def label_of(database: str, member: str | None) -> str:
    """Return a database's label, with the opaque mark of one of several."""
    return database if member is None else f"{database} ({member})"


def _tenant(name: str | None) -> str:
    """Return a tenant's name, in quotes where it could pass for the word for shared rows, or for quotes."""
    if name is None:
        return _SHARED
    return f'"{name}"' if not name or name.startswith(("(", '"')) else name
