"""Steps 1 and 2 on the server: the running database looked at, and the snapshot's rows staged beside its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.errors import RefusedError
from backupd.model.tenancy import TenancyKind
from backupd.operations.restore.inplace.drift import Drift, find_drift
from backupd.planning.restoring.inplace import Conflict, ConflictKind
from backupd.planning.source.tenancy import map_tables, require_mapped, tenant_columns
from backupd.postgres.inplace.live import Live, read_live
from backupd.postgres.inplace.rights import right_conflicts
from backupd.postgres.inplace.staging import stage
from backupd.postgres.inplace.transaction import refuse_unfit
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.target import finishing, session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.model.inventory import TableName
    from backupd.operations.restore.inplace.contents import TenantContents
    from backupd.operations.restore.inplace.values import InPlaceRequest
    from backupd.postgres.connect import Connection
    from backupd.postgres.inplace.comparing import Pair


@dataclass(frozen=True, slots=True)
class PreparedSession:
    """A session in which everything lies side by side."""

    connection: Connection
    live: Live
    pairs: dict[int, Pair]
    """To be compared."""
    doubtful: dict[int, ConflictKind]
    shared: dict[int, tuple[str, ...]]
    """Shared tables that were staged, and the columns both sides have."""
    conflicts: tuple[Conflict, ...]
    """Found so far: of the schema and of the role's rights."""
    blind: bool
    """Whether the role may not read all of it, so that nothing can be compared."""
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)


@contextmanager
def readied(
    request: InPlaceRequest, contents: TenantContents, text: dict[str, str] | None
) -> Iterator[PreparedSession]:
    """Connect, look, and stage; the staged rows are gone with the block.

    Raises RefusedError for a database this cannot be done in, UnmappedError, SourceError, and what reading raises.
    """
    with session.connect(request.target, request.database, text) as connection:
        refuse_unfit(connection)
        finishing.quiet_triggers(connection)
        live, nulls = _look(request, connection)
        drift = find_drift(contents, live, nulls)
        rights = tuple(right_conflicts(connection, live))
        shared = {} if rights else _referred(contents, live, drift)
        if rights:
            yield PreparedSession(connection, live, {}, {}, {}, (*rights, *drift.conflicts), blind=True)
            return
        unfit = _stage(connection, contents, drift, live, shared)
        yield PreparedSession(
            connection,
            live,
            {oid: pair for oid, pair in drift.pairs.items() if pair.live.name not in unfit},
            drift.doubtful,
            {oid: columns for oid, columns in shared.items() if live.names[oid] not in unfit},
            (
                *drift.conflicts,
                *(Conflict(name.dotted, ConflictKind.TYPE_CHANGED, rows) for name, rows in unfit.items()),
            ),
            blind=False,
            sequences=contents.sequences,
        )


def _look(request: InPlaceRequest, connection: Connection) -> tuple[Live, frozenset[TableName]]:
    if request.tenancy.kind in (TenancyKind.DATABASE, TenancyKind.NONE):
        raise RefusedError(
            "this database's tenancy leaves nothing to restore in place",
            hint="A database that is one tenant's, or nobody's, is restored as a whole, by `backupd restore database`.",
        )
    inventory = read_inventory(connection, tenant_columns(request.tenancy))
    mapping = map_tables(request.tenancy, inventory)
    require_mapped(mapping)
    nulls = frozenset(one.table for one in mapping.tables if one.null_to_shared)
    return read_live(connection, inventory, mapping, request.tenant), nulls


def _referred(contents: TenantContents, live: Live, drift: Drift) -> dict[int, tuple[str, ...]]:
    """Shared tables that rows of the snapshot refer to, and that can be compared with what they were."""
    by_name = live.inventory.by_name()
    found = {}
    for reference in live.references:
        pair, target = drift.pairs.get(reference.referring), by_name[reference.key.target]
        plan = contents.shared.get(target.name)
        if pair is None or pair.columns is None or plan is None or target.oid in live.tables:
            continue
        if set(plan.columns) <= set(target.columns) and set(reference.key.target_columns) <= set(plan.columns):
            found[target.oid] = plan.columns
    return found


def _stage(
    connection: Connection, contents: TenantContents, drift: Drift, live: Live, shared: dict[int, tuple[str, ...]]
) -> dict[TableName, int]:
    """Stage what can be; the tables whose types do not take the rows as they were, with how many there are."""
    ours = {pair.live.name: pair for pair in drift.pairs.values() if pair.columns is not None}
    others = {live.names[oid]: oid for oid in shared}
    unfit = {}
    for name, rows in contents.read(ours, others):
        oid = ours[name].live.oid if name in ours else others[name]
        columns = ours[name].compared if name in ours else shared[oid]
        if not stage(connection, oid, live.sql(oid), columns, rows):
            unfit[name] = contents.rows_of(name, shared=name in others)
    return unfit
