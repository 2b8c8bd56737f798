"""The configuration as frozen values: every key there is, with its default and its limits."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, model_validator

from backupd.config.fields import (
    AbsolutePath,
    Bandwidth,
    ConfigSection,
    Dsn,
    Duration,
    Host,
    HostKey,
    Identifier,
    KeyStep,
    Name,
    QualifiedTable,
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
from backupd.config.policy import (
    AssertionSection,
    CopySection,
    DrillSection,
    KeeperSection,
    LifecycleSection,
    ObjectivesSection,
    RetentionSection,
)
from backupd.config.secrets import FileRef
from backupd.config.service import (
    DaemonSection,
    HooksSection,
    MetricsSection,
    NotifySection,
    RegionScheduleSection,
    ScheduleSection,
    StatusSection,
)
from backupd.model.tenancy import ClassPolicy, TenancyKind

_MIB = 1 << 20
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)


Role = Literal["writer", "keeper"]
"""The account that adds backups (writer), or the one that expires, purges and attests (keeper)."""


class Credential(NamedTuple):
    """The account of a store to log in to, and the file of its private key."""

    user: str
    key: FileRef


class NodeSection(ConfigSection):
    """`[node]`: the machine that this file configures."""

    name: Name = Field(description="The name of this machine, as snapshots, leases and reports show it.")
    location: Name | None = Field(
        default=None,
        description="Where this machine stands. A region is restored or drilled here only if its `locations` "
        "hold it. Without it, that is not checked.",
    )
    state_dir: AbsolutePath = Field(
        default=Path("/var/lib/backupd"),
        description="The folder of the writer's index, for each region and store. Losing it means that the "
        "next backup starts a new generation.",
    )
    spool_dir: AbsolutePath = Field(
        default=Path("/var/spool/backupd"), description="The folder of sealed objects that wait for a store."
    )
    spool_size: Annotated[Size, Field(ge=64 * _MIB)] = Field(
        default=2048 * _MIB, description="How many bytes of sealed objects may wait for a slow store."
    )
    signing_key_file: SecretFile | None = Field(
        default=None,
        description="The key that this writer signs with. A machine without one verifies and restores, and "
        "makes no backups.",
    )
    tenant_key_file: SecretFile | None = Field(
        default=None,
        description="64 random hex digits, from which the opaque ids and tags of tenants are made: the same "
        "file on writers and keepers. A machine without it can neither back up nor purge.",
    )
    workers: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None,
        description="How many processes read, compress and seal. One for every two processors, unless this says "
        "otherwise: beside each, PostgreSQL and a thread that compresses are at work.",
    )
    compression_level: Annotated[int, Field(ge=1, le=19)] = Field(
        default=3, description="The level of zstd, at most 19: above that its window would not fit the memory promised."
    )
    lock_timeout: Annotated[Duration, within(_SECOND)] = Field(
        default=timedelta(seconds=30),
        description="How long a backup tries to lock its tables (`ACCESS SHARE`), in tries of a second, and how long "
        "others may wait for tables that it has locked. Then the run begins again by itself, up to nine times, before "
        "it ends as busy (exit status 4). A restore in place tries as long for its own locks.",
    )
    client_dirs: Annotated[tuple[AbsolutePath, ...], Several] = Field(
        default=(),
        description="Folders with `pg_dump` and `pg_restore`, searched before PATH and the folders of the "
        "distribution.",
    )


class Trust(ConfigSection):
    """`[trust]`: the keys whose signatures are believed."""

    signers: Annotated[tuple[SignerKey, ...], Several] = Field(
        default=(),
        description="The public keys of writers that are believed. If empty, the signers named in the "
        "repository are believed, and their fingerprints are printed.",
    )
    keepers: Annotated[tuple[SignerKey, ...], Several] = Field(
        default=(),
        description="The public keys of keepers whose ledger entries are believed. If empty, those of the signers are.",
    )

    @property
    def ledger(self) -> tuple[str, ...]:
        """The public keys whose ledger entries are believed: the keepers', or the signers' when no keeper is listed."""
        return self.keepers or self.signers


class SftpStoreSection(ConfigSection):
    """`[stores.NAME]` with `kind = "sftp"`: an SSH account."""

    kind: Literal["sftp"] = Field(
        description='The kind of the store: `"sftp"` for an SSH account, `"directory"` for a mounted disk.'
    )
    host: Host = Field(description="The server's name or address.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(default=22, description="The port of the server's SSH service.")
    user: User = Field(description="The account that writers log in to.")
    key: SecretFile = Field(description="The private SSH key of writers, without a passphrase.")
    keeper_user: User | None = Field(
        default=None, description="The account that keepers log in to, which may remove. Without it, `user` is."
    )
    keeper_key: SecretFile | None = Field(
        default=None, description="The private SSH key of keepers, read on keepers only. Without it, `key` is."
    )
    keeper_path: RemotePath | None = Field(
        default=None, description="The same folder as the account of keepers sees it. Without it, `path` is."
    )
    ingest: bool = Field(
        default=False,
        description="Whether writers only hand in what they write and `backupd ingest` on the keeper takes "
        "it, for accounts with sub-accounts.",
    )
    host_keys: Annotated[tuple[HostKey, ...], Several, Field(min_length=1)] = Field(
        description="The server's public host keys, pinned: no other is accepted."
    )
    path: RemotePath = Field(description="The folder on the store. Each region gets a folder in it.")
    location: Name = Field(description="Where the store stands, compared with the `locations` of regions.")
    connections: Annotated[int, Field(ge=1, le=32)] = Field(
        default=8, description="How many connections may be open at once. A far store needs several."
    )
    bandwidth: Bandwidth = Field(default=0, description="How many bytes a second may be sent and fetched at most.")
    deadline: Annotated[Duration, within(_SECOND)] = Field(
        default=timedelta(seconds=60), description="How long one request may go without any progress."
    )
    patience: Duration = Field(
        default=timedelta(minutes=10), description="How long a broken connection is tried again before a run gives up."
    )

    @model_validator(mode="after")
    def _taken_by_another(self) -> SftpStoreSection:
        if self.ingest and self.credential("keeper") == self.credential("writer"):
            raise ValueError("has ingest without a keeper_user or keeper_key of its own; who hands in must not take")
        return self

    def path_of(self, role: Role) -> str:
        """Return the folder of the store as this role's account sees it."""
        return self.path if role == "writer" or self.keeper_path is None else self.keeper_path

    def credential(self, role: Role) -> Credential:
        """Return the account and key that this role logs in with."""
        if role == "writer":
            return Credential(self.user, self.key)
        return Credential(self.keeper_user or self.user, self.keeper_key or self.key)


