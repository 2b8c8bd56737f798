"""The context that every command begins with: the configuration, and from it stores, databases and own keys."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.clock import Clock, SystemClock
from backupd.config.schema import Config, Role, SftpStoreSection
from backupd.errors import BackupdError, ConfigError, RefusedError, StoreGoneError, UsageError
from backupd.model.ids import RegionName
from backupd.model.inventory import TableName
from backupd.model.tenancy import TableRule, Tenancy
from backupd.model.text import did_you_mean, human_duration
from backupd.trace import NoTrace, Trace, Warned

if TYPE_CHECKING:
    from backupd.config.secrets import FileRef
    from backupd.postgres.connect import Source
    from backupd.repository.repository import Repository
    from backupd.seal.documents import Signer
    from backupd.seal.keyfiles import Recipient
    from backupd.seal.tags import TenantTags
    from backupd.store.base import Store
    from backupd.store.probe import ProbedStore

QUICKLY = timedelta(seconds=15)
"""The time for which a person at a terminal waits for a store that does not answer, where nothing was begun."""


@dataclass(frozen=True, slots=True)
class Context:
    """The configuration, the environment and the clock of this process. Its methods read the configuration only."""

    config: Config
    environ: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)
    trace: Trace = field(default_factory=NoTrace, repr=False)
    """Hears of a store that is away, and is waited for as long as configured, and of what is wrong with a ledger."""

    def telling(self, trace: Trace) -> Context:
        """Return the same context, whose stores report to this trace that they are away."""
        return replace(self, trace=trace)

    def regions(self, names: Sequence[str]) -> list[RegionName]:
        """Return the named regions, or all of them when none is named.

        Raises UsageError for a name that is not configured.
        """
        for name in names:
            if name not in self.config.regions:
                hint = did_you_mean(name, list(self.config.regions))
                raise UsageError(f'there is no region "{name}"', hint=hint)
        return [RegionName(name) for name in names or self.config.regions]

    def databases(self, region: RegionName, label: str | None = None) -> list[str]:
        """Return the labels of a region's databases, or the one asked for.

        Raises UsageError when it is not configured.
        """
        known = self.config.regions[region].databases
        if label is not None and label not in known:
            raise UsageError(f'region "{region}" has no database "{label}"', hint=did_you_mean(label, list(known)))
        return [label] if label is not None else list(known)

    def stores_of(self, region: RegionName, name: str | None = None) -> tuple[str, ...]:
        """Return the names of the stores the region's backups go to, or the one asked for.

        Raises UsageError when it is not the region's.
        """
        known = self.config.regions[region].stores
        if name is not None and name not in known:
            raise UsageError(f'region "{region}" has no store "{name}"', hint=did_you_mean(name, list(known)))
        return known if name is None else (name,)

    def require_residency(self, region: RegionName, override: str | None = None) -> None:
        """Raise RefusedError when rows of a region must not be where this machine is, unless a decision allows it."""
        here, allowed = self.config.node.location, self.config.regions[region].locations
        if here is not None and here not in allowed and override is None:
            raise RefusedError(
                f'this machine is in "{here}", where rows of region "{region}" may not go',
                hint=f"Allowed: {', '.join(allowed)}. On a keeper, --override REFERENCE names the decision that allows "
                "it, and the ledger keeps it (`backupd manual restore`).",
            )

    def trusted_signers(self) -> frozenset[str] | None:
        """Return the signers whose documents are believed, 64 hex digits each; None: those the repository names."""
        return frozenset(self.config.trust.signers) or None

    def trusted_keepers(self) -> frozenset[str] | None:
        """Return the signers whose ledger entries are believed; None: those the repository names."""
        return frozenset(self.config.trust.ledger) or None

    def state_folder(self, region: RegionName, store: str) -> Path:
        """Return the folder with this machine's state of a region's backups on one store."""
        return self.config.node.state_dir / region / store

    def spool_folder(self, region: RegionName, store: str) -> Path:
        """Return the folder for objects on their way to one of a region's stores."""
        return self.config.node.spool_dir / region / store


def source_of(context: Context, region: RegionName, label: str) -> Source:
    """Return the connection settings of a configured database."""
    from backupd.postgres.connect import Source

    section = context.config.regions[region].databases[label]
    return Source(
        conninfo=section.dsn if section.dsn is not None else f"service={section.service}",
        passfile=section.passfile.resolve(context.environ) if section.passfile else None,
        servicefile=section.servicefile.resolve(context.environ) if section.servicefile else None,
        client_folders=context.config.node.client_dirs,
    )


