"""The parts of backups, `init` and `verify`: databases, the node, the founder of a repository, and tools."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from backupd.config.schema import Role, SftpStoreSection, StoreSection
from backupd.errors import ConfigError
from backupd.model.ids import RegionName
from backupd.wiring.context import (
    QUICKLY,
    Context,
    configured_recipients,
    ledger_copy,
    node_signer,
    open_store,
    source_of,
    tenancy_of,
    tenant_tags,
)

if TYPE_CHECKING:
    from backupd.operations.backup import BackupJob, Node
    from backupd.operations.backup.region import BackupTarget
    from backupd.operations.hooks import Hook, HookEvent
    from backupd.operations.init import Founder
    from backupd.operations.store_profile import AcceptRequest
    from backupd.operations.verify import Tools
    from backupd.repository.repository import Repository
    from backupd.repository.state.checked import CheckedState
    from backupd.trace import Trace

_SHIPPERS_A_CONNECTION = 4
"""Objects under way on a connection: a small one costs three round trips, so only many fill a distant line."""
_DISK_WRITERS = 2
"""Objects written to a directory at once."""


def backup_job(context: Context, region: RegionName, label: str) -> BackupJob:
    """Return the description of a database that a backup of it needs."""
    from backupd.operations.backup import BackupJob

    section, drills = context.config.regions[region].databases[label], context.config.regions[region].objectives
    return BackupJob(
        region,
        label,
        source_of(context, region, label),
        tenancy_of(context, region, label),
        incremental=section.incremental,
        # Each drill finds a snapshot all of whose rows were read since the drill before.
        audit_every=min(section.incremental_audit, drills.drill_every or section.incremental_audit),
    )


def backup_node(context: Context, region: RegionName, store: str, trace: Trace) -> Node:
    """Return this machine as a node that backs the region up to one store: each such pair has an index and a spool.

    Raises ConfigError when there is no signing key, or a recipient's file holds none.
    """
    from backupd.operations.backup import Node

    node = context.config.node
    return Node(
        state=context.state_folder(region, store),
        spool=context.spool_folder(region, store),
        spool_size=node.spool_size,
        workers=node.workers or max(1, (os.cpu_count() or 2) // 2),
        uploaders=_shippers(context.config.stores[store]),
        compression_level=node.compression_level,
        lock_timeout=node.lock_timeout.total_seconds(),
        generation_length=context.config.regions[region].generation,
        recipients=tuple(recipient.public for recipient in configured_recipients(context)),
        tags=tenant_tags(context, region),
        own_clocks=context.config.own_clocks(),
        ledger=ledger_copy(context, region),
        signer=node_signer(context),
        clock=context.clock,
        random=os.urandom,
        environment=context.environ,
        trace=trace,
        deadline=context.config.daemon.deadline.total_seconds(),
    )


def backup_target(context: Context, region: RegionName, store: str, database: str | None, trace: Trace) -> BackupTarget:
    """Return the target for a backup of the region's databases, or of one of them, onto one of its stores.

    Raises UsageError, ConfigError.
    """
    from backupd.operations.backup.region import BackupTarget

    return BackupTarget(
        region=region,
        store=store,
        open=partial(open_store, context.telling(trace), region, store),
        trusted=context.trusted_signers(),
        keepers=context.trusted_keepers(),
        jobs=tuple(backup_job(context, region, label) for label in context.databases(region, database)),
        node=backup_node(context, region, store, trace),
    )


def impatient(context: Context, target: BackupTarget) -> BackupTarget:
    """Return the same target for a run that does not wait for long where its store is away."""
    return replace(target, open=partial(open_store, context, target.region, target.store, QUICKLY))


def repository_founder(context: Context) -> Founder:
    """Return the founder, who signs the repositories that are made on this machine.

    Raises ConfigError when there is no signing key.
    """
    from backupd.operations.init import Founder

    trust = context.config.trust
    return Founder(node_signer(context), trust.signers, context.clock, os.urandom, keepers=trust.keepers)


def accept_request(context: Context, reason: str) -> AcceptRequest:
    """Return the wish to accept what is true of a store now, in the name of this machine's signer.

    Raises ConfigError when there is no signing key.
    """
    from backupd.operations.store_profile import AcceptRequest

    trust = context.config.trust
    signers, keepers = frozenset(trust.signers), frozenset(trust.keepers)
    return AcceptRequest(node_signer(context), signers, keepers, reason, context.clock, os.urandom)


@contextmanager
def replacing_repository(context: Context, region: RegionName, store: str) -> Iterator[Repository]:
    """Open a repository with the account that may replace: on a keeper its own, where this process has the key."""
    from backupd.repository.repository import Repository

    section = context.config.stores[store]
    role: Role = "writer"
    if context.config.keeper is not None and isinstance(section, SftpStoreSection):
        role = "keeper" if section.credential("keeper").key.is_given(context.environ) else "writer"
    with closing(open_store(context, region, store, QUICKLY, role)) as opened:
        yield Repository(opened, context.trusted_signers(), context.trusted_keepers(), region)


def region_hook(context: Context, region: RegionName, event: HookEvent) -> Hook | None:
    """Return the program that the configuration has run at one moment of a region's backup, if there is one."""
    from backupd.operations.hooks import Hook

    section = context.config.regions[region].hooks
    arguments = getattr(section, event.value)
    return Hook(event, arguments, section.deadline.total_seconds()) if arguments is not None else None


def verify_index(context: Context, region: RegionName, store: str) -> CheckedState:
    """Open the index of what `verify` has read from a store before."""
    from backupd.repository.state.checked import CheckedState

    return CheckedState(context.state_folder(region, store) / "checked.sqlite")


def verify_tools(context: Context, region: RegionName, store: str, trace: Trace) -> Tools:
    """Return the tools that `verify` needs of this machine; their scratch space is on the spool's disk.

    Raises ConfigError when it cannot be made.
    """
    from backupd.operations.verify import Tools

    scratch = context.spool_folder(region, store) / "verify"
    try:
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the spool folder cannot be used ({error.strerror})", hint="Check node.spool_dir and its owner."
        ) from error
    return Tools(
        clock=context.clock,
        scratch=scratch,
        trace=trace,
        store=store,
        own_ledger=ledger_copy(context, region),
        tags=tenant_tags(context, region) if context.config.node.tenant_key_file is not None else None,
    )


def _shippers(section: StoreSection) -> int:
    return section.connections * _SHIPPERS_A_CONNECTION if isinstance(section, SftpStoreSection) else _DISK_WRITERS
