"""What a keeper is made of: the ledger, the rules and the promise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.config.faults import Finding
from backupd.config.schema import SftpStore
from backupd.errors import ConfigError, StoreGoneError, UsageError
from backupd.model.ids import RegionName
from backupd.planning.deletion.retention import RetentionPolicy
from backupd.planning.deletion.window import Budget
from backupd.trace import NoTrace
from backupd.wiring.places import QUICKLY
from backupd.wiring.writing import Writing

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.config.deletion import KeeperSection
    from backupd.config.text.secrets import FileRef
    from backupd.operations.keeper.values import Keeper, Rules
    from backupd.operations.ledger import Book
    from backupd.operations.replication import Copying
    from backupd.postgres.connect import Source
    from backupd.seal.documents import Signer
    from backupd.trace import Trace


@dataclass(frozen=True, slots=True)
class Keeping(Writing):
    """And of what removes."""

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

    def handing(self, region: RegionName) -> list[str]:
        """Stores of the region whose writers hand in what they write."""
        sections = ((name, self.config.stores[name]) for name in self.stores_of(region))
        return [name for name, section in sections if isinstance(section, SftpStore) and section.ingest]

    def found(self, region: RegionName) -> list[str]:
        """Make the region's repository on stores where a node only could hand it in; the stores where that was done.

        Raises RefusedError and DamageError for a repository that is not believed, and the stores' errors.
        """
        from backupd.operations.keeper.ingesting.founding import found

        with self._repositories(region, None, "keeper") as repositories:
            known = next((one.info().repository for one in repositories.values() if one.exists()), None)
            trusted = self.trusted() or frozenset()
            return [name for name in self.handing(region) if found(region, repositories[name].store, trusted, known)]

    @contextmanager
    def keeper(self, region: RegionName, trace: Trace) -> Iterator[Keeper]:
        """The region's keeper, with its ledger read and given to the stores that lack some of it.

        Raises ConfigError when this machine is none, StoreError when no store can be reached.
        """
        from backupd.operations.keeper.values import Keeper

        section, signer = self.keeper_signer()
        with self._repositories(region, None, "keeper") as repositories:
            book = self._book(region, repositories, signer, trace)
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

    @contextmanager
    def sole_keeper(self, region: RegionName, trace: Trace) -> Iterator[Keeper]:
        """The same, holding the lease on each of the region's stores that can be reached.

        Raises BusyError when another keeper has one.
        """
        from backupd.catalog.lease import Claimant, leased

        with self.keeper(region, trace) as keeper, ExitStack() as stack:
            leases = {}
            for name, repository in keeper.stores.items():
                claimant = Claimant(
                    region,
                    keeper.repository,
                    self.config.node.name,
                    keeper.signer,
                    keeper.book.trusted,
                    self.clock,
                    os.urandom,
                )
                leases[name] = stack.enter_context(leased(repository.store, claimant))
            yield replace(keeper, leases=leases)

    def copying(self, keeper: Keeper, origin: str, target: str, *, dry_run: bool) -> Copying:
        """From one of the region's stores to another; objects under way lie beside the target's spool.

        Raises UsageError for a store that is not the region's.
        """
        from backupd.operations.replication import Copying

        for name in (origin, target):
            self.stores_of(keeper.region, name)
        scratch = self._spool(keeper.region, target) / "replicate"
        return Copying(keeper, origin, target, scratch, dry_run=dry_run)

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

    @property
    def keeps(self) -> bool:
        """Whether this process is the keeper's: the machine is one, and others of its units have not the key."""
        section = self.config.keeper
        return section is not None and section.signing_key_file.is_given(self.environ)

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
            copies=self.config.copies_of(region),
        )

    def budget(self, region: RegionName) -> Budget:
        """The terms of the promise in a region."""
        from backupd.catalog.sending.marks import LONGEST_RUN

        lifecycle = self.config.regions[region].lifecycle
        return Budget(
            window=lifecycle.window,
            expiry_gap=lifecycle.expiry_gap,
            store_snapshots=lifecycle.store_snapshots,
            clock=lifecycle.clock_tolerance,
            repair=lifecycle.repair_slack,
            grace=lifecycle.grace,
            early=lifecycle.early_within,
            purge_after=lifecycle.purge_after,
            copies=max(self.config.copies_of(region).values(), default=timedelta()),
            run=LONGEST_RUN,
            leftovers=2 * LONGEST_RUN,
        )

    def key_findings(self) -> Iterator[Finding]:
        """What is wrong with key files that are there: a recipient or signing key that is none, or is not trusted."""
        from backupd.seal.keys.identity import read_recipient

        for index, path in enumerate(self.config.recipients):
            try:
                read_recipient(path)
            except ConfigError as error:
                yield ("recipients", index), error.message, error.hint
        for place, reference, read in self._own_keys():
            if not reference.is_given(self.environ):
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

    def _book(
        self,
        region: RegionName,
        repositories: Mapping[str, Repository],
        signer: Signer | None,
        trace: Trace | None = None,
    ) -> Book:
        from backupd.operations.ledger import TOLERANCE, Book, Place

        one, keeper = _reachable(repositories), self.config.keeper
        return Book(
            Place(
                region=region,
                repository=one.info().repository,
                stores={name: repository.store for name, repository in repositories.items()},
                copy=self.ledger_copy(region),
                trusted=one.keepers,
                clock=self.clock,
                signer=signer,
                tolerance=keeper.clock_tolerance if keeper is not None else TOLERANCE,
                trace=trace or NoTrace(),
            )
        )


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
