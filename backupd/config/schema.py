"""The configuration as frozen values: every key there is, with its default and its limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from backupd.config.deletion import CopySection, KeeperSection, LifecycleSection, RetentionSection
from backupd.config.drills import AssertionSection, DrillSection, ObjectivesSection
from backupd.config.section import Section
from backupd.config.service import DaemonSection, RegionScheduleSection, ScheduleSection
from backupd.config.telling import MetricsSection, NotifySection, StatusSection
from backupd.config.text.fields import (
    AbsolutePath,
    Bandwidth,
    Dsn,
    Duration,
    Host,
    HostKey,
    Identifier,
    Name,
    RegionLabel,
    RemotePath,
    SecretFile,
    Service,
    Several,
    SignerKey,
    Size,
    TablePattern,
    TenantPattern,
    User,
    within,
)
from backupd.config.text.secrets import FileRef
from backupd.model.tenancy import ClassPolicy, TenancyKind

_MIB = 1 << 20
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


Role = Literal["writer", "keeper"]
"""The writer adds backups; the keeper expires, purges and attests."""


class Credential(NamedTuple):
    """Who logs in to a store, and with what."""

    user: str
    key: FileRef


class Node(Section):
    """`[node]`: this machine."""

    name: Name
    location: Name | None = None
    """Where this machine stands; rows of a region are restored here only if its locations allow it. None: not known."""
    state_dir: AbsolutePath = Path("/var/lib/backupd")
    spool_dir: AbsolutePath = Path("/var/spool/backupd")
    spool_size: Annotated[Size, Field(ge=64 * _MIB)] = 2048 * _MIB
    """Bytes of sealed objects that may wait for a slow store."""
    signing_key_file: SecretFile | None = None
    """None: this machine verifies and restores, and writes no backups."""
    tenant_key_file: SecretFile | None = None
    """64 hex digits, from which tenants' opaque ids and tags are made: the same file on writers and keepers. None: this
    machine can neither back up nor purge."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    compression_level: Annotated[int, Field(ge=1, le=19)] = 3
    """zstd's; above 19 its window would not fit the memory promised."""
    lock_timeout: Annotated[Duration, within(_SECOND)] = timedelta(seconds=30)
    client_dirs: Annotated[tuple[AbsolutePath, ...], Several] = ()
    """Folders with pg_dump and pg_restore, searched before PATH and the distribution's."""


class Trust(Section):
    """`[trust]`: whose signatures are believed."""

    signers: Annotated[tuple[SignerKey, ...], Several] = ()
    """Empty: the signers the repository itself names are believed, and their fingerprints printed."""
    keepers: Annotated[tuple[SignerKey, ...], Several] = ()

    @property
    def ledger(self) -> tuple[str, ...]:
        """Whose ledger entries are believed: the keepers', or the signers' when there are none."""
        return self.keepers or self.signers


class SftpStore(Section):
    """`[stores.NAME]` with `kind = "sftp"`."""

    kind: Literal["sftp"]
    host: Host
    port: Annotated[int, Field(ge=1, le=65535)] = 22
    user: User
    key: SecretFile
    keeper_user: User | None = None
    """Who may remove; None: `user`."""
    keeper_key: SecretFile | None = None
    """None: `key`. Read on keepers only."""
    keeper_path: RemotePath | None = None
    """The same folder as the keeper's account sees it; None: `path`."""
    ingest: bool = False
    """Whether writers only hand in what they write, and the keeper takes it: for accounts with sub-accounts."""
    host_keys: Annotated[tuple[HostKey, ...], Several, Field(min_length=1)]
    path: RemotePath
    location: Name
    connections: Annotated[int, Field(ge=1, le=32)] = 4
    bandwidth: Bandwidth = 0
    """Bytes per second; 0 is unlimited."""
    deadline: Annotated[Duration, within(_SECOND)] = timedelta(seconds=60)
    """How long one request may go without any progress."""
    patience: Duration = timedelta(minutes=10)
    """How long a broken connection is made anew before a run gives up."""

    @model_validator(mode="after")
    def _taken_by_another(self) -> SftpStore:
        if self.ingest and self.credential("keeper") == self.credential("writer"):
            raise ValueError("has ingest without a keeper_user or keeper_key of its own; who hands in must not take")
        return self

    def path_of(self, role: Role) -> str:
        """Where the store is for this role's account."""
        return self.path if role == "writer" or self.keeper_path is None else self.keeper_path

    def credential(self, role: Role) -> Credential:
        """What this role logs in with."""
        if role == "writer":
            return Credential(self.user, self.key)
        return Credential(self.keeper_user or self.user, self.keeper_key or self.key)


class DirectoryStore(Section):
    """`[stores.NAME]` with `kind = "directory"`: a mounted disk, tests, the demo."""

    kind: Literal["directory"]
    path: AbsolutePath
    location: Name
    bandwidth: Bandwidth = 0


StoreSection = Annotated[SftpStore | DirectoryStore, Field(discriminator="kind")]


