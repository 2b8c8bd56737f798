"""The parts of a keeper: the region's ledger, the rules, the terms of the deadline, and the keeper's own key."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.config.faults import Finding
from backupd.config.schema import SftpStoreSection
from backupd.errors import OUT_OF_REACH, BackupdError, ConfigError, UsageError
from backupd.model.ids import RegionName
from backupd.planning.deadlines import DeletionBudget
from backupd.planning.retention import RetentionPolicy
from backupd.trace import Warned
from backupd.wiring.context import (
    QUICKLY,
    Context,
    ledger_copy,
    node_signer,
    open_repositories,
    read_configured_signer,
    source_of,
    tenant_tags,
)

if TYPE_CHECKING:
    from backupd.config.policy import KeeperSection
    from backupd.config.secrets import FileRef
    from backupd.operations.keeper.types import Keeper, Rules
    from backupd.operations.ledger import Book
    from backupd.operations.replication import Copying
    from backupd.postgres.connect import Source
    from backupd.repository.repository import Repository
    from backupd.seal.documents import Signer
    from backupd.trace import Trace

_NOT_CONSIDERED = "What only {0} has, snapshots or entries of the ledger, is not considered this time."


@contextmanager
def open_book(context: Context, region: RegionName, trace: Trace) -> Iterator[Book]:
    """Open the region's ledger over all its stores, already read; see `open_book_and_repositories`."""
    with open_book_and_repositories(context, region, trace) as (book, _):
        yield book


@contextmanager
def open_book_and_repositories(
    context: Context, region: RegionName, trace: Trace
) -> Iterator[tuple[Book, dict[str, Repository]]]:
    """Open the region's ledger, already read, and its repositories by store, where somebody waits at a terminal.

    A store that does not answer is named in a warning. Raises the first one's error when none does.
    """
    with open_repositories(context, region, QUICKLY) as repositories:
        book = _read_book(context, region, repositories, None, trace)
        _name_missed(book, trace, _NOT_CONSIDERED)
        yield book, repositories


def _read_book(
    context: Context,
    region: RegionName,
    repositories: Mapping[str, Repository],
    signer: Signer | None,
    trace: Trace,
) -> Book:
    """Return the region's ledger, read from the stores that answer."""
    from backupd.operations.phases import Phases
    from backupd.operations.roll_call import roll_call

    phases = Phases(context.clock, trace, region)
    away = roll_call(repositories, phases)
    with phases.phase("reading the ledger", quiet=True):
        book = book_over(context.telling(trace), region, repositories, away, signer)
        book.sync(away=away)
    for repository in repositories.values():
        repository.obey(book.chain)
    return book


def _name_missed(book: Book, trace: Trace, hint: str) -> None:
    """Warn of each store that does not answer; the hint says what comes of that, of the store `{0}`."""
    for name, error in book.unreached.items():
        trace.emit(Warned(f"{name} does not answer: {error.message}", hint.format(name)))


def book_over(
    context: Context,
    region: RegionName,
    repositories: Mapping[str, Repository],
    away: Mapping[str, BackupdError],
    signer: Signer | None = None,
) -> Book:
    """Return the region's ledger over these repositories, not read yet; without a signer nothing is written to it.

    Stores that are known to be `away`, each with its error, are not asked. The context's trace hears what is wrong with
    the ledger. Raises the first store's error when none can be reached.
    """
    from backupd.operations.ledger import TOLERANCE, Book, LedgerPlace

    one, keeper = _reachable(repositories, away), context.config.keeper
    return Book(
        LedgerPlace(
            region=region,
            repository=one.info().repository,
            stores={name: repository.store for name, repository in repositories.items()},
            copy=ledger_copy(context, region),
            trusted=one.keepers,
            clock=context.clock,
            signer=signer,
            tolerance=keeper.clock_tolerance if keeper is not None else TOLERANCE,
            trace=context.trace,
        )
    )


@contextmanager
def open_keeper(
    context: Context,
    region: RegionName,
    trace: Trace,
    patience: timedelta | None = None,
    missed: str = _NOT_CONSIDERED,
) -> Iterator[Keeper]:
    """Open the region's keeper, with its ledger read and given to the stores that lack some of it.

    `patience` is for a store that does not answer, and without it as configured; one is named in a warning, and
    `missed` is the warning's hint, in which `{0}` stands for the store.
    Raises ConfigError when this machine is no keeper, StoreError when no store can be reached.
    """
    from backupd.operations.keeper.types import Keeper

    section, signer = keeper_signer(context)
    with open_repositories(context.telling(trace), region, patience, role="keeper") as repositories:
        book = _read_book(context, region, repositories, signer, trace)
        _name_missed(book, trace, missed)
        yield Keeper(
            region=region,
            repository=book.chain.repository,
            stores=repositories,
            book=book,
            tags=tenant_tags(context, region),
            rules=keeper_rules(context, region, section),
            signer=signer,
            state=context.config.node.state_dir / region,
            clock=context.clock,
            random=os.urandom,
            trace=trace,
        )