def tenancy_of(context: Context, region: RegionName, label: str) -> Tenancy:
    """Return the rules by which a database's rows belong to tenants, and what its classes ask for."""
    section = context.config.regions[region].databases[label]
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
        table=None if tenancy.table is None else TableName(*tenancy.table.split(".", maxsplit=1)),
        null_tenant=tenancy.null_tenant,
        schema_pattern=tenancy.schema_pattern,
        database_pattern=tenancy.database_pattern,
        without_databases=tenancy.without_databases,
        role_pattern=tenancy.role_pattern,
        rules=rules,
        unclassified=tenancy.unclassified,
        default_class=tenancy.default_class,
        classes=context.config.policies(),
    )


def open_store(
    context: Context, region: RegionName, name: str, patience: timedelta | None = None, role: Role = "writer"
) -> ProbedStore:
    """Return the region's folder on one of its stores, which connects when first used; the caller closes it.

    `patience` limits the time for which a connection is waited for, or tried again when it was lost; None leaves it as
    configured, and the context's trace hears of it.
    """
    section = context.config.stores[name]
    if isinstance(section, SftpStoreSection):
        return _open_sftp_store(context, region, name, patience, role)
    from backupd.store.directory import DirectoryStore

    store = DirectoryStore(section.path / region)
    if not section.bandwidth:
        return store
    from backupd.store.throttle import ThrottledStore

    return ThrottledStore(store, section.bandwidth, context.clock)


@contextmanager
def open_repository(
    context: Context, region: RegionName, store: str | None, patience: timedelta | None = None
) -> Iterator[Repository]:
    """Open the region's repository on one of its stores, by default the first, to read from.

    Raises UsageError for a store that is not the region's.
    """
    from backupd.repository.repository import Repository

    with closing(open_store(context, region, context.stores_of(region, store)[0], patience)) as opened:
        yield Repository(opened, context.trusted_signers(), context.trusted_keepers(), region)


@contextmanager
def open_repositories(
    context: Context, region: RegionName, patience: timedelta | None = None, role: Role = "writer"
) -> Iterator[dict[str, Repository]]:
    """Open the region's repositories on all its stores; the keys are the stores' names.

    For the keeper, a store that is full gives up its ballast.
    """
    from backupd.repository.repository import Repository
    from backupd.store.ballast import BallastedStore

    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(closing(open_store(context, region, name, patience, role)))
            for name in context.stores_of(region)
        }
        yield {
            name: Repository(
                BallastedStore(store) if role == "keeper" else store,
                context.trusted_signers(),
                context.trusted_keepers(),
                region,
            )
            for name, store in opened.items()
        }


def ledger_copy(context: Context, region: RegionName) -> Store:
    """Return this machine's own copy of the region's ledger, and make its folder when there is none.

    Raises ConfigError when the state folder cannot be made.
    """
    from backupd.store.directory import DirectoryStore
    from backupd.store.own_folder import OwnFolder

    folder = region_folder(context, region) / "ledger"
    if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder)
    return OwnFolder(DirectoryStore(folder))


def known_ledger_copy(context: Context, region: RegionName) -> Store | None:
    """Return this machine's own copy of the region's ledger where this user may read it, else None.

    A machine that only restores need not have a copy.
    """
    from backupd.store.directory import DirectoryStore
    from backupd.store.own_folder import OwnFolder

    folder = context.config.node.state_dir / region / "ledger"
    return OwnFolder(DirectoryStore(folder)) if os.access(folder, os.R_OK | os.X_OK) else None


def region_folder(context: Context, region: RegionName, name: str = "") -> Path:
    """Return the region's state folder, or the folder `name` in it, and make it when there is none.

    Raises ConfigError when it cannot be made.
    """
    folder = context.config.node.state_dir / region / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        present = folder.exists()
    except OSError as error:
        raise _unusable(folder, error) from error
    if not present or not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise _unusable(folder)
    return folder


def _unusable(folder: Path, error: OSError | None = None) -> BackupdError:
    """Return the error that says why a folder in the state folder cannot be used; `error` where one said so."""
    from backupd.repository.state.index_file import unusable_folder
    from backupd.wiring.owner import owner_of

    reason = error.strerror if error is not None else "Permission denied"
    if error is None and _is_read_only(folder):
        error = OSError(errno.EROFS, os.strerror(errno.EROFS))
    if error is not None and not isinstance(fault := unusable_folder(error), ConfigError):
        return fault
    owner = owner_of(folder)
    return ConfigError(
        f"the state folder cannot be used: '{folder}' belongs to {owner} ({reason})",
        hint="Run this as the folder's owner (under systemd: `backupd-as node|keeper|drill COMMAND`). If root made it "
        "for a service, any command that root runs with this configuration gives it to the owner of node.state_dir.",
    )