class DirectoryStoreSection(ConfigSection):
    """`[stores.NAME]` with `kind = "directory"`: a mounted disk, also for tests and the demo."""

    kind: Literal["directory"] = Field(
        description='The kind of the store: `"sftp"` for an SSH account, `"directory"` for a mounted disk.'
    )
    path: AbsolutePath = Field(description="The folder on the store. Each region gets a folder in it.")
    location: Name = Field(description="Where the store stands, compared with the `locations` of regions.")
    bandwidth: Bandwidth = Field(default=0, description="How many bytes a second may be sent and fetched at most.")


StoreSection = Annotated[SftpStoreSection | DirectoryStoreSection, Field(discriminator="kind")]


class TenancySection(ConfigSection):
    """`tenancy = {…}` of a database: the rules by which its rows belong to tenants."""

    kind: Annotated[TenancyKind, Field(strict=False)] = Field(
        description="How rows belong to tenants: by a column, by schema, by database, or not at all."
    )
    column: Identifier | None = Field(
        default=None, description='The column that says whose a row is, for `kind = "column"`.'
    )
    table: QualifiedTable | None = Field(
        default=None,
        description="The tenants' table, as `public.organizer`. Its own key names its tenant, every column with a "
        "foreign key to it does, and other tables follow their NOT NULL foreign keys to one of these, where only one "
        "leads there (`backupd manual tenants`). `backupd tenancy` shows what is left to decide.",
    )
    schema_pattern: TenantPattern | None = Field(
        default=None, description="A regular expression with a group `tenant` for schemas that are named after tenants."
    )
    database_pattern: TenantPattern | None = Field(
        default=None,
        description="A regular expression with a group `tenant` for databases that are named after tenants. One that "
        "takes no connections is reported as failed each time, not left out; the others are backed up.",
    )
    without_databases: Annotated[tuple[Identifier, ...], Several] = Field(
        default=(),
        description='Databases of the server that are not backed up, by name, for `kind = "database"`: those that a '
        "provider keeps for itself and lets nobody read. What is named after a tenant is backed up all the same.",
    )
    role_pattern: TenantPattern | None = Field(
        default=None, description="A regular expression with a group `tenant` for roles that are named after tenants."
    )
    unclassified: Literal["refuse", "shared"] = Field(
        default="refuse",
        description='What a table that nobody mapped does: stop the run (`"refuse"`), or count as shared (`"shared"`). '
        "Where `table` is given, one from which a foreign key leads to tenants never counts as shared by this.",
    )
    null_tenant: Literal["refuse", "shared"] = Field(
        default="refuse",
        description='What rows without a tenant do, in all tables: stop the run (`"refuse"`), or count as shared.',
    )
    default_class: Name = Field(default="uploaded", description="The data class of tables that no entry gives one.")