@contextmanager
def open_sole_keeper(context: Context, region: RegionName, trace: Trace) -> Iterator[Keeper]:
    """Open the region's keeper, and hold the lease on each of its stores that can be reached.

    Raises BusyError when another keeper has one.
    """
    from backupd.repository.lease import Claimant, hold_lease
    from backupd.store.ballast import lay_ballast

    with open_keeper(context, region, trace) as keeper, ExitStack() as stack:
        leases = {}
        for name, repository in keeper.stores.items():
            claimant = Claimant(
                region,
                keeper.repository,
                context.config.node.name,
                keeper.signer,
                keeper.book.trusted,
                context.clock,
                os.urandom,
                trace=keeper.trace,
            )
            leases[name] = stack.enter_context(hold_lease(repository.store, claimant))
        yield replace(keeper, leases=leases)
        for repository in keeper.stores.values():
            lay_ballast(repository.store, os.urandom)


def keeper_signer(context: Context) -> tuple[KeeperSection, Signer]:
    """Return this keeper's section, and its signing key.

    Raises ConfigError when this machine is no keeper, the key's file is not one, or nobody would believe it.
    """
    section = context.config.keeper
    if section is None:
        raise ConfigError("this machine is no keeper", hint="Run this where the configuration has a [keeper] section.")
    signer, believed = read_configured_signer(context, section.signing_key_file), context.trusted_keepers()
    if believed is not None and signer.public not in believed:
        raise ConfigError(
            "this keeper's signing key is not trusted",
            hint=f'Add "{signer.public}" to `keepers` under [trust], here and wherever backups are read.',
        )
    return section, signer


def has_keeper_key(context: Context) -> bool:
    """Say whether this process acts as the keeper: the machine is one, and this unit was given the key."""
    section = context.config.keeper
    return section is not None and section.signing_key_file.is_given(context.environ)


def stores_with_own_keeper_account(context: Context, region: RegionName) -> list[str]:
    """Return the stores of the region whose keeper logs in with a credential of its own."""
    return [
        name
        for name, section in _sftp_stores(context, region)
        if section.credential("keeper") != section.credential("writer")
    ]


def handoff_stores(context: Context, region: RegionName) -> list[str]:
    """Return the stores of the region whose writers hand in what they write."""
    return [name for name, section in _sftp_stores(context, region) if section.ingest]


def adopt_repositories(context: Context, region: RegionName) -> list[str]:
    """Make the region's repository on stores where a node only could hand it in; return the stores where it was made.

    Raises RefusedError and DamageError for a repository that is not believed, and the stores' errors.
    """
    from backupd.operations.keeper.ingest import found

    with open_repositories(context, region, role="keeper") as repositories:
        known = next((one.info().repository for one in repositories.values() if one.exists()), None)
        trusted = context.trusted_signers() or frozenset()
        return [
            name for name in handoff_stores(context, region) if found(region, repositories[name].store, trusted, known)
        ]


def replication_between(context: Context, keeper: Keeper, origin: str, target: str, *, dry_run: bool) -> Copying:
    """Return the copying from one of the region's stores to another; objects under way lie beside the target's spool.

    Raises UsageError for a store that is not the region's.
    """
    from backupd.operations.replication import Copying

    for name in (origin, target):
        context.stores_of(keeper.region, name)
    scratch = context.spool_folder(keeper.region, target) / "replicate"
    return Copying(keeper, origin, target, scratch, dry_run=dry_run)


def lifecycle_query(context: Context, region: RegionName) -> tuple[Source, str]:
    """Return the database and the SQL that the dates of the region's tenants come from.

    Raises ConfigError when no query is configured.
    """
    from backupd.postgres.connect import Source

    query = context.config.regions[region].lifecycle.query
    if query is None:
        raise ConfigError(
            f'region "{region}" has no lifecycle query',
            hint="Write one into [regions.NAME.lifecycle.query], or use `backupd tenant unsubscribe` and its kin.",
        )
    if query.database is not None:
        return source_of(context, region, query.database), query.sql
    passfile = query.passfile.resolve(context.environ) if query.passfile else None
    return Source(conninfo=query.dsn or "", passfile=passfile), query.sql


def tenant_register(context: Context, region: RegionName) -> Callable[[], list[str]] | None:
    """Return what reads the names of the region's tenants from its lifecycle query; None without a query.

    It raises ConfigError, and SourceError and its subclasses.
    """
    from backupd.postgres.lifecycle_query import read_tenant_dates

    if context.config.regions[region].lifecycle.query is None:
        return None
    return lambda: [row.tenant for row in read_tenant_dates(*lifecycle_query(context, region))]


