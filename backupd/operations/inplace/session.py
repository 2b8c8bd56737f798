"""Stage the snapshot's rows beside the running database's own, in one session: steps 1 and 2 of a restore in place.
Here the tenant's part of a snapshot is found, with the shared rows it refers to, and which tables can be compared
although the schema has changed since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from backupd.errors import RefusedError
from backupd.model.documents import REDUCED
from backupd.model.inventory import TableName
from backupd.model.tenancy import TenancyKind
from backupd.planning.inplace import HARMLESS, Conflict, ConflictKind
from backupd.planning.mapping.tables import map_tables, require_mapped, tenant_columns
from backupd.planning.restore import Piece, RestorePlan, TablePlan
from backupd.postgres.connect import Connection
from backupd.postgres.inplace.compare import Pair
from backupd.postgres.inplace.conflicts import right_conflicts
from backupd.postgres.inplace.live import Live, LiveTable, read_live
from backupd.postgres.inplace.session import refuse_unfit, stage
from backupd.postgres.source.inventory import read_inventory
from backupd.postgres.target import finish, session

if TYPE_CHECKING:
    from backupd.operations.inplace.types import InPlaceRequest
    from backupd.operations.restore.contents import SnapshotContents
    from backupd.operations.restore.opened_choice import OpenedChoice


@dataclass(frozen=True, slots=True)
class PreparedSession:
    """A session in which live and staged rows lie side by side."""

    connection: Connection
    live: Live
    pairs: dict[int, Pair]
    """Tables to be compared, live and staged, by oid."""
    doubtful: dict[int, ConflictKind]
    """Tables about which the snapshot says nothing, by oid, with the conflict that rows of the tenant there are."""
    shared: dict[int, tuple[str, ...]]
    """Columns that both sides have, of each shared table that was staged, by oid."""
    conflicts: tuple[Conflict, ...]
    """Conflicts found so far: of the schema and of the role's rights."""
    blind: bool
    """Whether the role may not read all of it, so that nothing can be compared."""
    sequences: dict[tuple[str, str], int] = field(default_factory=dict)
    """Last values in the snapshot, by schema and name of the sequence."""


@contextmanager
def prepare_session(
    request: InPlaceRequest, contents: TenantContents, text: dict[str, str] | None
) -> Iterator[PreparedSession]:
    """Connect, read the live catalog, and stage the rows; the staged rows are gone when the block ends.

    Raises RefusedError for a database this cannot be done in, UnmappedError, SourceError, and what reading raises.
    """
    with session.connect(request.target, request.database, text) as connection:
        refuse_unfit(connection)
        finish.disable_event_triggers(connection)
        live, nulls = _look(request, connection)
        drift = find_drift(contents, live, nulls)
        rights = tuple(right_conflicts(connection, live))
        shared = {} if rights else _referred(contents, live, drift)
        if rights:
            yield PreparedSession(connection, live, {}, {}, {}, (*rights, *drift.conflicts), blind=True)
            return
        staging = partial(stage, connection, encoding=(text or {}).get("client_encoding", "UTF8"))
        unfit = _stage(staging, contents, drift, live, shared)
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
    """Return the shared tables that rows of the snapshot refer to and that can be compared, with their columns."""
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
    staging: Callable[[tuple[int, str], dict[str, str | None], Iterable[memoryview]], bool],
    contents: TenantContents,
    drift: Drift,
    live: Live,
    shared: dict[int, tuple[str, ...]],
) -> dict[TableName, int]:
    """Stage the rows; returns the tables whose types do not take their rows any more, with the number of rows."""
    ours = {pair.live.name: pair for pair in drift.pairs.values() if pair.columns is not None}
    others = {live.names[oid]: oid for oid in shared}
    unfit = {}
    for name, rows in contents.read(ours, others):
        oid = ours[name].live.oid if name in ours else others[name]
        columns = ours[name].compared if name in ours else shared[oid]
        typed = {column: _safe_type(live, oid, column) for column in columns}
        if not staging((oid, live.sql(oid)), typed, rows):
            unfit[name] = contents.rows_of(name, shared=name in others)
    return unfit


def _safe_type(live: Live, oid: int, column: str) -> str | None:
    """Return the type to stage a column with, where its own would run code of a role that is no superuser; else None.

    Raises RefusedError when there is no such type.
    """
    types = live.foreign_code.columns.get(oid, {})
    if column in types and types[column] is None:
        raise RefusedError(
            f"the type of a column of {live.names[oid].dotted} runs code of its owner when a value is read",
            hint="Nothing is run to look; restore the tenant into a new database.",
        )
    return types.get(column)


