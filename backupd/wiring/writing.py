"""What backups, verify and restore are made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.config.schema import SftpStore, StoreSection
from backupd.errors import ConfigError, UsageError
from backupd.model.ids import RegionName
from backupd.wiring.keys import Keys

if TYPE_CHECKING:
    from backupd.catalog.memory.checked import Checked
    from backupd.operations.backup import Job, Node
    from backupd.operations.init import Founder
    from backupd.operations.region import Target
    from backupd.operations.verify import Tools
    from backupd.postgres.connect import Source
    from backupd.trace import Trace


_SHIPPERS_A_CONNECTION = 4
"""Objects under way on each: a small one costs three round trips, so only many at once fill a distant line."""
_DISK_WRITERS = 2
"""Objects written to a directory at once."""


@dataclass(frozen=True, slots=True)
class Writing(Keys):
    """And of what adds, checks and restores."""

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

    def founder(self) -> Founder:
        """Who makes repositories here.

        Raises ConfigError when there is no signing key.
        """
        from backupd.operations.init import Founder

        return Founder(
            self.signer(), self.config.trust.signers, self.clock, os.urandom, keepers=self.config.trust.keepers
        )

    def rates_file(self, region: RegionName, label: str) -> Path:
        """Where it is kept how fast a database was restored here."""
        return self.config.node.state_dir / region / f"rates-{label}.json"

    def restored_file(self, region: RegionName) -> Path:
        """Where it is kept which databases restores of the region have completed, so that they are not done again."""
        return self.config.node.state_dir / region / "restored.json"

    def restore_target(self, dsn: str, passfile: Path | None) -> tuple[Source, str]:
        """A server to restore to, and the name of the new database there.

        Raises UsageError when the connection string names no database, ConfigError when it cannot be read or holds a
        password.
        """
        source, name = self.restore_server(dsn, passfile)
        if not name:
            raise UsageError("the target names no database", hint='Name the new one in it, as in "dbname=restored".')
        return source, name

    def restore_server(self, dsn: str, passfile: Path | None) -> tuple[Source, str | None]:
        """A server to restore to, and the database its connection string names, if any.

        Raises ConfigError when it cannot be read or holds a password.
        """
        from backupd.postgres.connect import Source, parameters

        source = Source(conninfo=dsn, passfile=passfile, client_folders=self.config.node.client_dirs)
        name = parameters(source).get("dbname")
        return source, str(name) if name else None

    def no_server(self) -> Source:
        """Stands for a server where none is connected to: what counts is where PostgreSQL's programs are."""
        from backupd.postgres.connect import Source

        return Source("", client_folders=self.config.node.client_dirs)

    def checked(self, region: RegionName, store: str) -> Checked:
        """What verify remembers of this store."""
        from backupd.catalog.memory.checked import Checked

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


def _shippers(section: StoreSection) -> int:
    return section.connections * _SHIPPERS_A_CONNECTION if isinstance(section, SftpStore) else _DISK_WRITERS