class TableSection(ConfigSection):
    """One `[[….tables]]`: the first entry whose `match` covers a table decides about it."""

    match: Annotated[tuple[TablePattern, ...], Several, Field(min_length=1)] = Field(
        description="Patterns over `schema.table`. The first entry that matches a table decides about it."
    )
    column: Identifier | None = Field(
        default=None,
        description="The column that says whose a row is, where it is another than the one of the database.",
    )
    path: Annotated[tuple[KeyStep, ...], Several] = Field(
        default=(),
        description="The foreign keys to follow to a table with a tenant: the name of each, or of its only column. "
        "`<schema.table.` before it follows a key of that table backwards, to the row that refers to this one.",
    )
    shared: bool = Field(default=False, description="Whether the rows belong to nobody in particular.")
    data_class: Annotated[Name | None, Field(alias="class")] = Field(
        default=None, description="The data class of the table."
    )
    null_tenant: Literal["refuse", "shared"] | None = Field(
        default=None,
        description='What rows without a tenant do: stop the run (`"refuse"`), or count as shared. Without it, they '
        "do what the database's tenancy says.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> TableSection:
        if (self.column is not None) + bool(self.path) + self.shared > 1:
            raise ValueError("has more than one of column, path and shared; a table has one way to its tenant")
        return self


class DatabaseSection(ConfigSection):
    """`[regions.NAME.databases.LABEL]`: one database, or one server's databases when tenancy is by database."""

    dsn: Dsn | None = Field(
        default=None, description="The connection string, without a password. A database has this or `service`."
    )
    service: Service | None = Field(
        default=None, description="The section of `pg_service.conf` to connect by. A database has this or `dsn`."
    )
    passfile: SecretFile | None = Field(default=None, description="The password file, written as `.pgpass` is.")
    servicefile: SecretFile | None = Field(
        default=None,
        description="The file in which `service` is looked up. Without it, libpq looks where it always does.",
    )
    incremental: Literal["auto", "off", "require"] = Field(
        default="auto",
        description="Whether parts of tables in which no block has changed since the last backup are taken over "
        "unread, by the WAL summaries of PostgreSQL 17 and newer (`backupd manual speed`): "
        '`"auto"` where the server can, `"require"` to fail where it cannot. `config check --connect` and `tenancy` '
        "say what it lacks.",
    )
    incremental_audit: Annotated[Duration, within(timedelta(hours=1), 366 * _DAY)] = Field(
        default=7 * _DAY,
        description="After how long everything is read again, and compared with what would have been taken over. A "
        "difference is an alarm, and ends this until a person has looked (`backupd backup --audit`).",
    )
    tenancy: TenancySection
    tables: Annotated[tuple[TableSection, ...], Several] = ()

    @model_validator(mode="after")
    def _one_address(self) -> DatabaseSection:
        if (self.dsn is None) == (self.service is None):
            raise ValueError("needs exactly one of dsn and service")
        return self


class RegionSection(ConfigSection):
    """`[regions.NAME]`: databases, and the places where their backups may lie."""

    locations: Annotated[tuple[Name, ...], Several, Field(min_length=1)] = Field(
        description="The places where backups of this region may lie, and where it may be restored."
    )
    stores: Annotated[tuple[Name, ...], Several, Field(min_length=1)] = Field(
        description="The stores that backups of this region go to."
    )
    generation: Annotated[Duration, within(_DAY, 366 * _DAY)] = Field(
        default=28 * _DAY, description="How long snapshots share chunks and keys before a new full copy."
    )
    databases: Annotated[dict[Name, DatabaseSection], Field(min_length=1)]
    retention: RetentionSection = RetentionSection()
    lifecycle: LifecycleSection = LifecycleSection()
    objectives: ObjectivesSection = ObjectivesSection()
    assertions: Annotated[tuple[AssertionSection, ...], Several] = ()
    schedule: RegionScheduleSection = RegionScheduleSection()
    hooks: HooksSection = HooksSection()


class ClassSection(ConfigSection):
    """`[classes.NAME]`: whether and how long a data class is backed up."""

    backup: Annotated[ClassPolicy | None, Field(strict=False)] = Field(
        default=None,
        description='Whether rows of this class are backed up: `"standard"`, or `"never"` for the structure '
        "only. Without it, `operation` and `session` are never backed up and all others are.",
    )
    max_age: Annotated[Duration, within(_DAY)] | None = Field(
        default=None, description="A maximum age of its own, where it is less than that of the region."
    )
    clock: Literal["tenant", "own"] = Field(
        default="tenant",
        description='Whether the class leaves with its tenant, or has an unsubscribe date of its own (`"own"`).',
    )


DEFAULT_CLASSES = {
    "account": ClassPolicy.STANDARD,
    "operation": ClassPolicy.NEVER,
    "uploaded": ClassPolicy.STANDARD,
    "session": ClassPolicy.NEVER,
    "support": ClassPolicy.STANDARD,
}
"""The classes there are without configuration. Operation and session data are temporary: a backup would only keep them
longer than promised."""


class Config(ConfigSection):
    """The keys at the top of the file, before its sections."""

    include: Annotated[tuple[str, ...], Several] = Field(
        default=(),
        description='Files that belong to this one, as `["conf.d/*.toml"]`: patterns as seen from its folder. '
        "Tables add up; a key that is set twice is a fault.",
    )
    node: NodeSection
    recipients: Annotated[tuple[AbsolutePath, ...], Several, Field(min_length=1)] = Field(
        description="The recipient files: who will be able to read the backups."
    )
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
        """Return how long each declared kind of copy of a region's stores lives at most."""
        return {copy.name: copy.keep for copy in self.copies if not copy.regions or region in copy.regions}

    def policies(self) -> dict[str, ClassPolicy]:
        """Return every class with its policy: the five defaults, overridden by the file."""
        written = {name: section.backup for name, section in self.classes.items()}
        return DEFAULT_CLASSES | {
            name: policy or DEFAULT_CLASSES.get(name, ClassPolicy.STANDARD) for name, policy in written.items()
        }

    def max_ages(self) -> dict[str, timedelta]:
        """Return the classes that have a maximum age of their own."""
        return {name: section.max_age for name, section in self.classes.items() if section.max_age is not None}

    def own_clocks(self) -> frozenset[str]:
        """Return the classes that have an unsubscribe date of their own."""
        return frozenset(name for name, section in self.classes.items() if section.clock == "own")