def keeper_rules(context: Context, region: RegionName, section: KeeperSection) -> Rules:
    """Return the rules for what is kept in a region, and for how much may be removed at once."""
    from backupd.operations.keeper.types import Rules

    retention = context.config.regions[region].retention
    return Rules(
        retention=RetentionPolicy(**retention.model_dump()),
        max_ages=context.config.max_ages(),
        own_clocks=context.config.own_clocks(),
        clock_tolerance=section.clock_tolerance,
        most_tenants=section.most_tenants,
        most_snapshots=section.most_snapshots,
        copies=context.config.copies_of(region),
    )


def deletion_budget(context: Context, region: RegionName) -> DeletionBudget:
    """Return the terms of the promise by when a tenant is gone from a region's backups."""
    from backupd.repository.marks import LONGEST_RUN

    lifecycle = context.config.regions[region].lifecycle
    return DeletionBudget(
        window=lifecycle.window,
        expiry_gap=lifecycle.expiry_gap,
        store_snapshots=lifecycle.store_snapshots,
        clock=lifecycle.clock_tolerance,
        repair=lifecycle.repair_slack,
        grace=lifecycle.grace,
        early=lifecycle.early_within,
        purge_after=lifecycle.purge_after,
        copies=max(context.config.copies_of(region).values(), default=timedelta()),
        run=LONGEST_RUN,
        leftovers=2 * LONGEST_RUN,
    )


def key_findings(context: Context) -> Iterator[Finding]:
    """Yield the faults of key files that exist: a file that holds no such key, or a key that is not trusted."""
    from backupd.seal.keyfiles import holds_identity, read_recipient

    for index, path in enumerate(context.config.recipients):
        if holds_identity(path):
            yield (
                ("recipients", index),
                f"'{path}' is an identity, whose secret half belongs somewhere else",
                "Name the recipient file that `backupd key generate` wrote beside it, and take the identity away.",
            )
            continue
        try:
            read_recipient(path)
        except ConfigError as error:
            yield ("recipients", index), error.message, error.hint
    for place, reference, read in _own_keys(context):
        if not reference.is_given(context.environ):
            continue
        try:
            read()
        except ConfigError as error:
            yield place, error.message, error.hint
    yield from _shared_secrets(context)


def _shared_secrets(context: Context) -> Iterator[Finding]:
    """Yield the tenant key when it is a signing key, too: it is on every machine."""
    node, keeper = context.config.node, context.config.keeper
    tenant = _content(context, node.tenant_key_file)
    signing = {
        "node.signing_key_file": node.signing_key_file,
        "keeper.signing_key_file": keeper.signing_key_file if keeper is not None else None,
    }
    for name, reference in signing.items():
        if tenant is not None and tenant == _content(context, reference):
            yield (
                ("node", "tenant_key_file"),
                f"is the same secret as {name}",
                "Each purpose needs a key of its own: `backupd key generate --tenant-key FILE`.",
            )


def _content(context: Context, reference: FileRef | None) -> bytes | None:
    """Return what a key file holds, without white space at its ends; None where this process cannot read it."""
    if reference is None or not reference.is_given(context.environ):
        return None
    try:
        return reference.resolve(context.environ).read_bytes().strip() or None
    except OSError:
        return None


def _own_keys(context: Context) -> Iterator[tuple[tuple[str, ...], FileRef, Callable[[], object]]]:
    """Yield each key file of this machine: its place in the configuration, its name, and the function that reads it."""
    node, keeper = context.config.node, context.config.keeper
    if node.signing_key_file is not None:
        yield ("node", "signing_key_file"), node.signing_key_file, lambda: node_signer(context)
    if node.tenant_key_file is not None:
        yield ("node", "tenant_key_file"), node.tenant_key_file, lambda: tenant_tags(context, RegionName("any"))
    if keeper is not None:
        yield ("keeper", "signing_key_file"), keeper.signing_key_file, lambda: keeper_signer(context)


def _sftp_stores(context: Context, region: RegionName) -> Iterator[tuple[str, SftpStoreSection]]:
    for name in context.stores_of(region):
        section = context.config.stores[name]
        if isinstance(section, SftpStoreSection):
            yield name, section


def _reachable(repositories: Mapping[str, Repository], away: Mapping[str, BackupdError]) -> Repository:
    """Return the first repository that can be read; those known to be away are not asked.

    Raises the first one's error when none can.
    """
    gone: BackupdError | None = next(iter(away.values()), None)
    for name, repository in repositories.items():
        if name in away:
            continue
        try:
            repository.info()
        except OUT_OF_REACH as error:
            gone = gone or error
        else:
            return repository
    raise gone or UsageError("the region has no store")