def _is_read_only(folder: Path) -> bool:
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def tenant_tags(context: Context, region: RegionName) -> TenantTags:
    """Return the maker of the ids that stand for the region's tenants where their names must not appear.

    Raises ConfigError when no tenant key is configured, or its file is not one.
    """
    from backupd.seal.tags import TenantTags, read_tenant_key

    reference = context.config.node.tenant_key_file
    if reference is None:
        raise ConfigError(
            "this machine has no tenant key",
            hint="`backupd key generate --tenant-key FILE` makes one, the same for all machines; name it as "
            "tenant_key_file under [node].",
        )
    return TenantTags(read_tenant_key(reference.resolve(context.environ)), region)


def given_tags(context: Context, region: RegionName) -> TenantTags | None:
    """Return the same where this process has a tenant key, else None. Raises ConfigError for a file that is none."""
    reference = context.config.node.tenant_key_file
    return tenant_tags(context, region) if reference is not None and reference.is_given(context.environ) else None


def node_signer(context: Context) -> Signer:
    """Read this node's signing key.

    Raises ConfigError when none is configured, its file is not one, or nobody would trust what it signs.
    """
    reference = context.config.node.signing_key_file
    if reference is None:
        raise ConfigError(
            "this machine has no signing key",
            hint="`backupd key generate --signer FILE` makes one; name it as signing_key_file under [node].",
        )
    signer, trusted = read_configured_signer(context, reference), context.trusted_signers()
    if trusted is not None and signer.public not in trusted:
        raise ConfigError(
            "this machine's signing key is not among the trusted signers",
            hint=f'Add "{signer.public}" to `signers` under [trust], here and wherever backups are read.',
        )
    return signer


def read_configured_signer(context: Context, reference: FileRef) -> Signer:
    """Read the signing key from a file that the configuration names.

    Raises ConfigError when it is not one.
    """
    from backupd.seal.keyfiles import read_signer

    return read_signer(reference.resolve(context.environ))


def configured_recipients(context: Context) -> list[Recipient]:
    """Return the recipients, who will be able to read what is backed up.

    Raises ConfigError for a file that holds none.
    """
    from backupd.seal.keyfiles import read_recipient

    return [read_recipient(path) for path in context.config.recipients]


def _open_sftp_store(
    context: Context, region: RegionName, name: str, patience: timedelta | None, role: Role
) -> ProbedStore:
    from backupd.store.sftp import open_sftp
    from backupd.store.sftp.ssh import SftpTarget

    section = context.config.stores[name]
    if not isinstance(section, SftpStoreSection):
        raise TypeError(name)
    credential, path = section.credential(role), section.path_of(role)
    told = _teller(name, context.trace) if patience is None else None
    target = SftpTarget(
        host=section.host,
        port=section.port,
        user=credential.user,
        key_file=credential.key.resolve(context.environ),
        host_keys=section.host_keys,
        path=path,
        region=region,
        connections=section.connections,
        bandwidth=section.bandwidth,
        deadline=section.deadline.total_seconds(),
        connect_within=min(section.deadline, patience or section.deadline).total_seconds(),
        patience=min(section.patience, patience or section.patience).total_seconds(),
        shared=section.ingest,
    )
    opened = open_sftp(target, context.clock, told)
    if role == "keeper" or not section.ingest:
        return opened
    from backupd.repository.layout import INCOMING
    from backupd.store.handoff import HandoffStore

    own = replace(target, path=f"{target.root}/{INCOMING}", region=context.config.node.name, flat=True)
    return HandoffStore(opened, open_sftp(own, context.clock, told))


def _teller(name: str, trace: Trace) -> Callable[[StoreGoneError, float], None]:
    """Return the function that reports to the trace that a store is away, so that nobody waits in silence."""

    def told(error: StoreGoneError, left: float) -> None:
        most = human_duration(timedelta(seconds=round(left)))
        hint = f"It is tried again for {most} at most, as stores.{name}.patience says."
        trace.emit(Warned(f"{name} does not answer: {error.message}", hint))

    return told
