"""The values that a restore takes, those that pass between its steps, and the report that it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from backupd.clock import Clock
from backupd.model.documents import LedgerHead
from backupd.model.ids import SnapshotName
from backupd.model.ledger import Restored
from backupd.model.tenancy import SegmentName
from backupd.operations.restore.contents import SnapshotContents
from backupd.planning.restore import RestorePlan
from backupd.planning.selection import Selection
from backupd.postgres.connect import Source
from backupd.postgres.schema.changes import SchemaChanges
from backupd.postgres.target.finish import UnfilledView
from backupd.postgres.target.foreign_keys import BrokenKey
from backupd.postgres.target.pg_restore import SchemaArchive
from backupd.store.base import Store
from backupd.trace import Trace

_MOST_READERS = 8


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """The snapshot to restore, and where to."""

    label: str
    """The configured label of the database."""
    snapshot: str
    """`latest`, the beginning of a snapshot's name or hash, or a time."""
    target: Source
    """The server; the database it names is not looked at."""
    name: str = field(repr=False)
    """Name of the new database."""
    folder: Path | None = field(default=None, repr=False)
    """New folder to write plain files into instead of a database; of the target, only its programs' folders count
    then."""
    member: str | None = field(default=None, repr=False)
    """Real name of one of several databases under the label (tenancy by database)."""
    jobs: int = 4
    """Connections that load rows or make indexes at once."""
    roles: bool = False
    """Whether roles that do not exist are made, with their settings and memberships."""
    analyze: bool = False
    """Whether statistics are made at the end."""
    selection: Selection = field(default_factory=Selection)
    """The tenants and tables to restore; all by default."""
    without_broken_keys: bool = False
    """Whether foreign keys that cannot hold are made for new rows only, instead of stopping the restore."""
    changes: SchemaChanges = field(default_factory=SchemaChanges)
    """Owners, privileges, tablespaces and roles that are to be others than they were."""
    keep_going: bool = False
    """Whether objects that PostgreSQL refuses are left out and named, instead of stopping the restore."""
    purpose: str = "restore"
    """The word for this restore in the ledger."""
    trial: bool = False
    """Whether the server is one for trying, shut in or guarded, so that nobody is warned of what owners wrote."""
    restorer: str | None = field(default=None, repr=False)
    """Name of a role to restore by that a preview is to plan."""

    pace: float | None = None
    """Seconds that each byte of COPY text took in the last restore on this machine, if one was measured."""

    @property
    def readers(self) -> int:
        """Threads that read rows, at most 8: one process feeds no more connections than that."""
        return min(self.jobs, _MOST_READERS)


@dataclass(frozen=True, slots=True)
class RestoreEnvironment:
    """The keys, clock, randomness and ledger that a restore uses."""

    identity: bytes = field(repr=False)
    """The secret half of the identity."""
    clock: Clock
    trace: Trace
    random: Callable[[int], bytes] = field(repr=False)
    store: str | None = None
    """The store's configured name, by which the ledger speaks of it; None: what is said of any store counts."""
    own_ledger: Store | None = None
    """This machine's own copy of the ledger, which the store's must not be behind."""
    at_least: LedgerHead | None = None
    """A head of the ledger that somebody kept elsewhere, which the store's must have or extend."""
    override: str | None = None
    """Reference of the decision that allows rows where they usually may not go."""
    note: Callable[[Restored], None] | None = None
    """Appends to the ledger, on a keeper; None elsewhere."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An object that PostgreSQL refused. It has no schema, because a schema may be named after a tenant."""

    kind: str
    """Kind of object as archives call it, such as `INDEX`; or `rows of table`."""
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The figures of a completed restore."""

    snapshot: SnapshotName
    exported: str
    label: str
    segments: int
    """Number of segments that were restored."""
    purged: int
    """Segments left out because a purge lists them."""
    aged: int
    """Segments left out because they went with the age of their class."""
    unselected: int
    """Segments left out because they were not asked for."""
    foreign_keys: int
    """Foreign keys left out, because tables they refer to may have been."""
    exact: bool
    """Whether rows and bytes were compared with the record's totals, which speak of more when something is left out."""
    tables: int
    """Number of tables with rows."""
    rows: int
    bytes: int
    """Bytes of COPY text that were loaded."""
    verified: int
    """Digests of rows and files that were compared, all of them equal."""
    roles_created: int
    broken_keys: tuple[BrokenKey, ...]
    """Foreign keys that cannot hold, because rows they refer to are left out."""
    unfilled_views: tuple[UnfilledView, ...]
    """Materialized views whose query fails here; they are there, without rows."""
    left_out: tuple[LeftOut, ...]
    """What PostgreSQL refused, where the restore was to keep going."""
    phases: tuple[tuple[str, float], ...]
    """Phases in order, with seconds; their sum is what a recovery takes."""
    seconds: float
    noted: bool
    """Whether the restore was appended to the ledger."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An opened snapshot with its plan, as the builders of databases and folders take it."""

    contents: SnapshotContents
    plan: RestorePlan
    schema: SchemaArchive
    name: SnapshotName
    exported: str
    server: int
    """The source's version as PostgreSQL's `server_version_num`."""
    segments: tuple[SegmentName, ...] = field(repr=False)
    """Names of the segments that the plan speaks of."""
    exact: bool
    """Whether all of it is there, and with it everything that its rows refer to."""


@dataclass(frozen=True, slots=True)
class Built:
    """The roles that were created, the foreign keys that could not be, and the views that could not be filled."""

    roles: int
    broken_keys: tuple[BrokenKey, ...]
    unfilled_views: tuple[UnfilledView, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
