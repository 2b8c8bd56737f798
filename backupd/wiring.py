"""The one place that knows both worlds: configured sections in, adapters and values for the operations out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from backupd.clock import Clock, SystemClock
from backupd.config.checks import did_you_mean
from backupd.config.schema import Config
from backupd.errors import UsageError
from backupd.model.ids import RegionName
from backupd.model.tenancy import TableRule, Tenancy
from backupd.postgres.connect import Source
from backupd.seal.identity import Recipient, read_recipient


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

    def recipients(self) -> list[Recipient]:
        """Who will be able to read what is backed up.

        Raises ConfigError for a file that is none.
        """
        return [read_recipient(path) for path in self.config.recipients]

    def stores(self, region: RegionName) -> tuple[str, ...]:
        """The names of the stores the region's backups go to."""
        return self.config.regions[region].stores

    def _known(self, name: str) -> RegionName:
        if name not in self.config.regions:
            hint = did_you_mean(name, list(self.config.regions))
            raise UsageError(f'there is no region "{name}"', hint=hint)
        return RegionName(name)
