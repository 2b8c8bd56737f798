"""Step 2: what changed in the schema since the snapshot, and which tables can be compared in spite of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.planning.restoring.inplace import HARMLESS, Conflict, ConflictKind
from backupd.postgres.inplace.comparing import Pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.model.inventory import TableName
    from backupd.operations.restore.inplace.contents import TenantContents
    from backupd.planning.restoring.restore import TablePlan
    from backupd.postgres.inplace.live import Live, LiveTable


@dataclass(frozen=True, slots=True)
class Drift:
    """Live tables beside those of the snapshot."""

    pairs: dict[int, Pair]
    """That can be compared, by oid; with columns where the snapshot has rows."""
    doubtful: dict[int, ConflictKind]
    """Tables about which the snapshot says nothing: the tenant's rows there, if any, are a conflict of this kind."""
    conflicts: tuple[Conflict, ...]


def find_drift(contents: TenantContents, live: Live, tenancy_nulls: frozenset[TableName]) -> Drift:
    """Look at every table on either side. `tenancy_nulls` are those whose rows without a tenant are shared."""
    by_name = {table.name: table for table in live.tables.values()}
    pairs: dict[int, Pair] = {}
    conflicts: list[Conflict] = []
    for name, plan in contents.tables.items():
        table = by_name.get(name)
        if table is None:
            kind = ConflictKind.ROUTE_CHANGED if name in live.names.values() else ConflictKind.TABLE_GONE
            conflicts.append(Conflict(name.dotted, kind, contents.rows_of(name)))
            continue
        found = list(_columns(plan, table))
        conflicts += found
        if all(one.kind in HARMLESS for one in found):
            pairs[table.oid] = Pair(table, plan.columns)
    drifted = contents.tables.keys()
    doubtful = {}
    for table in live.tables.values():
        if table.name in drifted:
            continue
        doubt = _doubt(contents, table, live, nulls=table.name in tenancy_nulls)
        if doubt is None:
            pairs[table.oid] = Pair(table, None)
        else:
            doubtful[table.oid] = doubt
    return Drift(pairs, doubtful, tuple(conflicts))


def _columns(plan: TablePlan, table: LiveTable) -> Iterator[Conflict]:
    then, now = set(plan.columns), set(table.columns)
    for kind, found in (
        (ConflictKind.COLUMN_GONE, then - now),
        (ConflictKind.COLUMN_REQUIRED, (now - then) & table.required),
        (ConflictKind.COLUMN_NEW, (now - then) - table.required),
    ):
        if found:
            yield Conflict(table.name.dotted, kind, len(found))


def _doubt(contents: TenantContents, table: LiveTable, live: Live, *, nulls: bool) -> ConflictKind | None:
    """Why the tenant's having no rows at the snapshot may not mean that it had none; None: it does."""
    if table.data_class not in contents.classes and contents.incomplete:
        return ConflictKind.CLASS_MISSING
    if table.name in contents.shared and not nulls:
        return ConflictKind.ROUTE_CHANGED
    if not _was_there(contents, table.name, live):
        return ConflictKind.TABLE_NEW
    return None


def _was_there(contents: TenantContents, name: TableName, live: Live) -> bool:
    """It, or the partitioned table that it is a new partition of."""
    tables = live.inventory.by_name()
    roots = set(tables[name].parents)
    return any(one == name or (one in tables and not roots.isdisjoint(tables[one].parents)) for one in contents.known)