class TenancySection(Section):
    """`tenancy = {…}` of a database: how its rows belong to tenants."""

    kind: Annotated[TenancyKind, Field(strict=False)]
    column: Identifier | None = None
    schema_pattern: TenantPattern | None = None
    database_pattern: TenantPattern | None = None
    role_pattern: TenantPattern | None = None
    unclassified: Literal["refuse", "shared"] = "refuse"
    default_class: Name = "uploaded"


class TableSection(Section):
    """One `[[….tables]]`: the first whose `match` covers a table decides about it."""

    match: Annotated[tuple[TablePattern, ...], Several, Field(min_length=1)]
    column: Identifier | None = None
    path: Annotated[tuple[Identifier, ...], Several] = ()
    shared: bool = False
    data_class: Annotated[Name | None, Field(alias="class")] = None
    null_tenant: Literal["refuse", "shared"] = "refuse"

    @model_validator(mode="after")
    def _one_way(self) -> TableSection:
        if (self.column is not None) + bool(self.path) + self.shared > 1:
            raise ValueError("has more than one of column, path and shared; a table has one way to its tenant")
        return self


class DatabaseSection(Section):
    """`[regions.NAME.databases.LABEL]`: one database, or one server's databases when tenancy is by database."""

    dsn: Dsn | None = None
    service: Service | None = None
    passfile: SecretFile | None = None
    servicefile: SecretFile | None = None
    """Where `service` is looked up; None: where libpq looks."""
    tenancy: TenancySection
    tables: Annotated[tuple[TableSection, ...], Several] = ()

    @model_validator(mode="after")
    def _one_address(self) -> DatabaseSection:
        if (self.dsn is None) == (self.service is None):
            raise ValueError("needs exactly one of dsn and service")
        return self


class RegionSection(Section):
    """`[regions.NAME]`: databases, and where their backups may go."""

    locations: Annotated[tuple[Name, ...], Several, Field(min_length=1)]
    stores: Annotated[tuple[Name, ...], Several, Field(min_length=1)]
    generation: Annotated[Duration, within(_DAY, 366 * _DAY)] = 28 * _DAY
    databases: Annotated[dict[Name, DatabaseSection], Field(min_length=1)]
    retention: RetentionSection = RetentionSection()
    lifecycle: LifecycleSection = LifecycleSection()
    objectives: ObjectivesSection = ObjectivesSection()
    assertions: Annotated[tuple[AssertionSection, ...], Several] = ()
    schedule: RegionScheduleSection = RegionScheduleSection()


class ClassSection(Section):
    """`[classes.NAME]`: what a data class asks of a backup."""

    backup: Annotated[ClassPolicy | None, Field(strict=False)] = None
    """None: as the class is without being written, and standard for one that is new."""
    max_age: Annotated[Duration, within(_DAY)] | None = None
    """None: only the region's own maximum counts."""
    clock: Literal["tenant", "own"] = "tenant"
    """own: the class has an unsubscribe date of its own in each tenant."""


DEFAULT_CLASSES = {
    "account": ClassPolicy.STANDARD,
    "operation": ClassPolicy.NEVER,
    "uploaded": ClassPolicy.STANDARD,
    "session": ClassPolicy.NEVER,
    "support": ClassPolicy.STANDARD,
}
"""Operation and session data are temporary: a backup would only keep them longer than promised."""


class Config(Section):
    """The whole file."""

    node: Node
    recipients: Annotated[tuple[AbsolutePath, ...], Several, Field(min_length=1)]
    """Recipient files: who will be able to read the backups."""
    trust: Trust = Trust()
    keeper: KeeperSection | None = None
    """None: this machine removes nothing."""
    drill: DrillSection | None = None
    """None: no drill runs here."""
    daemon: DaemonSection = DaemonSection()
    schedule: ScheduleSection = ScheduleSection()
    metrics: MetricsSection = MetricsSection()
    notify: NotifySection = NotifySection()
    status: StatusSection = StatusSection()
    stores: Annotated[dict[Name, StoreSection], Field(min_length=1)]
    regions: Annotated[dict[RegionLabel, RegionSection], Field(min_length=1)]
    classes: dict[Name, ClassSection] = Field(default_factory=dict)
    copies: Annotated[tuple[CopySection, ...], Several] = ()

    def copies_of(self, region: str) -> dict[str, timedelta]:
        """How long each declared kind of copy of a region's stores is kept at most."""
        return {copy.name: copy.keep for copy in self.copies if not copy.regions or region in copy.regions}

    def policies(self) -> dict[str, ClassPolicy]:
        """Every class with its policy: the five defaults, then what the file says."""
        written = {name: section.backup for name, section in self.classes.items()}
        return DEFAULT_CLASSES | {
            name: policy or DEFAULT_CLASSES.get(name, ClassPolicy.STANDARD) for name, policy in written.items()
        }

    def max_ages(self) -> dict[str, timedelta]:
        """The classes that have a maximum age of their own."""
        return {name: section.max_age for name, section in self.classes.items() if section.max_age is not None}

    def own_clocks(self) -> frozenset[str]:
        """The classes with an unsubscribe date of their own."""
        return frozenset(name for name, section in self.classes.items() if section.clock == "own")
