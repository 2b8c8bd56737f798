"""Where everything is: regions, their databases and stores, this machine's folders, and whom we believe."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.clock import Clock, SystemClock
from backupd.config.faults.checks import did_you_mean
from backupd.config.schema import Config, Role, SftpStore
from backupd.errors import ConfigError, RefusedError, UsageError
from backupd.model.ids import RegionName
from backupd.model.tenancy import TableRule, Tenancy

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.postgres.connect import Source
    from backupd.store.base import Store
    from backupd.store.probe import ProbedStore


QUICKLY = timedelta(seconds=15)
"""How long somebody at a terminal waits for a store that does not answer, where nothing was begun."""


@dataclass(frozen=True, slots=True)
class Places:
    """The configuration, and what it says of places."""

    config: Config
    environ: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)

    def regions(self, names: Sequence[str]) -> list[RegionName]:
        """The named regions, or all of them when none is named.

        Raises UsageError for a name that is not configured.
        """
        return [self._known(name) for name in names] if names else [RegionName(name) for name in self.config.regions]

    def require_residency(self, region: RegionName, override: str | None = None) -> None:
        """Raises RefusedError when rows of a region may not be where this machine is, unless a decision allows it."""
        here, allowed = self.config.node.location, self.config.regions[region].locations
        if here is not None and here not in allowed and override is None:
            raise RefusedError(
                f'this machine is in "{here}", where rows of region "{region}" may not go',
                hint=f"Allowed: {', '.join(allowed)}. On a keeper, --override REFERENCE names the decision that allows "
                "it, and the ledger keeps it.",
            )

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

    def stores_of(self, region: RegionName, name: str | None = None) -> tuple[str, ...]:
        """The names of the stores the region's backups go to, or the one asked for.

        Raises UsageError when it is not the region's.
        """
        known = self.config.regions[region].stores
        if name is not None and name not in known:
            raise UsageError(f'region "{region}" has no store "{name}"', hint=did_you_mean(name, list(known)))
        return known if name is None else (name,)

    def open_store(
        self, region: RegionName, name: str, patience: timedelta | None = None, role: Role = "writer"
    ) -> ProbedStore:
        """The region's folder on one of its stores, to be closed by the caller. Connects when first used.

        `patience` is how long at most a lost connection is made anew; None is as long as configured.
        """
        section = self.config.stores[name]
        if isinstance(section, SftpStore):
            return _sftp(self, region, section, patience, role)
        from backupd.store.directory import DirectoryStore

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

    def trusted(self) -> frozenset[str] | None:
        """Signers whose documents are believed, 64 hex each; None when the repository shall say it itself."""
        return frozenset(self.config.trust.signers) or None

    def keepers(self) -> frozenset[str] | None:
        """Signers whose ledger entries are believed; None when the repository shall say it itself."""
        return frozenset(self.config.trust.ledger) or None

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

    def _state(self, region: RegionName, store: str) -> Path:
        return self.config.node.state_dir / region / store

    def _spool(self, region: RegionName, store: str) -> Path:
        return self.config.node.spool_dir / region / store

    def _known(self, name: str) -> RegionName:
        if name not in self.config.regions:
            hint = did_you_mean(name, list(self.config.regions))
            raise UsageError(f'there is no region "{name}"', hint=hint)
        return RegionName(name)


def _sftp(
    places: Places, region: RegionName, section: SftpStore, patience: timedelta | None, role: Role
) -> ProbedStore:
    from backupd.store.sftp import open_sftp
    from backupd.store.sftp.target import SftpTarget

    credential, path = section.credential(role), section.path_of(role)
    target = SftpTarget(
        host=section.host,
        port=section.port,
        user=credential.user,
        key_file=credential.key.resolve(places.environ),
        host_keys=section.host_keys,
        path=path,
        region=region,
        connections=section.connections,
        bandwidth=section.bandwidth,
        deadline=section.deadline.total_seconds(),
        patience=min(section.patience, patience or section.patience).total_seconds(),
        shared=section.ingest,
    )
    opened = open_sftp(target, places.clock)
    if role == "keeper" or not section.ingest:
        return opened
    from backupd.catalog.layout import INCOMING
    from backupd.store.decorators.handing import HandingStore

    own = replace(target, path=f"{target.root}/{INCOMING}", region=places.config.node.name, flat=True)
    return HandingStore(opened, open_sftp(own, places.clock))