class TenantContents:
    """The rows that a snapshot has of one tenant, and of nobody."""

    def __init__(self, choice: OpenedChoice, contents: SnapshotContents, plan: RestorePlan, tenant: str) -> None:
        self._contents = contents
        self._plan = plan
        names = [choice.name_of(segment) for segment in choice.segments]
        self._pieces: dict[str | None, defaultdict[int, list[Piece]]] = {
            tenant: defaultdict(list),
            None: defaultdict(list),
        }
        for piece in (piece for bundles in plan.passes for bundle in bundles for piece in bundle):
            self._pieces[names[piece.segment].tenant][piece.table].append(piece)
        self._tenant = tenant
        self.classes = frozenset(name.data_class for name in names if name.tenant == tenant)
        """Data classes of which the snapshot has something of the tenant."""
        listed = {(schema, name) for schema, name, _ in plan.facts.tables}
        filled = {(table.schema, table.name) for table in plan.tables}
        self.known = frozenset(TableName(*name) for name in listed | plan.empty | filled)
        """Tables that existed when the snapshot was made."""
        self.incomplete = bool(choice.purged or choice.aged) or REDUCED in choice.record.extra
        """Whether something of this generation was purged, or went with the age of its class."""
        self.sequences = {(schema, name): last for schema, name, last, called in plan.sequences if called}
        """Last values of sequences, by schema and name."""

    @property
    def tables(self) -> dict[TableName, TablePlan]:
        """The tables with rows of the tenant."""
        return self._named(self._tenant)

    @property
    def shared(self) -> dict[TableName, TablePlan]:
        """The tables with rows of nobody."""
        return self._named(None)

    def rows_of(self, name: TableName, *, shared: bool = False) -> int:
        """Return the number of the tenant's rows in one table, or of nobody's rows if `shared`."""
        pieces = self._pieces[None if shared else self._tenant]
        found = (piece for place, group in pieces.items() if self._name(place) == name for piece in group)
        return sum(rows for piece in found for rows, _, _ in piece.unpacked()[0])

    def read(
        self, tenant: Iterable[TableName], shared: Iterable[TableName]
    ) -> Iterator[tuple[TableName, Iterator[memoryview]]]:
        """Yield the rows of the tenant's tables, then of shared ones, each to be read before the next.

        Raises DamageError and the store's errors.
        """
        wanted = [(self._tenant, frozenset(tenant)), (None, frozenset(shared))]
        pieces = [
            piece
            for owner, names in wanted
            for place, found in sorted(self._pieces[owner].items())
            if self._name(place) in names
            for piece in found
        ]
        rows = self._contents.rows(pieces)
        for place, group in groupby(rows, key=lambda one: one[0].table):
            yield self._name(place), (piece for _, piece in group)

    def _named(self, owner: str | None) -> dict[TableName, TablePlan]:
        return {self._name(place): self._plan.tables[place] for place in self._pieces[owner]}

    def _name(self, place: int) -> TableName:
        table = self._plan.tables[place]
        return TableName(table.schema, table.name)


@dataclass(frozen=True, slots=True)
class Drift:
    """The differences between the live tables and the snapshot's."""

    pairs: dict[int, Pair]
    """Tables that can be compared, by oid; with columns where the snapshot has rows."""
    doubtful: dict[int, ConflictKind]
    """Tables about which the snapshot says nothing: the tenant's rows there, if any, are a conflict of this kind."""
    conflicts: tuple[Conflict, ...]


def find_drift(contents: TenantContents, live: Live, tenancy_nulls: frozenset[TableName]) -> Drift:
    """Compare every table on either side. `tenancy_nulls` are those whose rows without a tenant are shared."""
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
    """Return why a table without rows of the tenant in the snapshot may have had some; None when it had none."""
    if table.data_class not in contents.classes and contents.incomplete:
        return ConflictKind.CLASS_MISSING
    if table.name in contents.shared and not nulls:
        return ConflictKind.ROUTE_CHANGED
    if not _was_there(contents, table.name, live):
        return ConflictKind.TABLE_NEW
    return None


def _was_there(contents: TenantContents, name: TableName, live: Live) -> bool:
    """Check whether the snapshot knew the table, or the partitioned table of which it is a new partition."""
    tables = live.inventory.by_name()
    roots = set(tables[name].parents)
    return any(one == name or (one in tables and not roots.isdisjoint(tables[one].parents)) for one in contents.known)
