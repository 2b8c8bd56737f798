"""The one place that knows both worlds: configured sections in, adapters and values for the operations out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.clock import Clock, SystemClock
from backupd.config.faults import Finding
from backupd.config.faults.checks import did_you_mean
from backupd.config.schema import Config, Role, SftpStore, StoreSection
from backupd.errors import ConfigError, StoreError, StoreGoneError, UsageError
from backupd.model.ids import RegionName
from backupd.model.tenancy import TableRule, Tenancy
from backupd.planning.retention import RetentionPolicy
from backupd.planning.window import Budget

if TYPE_CHECKING:
    from backupd.catalog.checked import Checked
    from backupd.catalog.repository import Repository
    from backupd.config.deletion import KeeperSection
    from backupd.config.text.secrets import FileRef
    from backupd.operations.backup import Job, Node
    from backupd.operations.init import Founder
    from backupd.operations.keeper.values import Keeper, Rules
    from backupd.operations.ledger import Book
    from backupd.operations.region import Target
    from backupd.operations.verify import Tools
    from backupd.postgres.connect import Source
    from backupd.seal.documents import Signer
    from backupd.seal.identity import Recipient
    from backupd.seal.tags import TenantTags
    from backupd.store.base import Store
    from backupd.store.probe import ProbedStore
    from backupd.trace import Trace

# Adapters are imported where they are made: a command loads the libraries of those it uses, and no others.

QUICKLY = timedelta(seconds=15)
"""How long somebody at a terminal waits for a store that does not answer, where nothing was begun."""
_SHIPPERS_A_CONNECTION = 4
"""Objects under way on each: a small one costs three round trips, so only many at once fill a distant line."""
_DISK_WRITERS = 2
"""Objects written to a directory at once."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """A configuration at work in this process."""

    config: Config
    environ: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)

    def regions(self, names: Sequence[str]) -> list[RegionName]:
        """The named regions, or all of them when none is named.

        Raises UsageError for a name that is not configured.
        """
        return [self._known(name) for name in names] if names else [RegionName(name) for name in self.config.regions]

    def databases(self, region: RegionName, label: str | None = None) -> list[str]:
        """The labels of a region's databases, or the one asked for.

        Raises UsageError when it is not configured.
        """
        known = self.config.regions[region].databases
        if label is not None and label not in known:
            raise UsageError(f'region "{region}" has no database "{label}"', hint=did_you_mean(label, list(known)))
        return [label] if label is not None else list(known)

    def source(self, region: RegionName, label: str) -> Source:
        """Where the database is."""
        from backupd.postgres.connect import Source

        section = self.config.regions[region].databases[label]
        return Source(
            conninfo=section.dsn if section.dsn is not None else f"service={section.service}",
            passfile=section.passfile.resolve(self.environ) if section.passfile else None,
            servicefile=section.servicefile.resolve(self.environ) if section.servicefile else None,
            client_folders=self.config.node.client_dirs,
        )

    def tenancy(self, region: RegionName, label: str) -> Tenancy:
        """How the database's rows belong to tenants, and what its classes ask for."""
        section = self.config.regions[region].databases[label]
        tenancy = section.tenancy
        rules = tuple(
            TableRule(
                tables=rule.match,
                column=rule.column,
                path=rule.path,
                shared=rule.shared,
                data_class=rule.data_class,
                null_tenant=rule.null_tenant,
            )
            for rule in section.tables
        )
        return Tenancy(
            kind=tenancy.kind,
            column=tenancy.column,
            schema_pattern=tenancy.schema_pattern,
            database_pattern=tenancy.database_pattern,
            role_pattern=tenancy.role_pattern,
            rules=rules,
            unclassified=tenancy.unclassified,
            default_class=tenancy.default_class,
            classes=self.config.policies(),
        )

    def job(self, region: RegionName, label: str) -> Job:
        """What a backup of this database needs to know about it."""
        from backupd.operations.backup import Job

        return Job(region, label, self.source(region, label), self.tenancy(region, label))

    def node(self, region: RegionName, store: str, trace: Trace) -> Node:
        """This machine's part in backups of the region to one of its stores: each pair has an index and a spool.

        Raises ConfigError when there is no signing key, or a recipient file is none.
        """
        from backupd.operations.backup import Node

        node = self.config.node
        return Node(
            state=self._state(region, store),
            spool=self._spool(region, store),
            spool_size=node.spool_size,
            workers=node.workers,
            shippers=_shippers(self.config.stores[store]),
            compression_level=node.compression_level,
            lock_timeout=node.lock_timeout.total_seconds(),
            generation_length=self.config.regions[region].generation,
            recipients=tuple(recipient.public for recipient in self.recipients()),
            tags=self.tags(region),
            own_clocks=self.config.own_clocks(),
            ledger=self.ledger_copy(region),
            signer=self.signer(),
            clock=self.clock,
            random=os.urandom,
            environment=self.environ,
            trace=trace,
        )

    def tags(self, region: RegionName) -> TenantTags:
        """What stands for the region's tenants where names must not.

        Raises ConfigError when no tenant key is configured, or its file is not one.
        """
        from backupd.seal.tags import TenantTags, read_tenant_key

        reference = self.config.node.tenant_key_file
        if reference is None:
            raise ConfigError(
                "this machine has no tenant key",
                hint="`backupd key generate --tenant-key FILE` makes one, the same for all machines; name it as "
                "tenant_key_file under [node].",
            )
        return TenantTags(read_tenant_key(reference.resolve(self.environ)), region)

    def ledger_copy(self, region: RegionName) -> Store:
        """This machine's own copy of the region's ledger.

        Raises ConfigError when the state folder cannot be made.
        """
        from backupd.store.directory import DirectoryStore

        folder = self.config.node.state_dir / region
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the state folder cannot be used ({error.strerror})", hint="Check node.state_dir and its owner."
            ) from error
        return DirectoryStore(folder / "ledger")

    def known_ledger(self, region: RegionName) -> Store | None:
        """The same, where there is one that this user may read: who only restores need not have any."""
        from backupd.store.directory import DirectoryStore

        folder = self.config.node.state_dir / region / "ledger"
        return DirectoryStore(folder) if os.access(folder, os.R_OK | os.X_OK) else None

    def signer(self) -> Signer:
        """This node's signing key.

        Raises ConfigError when none is configured, its file is not one, or nobody would trust what it signs.
        """
        reference = self.config.node.signing_key_file
        if reference is None:
            raise ConfigError(
                "this machine has no signing key",
                hint="`backupd key generate --signer FILE` makes one; name it as signing_key_file under [node].",
            )
        signer, trusted = self._signer(reference), self.trusted()
        if trusted is not None and signer.public not in trusted:
            raise ConfigError(
                "this machine's signing key is not among the trusted signers",
                hint=f'Add "{signer.public}" to `signers` under [trust], here and wherever backups are read.',
            )
        return signer

    def _signer(self, reference: FileRef) -> Signer:
        from backupd.seal.signing import read_signer

        return read_signer(reference.resolve(self.environ))

    def key_findings(self) -> Iterator[Finding]:
        """What is wrong with key files that are there: a recipient or signing key that is none, or is not trusted."""
        from backupd.seal.identity import read_recipient

        for index, path in enumerate(self.config.recipients):
            try:
                read_recipient(path)
            except ConfigError as error:
                yield ("recipients", index), error.message, error.hint
        for place, reference, read in self._own_keys():
            if reference.is_credential and "CREDENTIALS_DIRECTORY" not in self.environ:
                continue
            try:
                read()
            except ConfigError as error:
                yield place, error.message, error.hint

    def _own_keys(self) -> Iterator[tuple[tuple[str, ...], FileRef, Callable[[], object]]]:
        """Key files this machine reads, where they are written, and what reads them."""
        node, keeper = self.config.node, self.config.keeper
        if node.signing_key_file is not None:
            yield ("node", "signing_key_file"), node.signing_key_file, self.signer
        if node.tenant_key_file is not None:
            yield ("node", "tenant_key_file"), node.tenant_key_file, lambda: self.tags(RegionName("any"))
        if keeper is not None:
            yield ("keeper", "signing_key_file"), keeper.signing_key_file, self.keeper_signer

    def trusted(self) -> frozenset[str] | None:
        """Signers whose documents are believed, 64 hex each; None when the repository shall say it itself."""
        return frozenset(self.config.trust.signers) or None

    def keepers(self) -> frozenset[str] | None:
        """Signers whose ledger entries are believed; None when the repository shall say it itself."""
        return frozenset(self.config.trust.ledger) or None

    def open_store(
        self, region: RegionName, name: str, patience: timedelta | None = None, role: Role = "writer"
    ) -> ProbedStore:
        """The region's folder on one of its stores, to be closed by the caller. Connects when first used.

        `patience` is how long at most a lost connection is made anew; None is as long as configured. Raises StoreError
        for a directory that is not there: it may be a disk that is not mounted.
        """
        section = self.config.stores[name]
        if isinstance(section, SftpStore):
            return _sftp(self, region, section, patience, role)
        from backupd.store.directory import DirectoryStore

        if not section.path.is_dir():
            raise StoreError(f'the folder of store "{name}" is not there', hint="Mount it, or make it once.")
        store = DirectoryStore(section.path / region)
        if not section.bandwidth:
            return store
        from backupd.store.decorators.throttle import ThrottledStore

        return ThrottledStore(store, section.bandwidth, self.clock)

    @contextmanager
    def repository(
        self, region: RegionName, store: str | None = None, patience: timedelta | None = None
    ) -> Iterator[Repository]:
        """The region's repository on one of its stores, by default the first, to read from.

        Raises UsageError for a store that is not the region's.
        """
        from backupd.catalog.repository import Repository

        with closing(self.open_store(region, self.stores_of(region, store)[0], patience)) as opened:
            yield Repository(opened, self.trusted(), self.keepers())

    @contextmanager
    def book(self, region: RegionName, patience: timedelta | None = None) -> Iterator[Book]:
        """The region's ledger over all its stores, to read; `sync` reads it."""
        with self._repositories(region, patience, "writer") as repositories:
            yield self._book(region, repositories, None)

    @contextmanager
    def standing(self, region: RegionName) -> Iterator[tuple[Book, dict[str, Repository]]]:
        """The region's ledger, read, and its repositories by store, to look at."""
        with self._repositories(region, QUICKLY, "writer") as repositories:
            book = self._book(region, repositories, None)
            book.sync()
            yield book, repositories

    def separate_keepers(self, region: RegionName) -> list[str]:
        """Stores of the region whose keeper logs in with a credential of its own."""
        sections = ((name, self.config.stores[name]) for name in self.stores_of(region))
        return [
            name
            for name, section in sections
            if isinstance(section, SftpStore) and section.credential("keeper") != section.credential("writer")
        ]

    @contextmanager
    def keeper(self, region: RegionName, trace: Trace) -> Iterator[Keeper]:
        """The region's keeper, with its ledger read and given to the stores that lack some of it.

        Raises ConfigError when this machine is none, StoreError when no store can be reached.
        """
        from backupd.operations.keeper.values import Keeper

        section, signer = self.keeper_signer()
        with self._repositories(region, None, "keeper") as repositories:
            book = self._book(region, repositories, signer)
            book.sync()
            yield Keeper(
                region=region,
                repository=book.chain.repository,
                stores=repositories,
                book=book,
                tags=self.tags(region),
                rules=self.rules(region, section),
                signer=signer,
                state=self.config.node.state_dir / region,
                clock=self.clock,
                random=os.urandom,
                trace=trace,
            )

    def keeper_signer(self) -> tuple[KeeperSection, Signer]:
        """This keeper's section, and its signing key.

        Raises ConfigError when this machine is no keeper, the key's file is not one, or nobody would believe it.
        """
        section = self.config.keeper
        if section is None:
            raise ConfigError(
                "this machine is no keeper", hint="Run this where the configuration has a [keeper] section."
            )
        signer, believed = self._signer(section.signing_key_file), self.keepers()
        if believed is not None and signer.public not in believed:
            raise ConfigError(
                "this keeper's signing key is not trusted",
                hint=f'Add "{signer.public}" to `keepers` under [trust], here and wherever backups are read.',
            )
        return section, signer

    def lifecycle_query(self, region: RegionName) -> tuple[Source, str]:
        """Where the dates of the region's tenants come from.

        Raises ConfigError when no query is configured.
        """
        from backupd.postgres.connect import Source

        query = self.config.regions[region].lifecycle.query
        if query is None:
            raise ConfigError(
                f'region "{region}" has no lifecycle query',
                hint="Write one into [regions.NAME.lifecycle.query], or use `backupd tenant unsubscribe` and its kin.",
            )
        if query.database is not None:
            return self.source(region, query.database), query.sql
        passfile = query.passfile.resolve(self.environ) if query.passfile else None
        return Source(conninfo=query.dsn or "", passfile=passfile), query.sql

    def rules(self, region: RegionName, section: KeeperSection) -> Rules:
        """What is kept in a region, and how much may go at once."""
        from backupd.operations.keeper.values import Rules

        retention = self.config.regions[region].retention
        return Rules(
            retention=RetentionPolicy(**retention.model_dump()),
            max_ages=self.config.max_ages(),
            own_clocks=self.config.own_clocks(),
            clock_tolerance=section.clock_tolerance,
            most_tenants=section.most_tenants,
            most_snapshots=section.most_snapshots,
        )

    def budget(self, region: RegionName) -> Budget:
        """The terms of the promise in a region."""
        lifecycle, retention = self.config.regions[region].lifecycle, self.config.regions[region].retention
        return Budget(
            window=lifecycle.window,
            oldest_set=retention.max_age,
            extra_set=timedelta(0),
            expiry_gap=lifecycle.expiry_gap,
            store_snapshots=lifecycle.store_snapshots,
            clock=lifecycle.clock_tolerance,
            repair=lifecycle.repair_slack,
            grace=lifecycle.grace,
            early=lifecycle.early_within,
            purge_after=lifecycle.purge_after,
        )

    @contextmanager
    def _repositories(
        self, region: RegionName, patience: timedelta | None, role: Role
    ) -> Iterator[dict[str, Repository]]:
        from backupd.catalog.repository import Repository

        with ExitStack() as stack:
            yield {
                name: Repository(
                    stack.enter_context(closing(self.open_store(region, name, patience, role))),
                    self.trusted(),
                    self.keepers(),
                )
                for name in self.stores_of(region)
            }

    def _book(self, region: RegionName, repositories: Mapping[str, Repository], signer: Signer | None) -> Book:
        from backupd.operations.ledger import Book, Place

        one = _reachable(repositories)
        return Book(
            Place(
                region=region,
                repository=one.info().repository,
                stores={name: repository.store for name, repository in repositories.items()},
                copy=self.ledger_copy(region),
                trusted=one.keepers,
                clock=self.clock,
                signer=signer,
            )
        )

    def restore_target(self, dsn: str, passfile: Path | None) -> tuple[Source, str]:
        """A server to restore to, and the name of the new database there.

        Raises UsageError when the connection string names no database, ConfigError when it cannot be read or holds a
        password.
        """
        from backupd.postgres.connect import Source, parameters

        source = Source(conninfo=dsn, passfile=passfile, client_folders=self.config.node.client_dirs)
        name = parameters(source).get("dbname")
        if not name:
            raise UsageError("the target names no database", hint='Name the new one in it, as in "dbname=restored".')
        return source, str(name)

    def founder(self) -> Founder:
        """Who makes repositories here.

        Raises ConfigError when there is no signing key.
        """
        from backupd.operations.init import Founder

        return Founder(
            self.signer(), self.config.trust.signers, self.clock, os.urandom, keepers=self.config.trust.keepers
        )

    def target(self, region: RegionName, store: str, database: str | None, trace: Trace) -> Target:
        """A backup of the region's databases, or of one of them, onto one of its stores.

        Raises UsageError, ConfigError.
        """
        from backupd.operations.region import Target

        return Target(
            region=region,
            store=store,
            open=partial(self.open_store, region, store),
            trusted=self.trusted(),
            keepers=self.keepers(),
            jobs=tuple(self.job(region, label) for label in self.databases(region, database)),
            node=self.node(region, store, trace),
        )

    def recipients(self) -> list[Recipient]:
        """Who will be able to read what is backed up.

        Raises ConfigError for a file that is none.
        """
        from backupd.seal.identity import read_recipient

        return [read_recipient(path) for path in self.config.recipients]

    def stores_of(self, region: RegionName, name: str | None = None) -> tuple[str, ...]:
        """The names of the stores the region's backups go to, or the one asked for.

        Raises UsageError when it is not the region's.
        """
        known = self.config.regions[region].stores
        if name is not None and name not in known:
            raise UsageError(f'region "{region}" has no store "{name}"', hint=did_you_mean(name, list(known)))
        return known if name is None else (name,)

    def checked(self, region: RegionName, store: str) -> Checked:
        """What verify remembers of this store."""
        from backupd.catalog.checked import Checked

        return Checked(self._state(region, store) / "checked.sqlite")

    def verify_tools(self, region: RegionName, store: str, trace: Trace) -> Tools:
        """What verify needs of this machine. Its scratch space is on the spool's disk.

        Raises ConfigError when it cannot be made.
        """
        from backupd.operations.verify import Tools

        scratch = self._spool(region, store) / "verify"
        try:
            scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the spool folder cannot be used ({error.strerror})", hint="Check node.spool_dir and its owner."
            ) from error
        return Tools(clock=self.clock, scratch=scratch, trace=trace, store=store, own_ledger=self.ledger_copy(region))

    def _state(self, region: RegionName, store: str) -> Path:
        return self.config.node.state_dir / region / store

    def _spool(self, region: RegionName, store: str) -> Path:
        return self.config.node.spool_dir / region / store

    def _known(self, name: str) -> RegionName:
        if name not in self.config.regions:
            hint = did_you_mean(name, list(self.config.regions))
            raise UsageError(f'there is no region "{name}"', hint=hint)
        return RegionName(name)


def _reachable(repositories: Mapping[str, Repository]) -> Repository:
    """The first repository that can be read.

    Raises the first one's StoreGoneError when none can.
    """
    gone: StoreGoneError | None = None
    for repository in repositories.values():
        try:
            repository.info()
        except StoreGoneError as error:
            gone = gone or error
        else:
            return repository
    raise gone or UsageError("the region has no store")


def _shippers(section: StoreSection) -> int:
    return section.connections * _SHIPPERS_A_CONNECTION if isinstance(section, SftpStore) else _DISK_WRITERS


def _sftp(
    wiring: Wiring, region: RegionName, section: SftpStore, patience: timedelta | None, role: Role
) -> ProbedStore:
    from backupd.store.sftp import open_sftp
    from backupd.store.sftp.target import SftpTarget

    credential = section.credential(role)
    target = SftpTarget(
        host=section.host,
        port=section.port,
        user=credential.user,
        key_file=credential.key.resolve(wiring.environ),
        host_keys=section.host_keys,
        path=section.path,
        region=region,
        connections=section.connections,
        bandwidth=section.bandwidth,
        deadline=section.deadline.total_seconds(),
        patience=min(section.patience, patience or section.patience).total_seconds(),
    )
    return open_sftp(target, wiring.clock)
