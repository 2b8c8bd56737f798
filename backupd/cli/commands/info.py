"""The commands about what is there: `info` shows a region or a snapshot, `ls` what one holds, `diff` how two differ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from backupd.cli import output
from backupd.cli.commands.store import note_signers
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    DatabaseOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    StoresOption,
    grouped,
    load_context,
    open_identity,
    recipients_named,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.cli.snapshot_lines import difference_lines, holdings_tables, listed_line, region_lines, snapshot_lines
from backupd.errors import DamageError, RefusedError

if TYPE_CHECKING:
    from backupd.model.answers import ErrorAnswer
    from backupd.model.documents import Record
    from backupd.model.ids import RegionName
    from backupd.operations.restore import RestoreEnvironment
    from backupd.operations.restore.opened_choice import OpenedChoice
    from backupd.operations.snapshots.catalog import Catalog
    from backupd.operations.snapshots.details import RegionDetails, SnapshotDetails
    from backupd.operations.snapshots.difference import SnapshotDifference
    from backupd.operations.snapshots.holdings import OpenedHoldings
    from backupd.operations.snapshots.records import SnapshotInfo
    from backupd.planning.retention import RetentionPolicy
    from backupd.repository.packs import SnapshotSections
    from backupd.repository.repository import Repository
    from backupd.trace import Trace
    from backupd.wiring.context import Context

_RegionArgument = Annotated[str, typer.Argument(metavar="REGION", show_default=False)]
_HELP = "The beginning of its name or hash, a time (the newest at it), or latest."
_SnapshotArgument = Annotated[str | None, typer.Argument(metavar="[SNAPSHOT]", show_default=False, help=_HELP)]
_ListedArgument = Annotated[str, typer.Argument(metavar="[SNAPSHOT]", help=_HELP)]
_BeforeArgument = Annotated[str, typer.Argument(metavar="A", show_default=False, help=f"The earlier one. {_HELP}")]
_AfterArgument = Annotated[
    str, typer.Argument(metavar="B", show_default=False, help="The later one, named in the same way.")
]


@dataclass(frozen=True, slots=True)
class LookOptions:
    """The options of every command that looks at snapshots."""

    database: DatabaseOption = None
    store: StoresOption = None
    identity: IdentityOption = None
    passphrase_file: PassphraseOption = None
    config: ConfigOption = None
    as_json: JsonOption = False


class InfoAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The object that `info`, `ls` and `diff` print with `--json`; each sets what it found out."""

    region: RegionDetails | None = None
    snapshot: SnapshotDetails | None = None
    holdings: OpenedHoldings | None = None
    difference: SnapshotDifference | None = None
    away: dict[str, ErrorAnswer] = {}
    """Stores that could not be looked at, each with its error."""
    damage: tuple[str, ...] = ()
    """Records and ledgers that cannot be believed."""


def add(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("info", epilog=EXIT_STATUS)(grouped(info))
    app.command("ls", epilog=EXIT_STATUS)(grouped(list_contents))
    app.command("diff", epilog=EXIT_STATUS)(grouped(diff))


def info(
    ctx: typer.Context, region: _RegionArgument, snapshot: _SnapshotArgument = None, *, options: LookOptions
) -> int:
    """Show a region, or one snapshot of it, on one screen.

    Of a region: its stores and databases, the newest snapshot of each, and which were verified and restored last. Of a
    snapshot: what it holds, what is stored of it and was new, on which stores it lies, when it was verified and
    restored, which rules keep it and until when. With an identity, also its biggest tables. Every store is asked; one
    that is away is named, hides no other, and decides the exit status.

    \b
    Examples:
      backupd info be
      backupd info be latest --database app
      backupd info be 20261129T1520 --identity ops.identity
    """
    from backupd.operations.snapshots.details import region_details, snapshot_details

    with _Look.opened(ctx, region, options) as look:
        now, catalog = look.context.clock.now(), look.catalog
        if snapshot is None:
            shown = region_details(catalog, look.retention, now)
            return look.reply(InfoAnswer(region=shown), region_lines(shown, now))
        one = catalog.meant(snapshot, options.database)
        details = snapshot_details(catalog, one, look.retention, now)
        holdings = look.holdings(one) if options.identity is not None else None
        return look.reply(InfoAnswer(snapshot=details, holdings=holdings), snapshot_lines(details, holdings, now))


def list_contents(
    ctx: typer.Context, region: _RegionArgument, snapshot: _ListedArgument = "latest", *, options: LookOptions
) -> int:
    """List what a snapshot holds: every table, and every tenant, with rows and sizes. Needs an identity.

    `bytes` are those of the rows as text, `stored` what lies on the store for them, sealed. Names of tenants are
    printed here and in no log. What was purged is left out.

    \b
    Examples:
      backupd ls be --identity ops.identity
      backupd ls be 20261129T1520 --identity ops.identity --json
    """
    with _Look.opened(ctx, region, options, needs_identity=True) as look:
        one = look.catalog.meant(snapshot, options.database)
        found = look.holdings(one)
        return look.reply(InfoAnswer(holdings=found), [listed_line(one), "", *holdings_tables(found)])


def diff(
    ctx: typer.Context, region: _RegionArgument, before: _BeforeArgument, after: _AfterArgument, *, options: LookOptions
) -> int:
    """Say how two snapshots of one database differ: which segments, and with an identity which tables and tenants.

    No row is read: digests of what each segment holds are compared. A table whose rows lie in another order, or were
    read in other stretches, counts as changed. Without an identity both have to be of one generation.

    \b
    Examples:
      backupd diff be 20261128 20261129 --identity ops.identity
      backupd diff be 9ed6c053 1c0675a8
    """
    from backupd.operations.snapshots.difference import compare_opened, compare_segments

    with _Look.opened(ctx, region, options) as look:
        one, other = look.catalog.meant(before, options.database), look.catalog.meant(after, options.database)
        if options.identity is None:
            records, sections = zip(*(look.sections(snapshot) for snapshot in (one, other)), strict=True)
            found = compare_segments((one.name, other.name), records, sections)
        else:
            (first, was), (second, now) = look.choice(one), look.choice(other)
            found = compare_opened((first, second), (was, now))
        return look.reply(InfoAnswer(difference=found), difference_lines(found))


@dataclass(frozen=True, slots=True)
class _Look:
    """A region whose stores were looked at, and the identity that opens its snapshots, where one was given."""

    context: Context
    catalog: Catalog
    trace: Trace
    secret: bytes | None = field(repr=False)
    as_json: bool

    @staticmethod
    @contextmanager
    def opened(
        ctx: typer.Context, region: str, options: LookOptions, *, needs_identity: bool = False
    ) -> Iterator[_Look]:
        """Look at the stores of a region. Raises the errors of the configuration, the identity, and of all stores."""
        from backupd.operations.phases import Phases
        from backupd.operations.snapshots.catalog import read_catalog
        from backupd.wiring.context import QUICKLY, known_ledger_copy, open_repository

        context = load_context(ctx, options.config)
        name = context.regions([region])[0]
        context.databases(name, options.database)
        stores = context.stores_of(name, options.store)
        secret = None
        if needs_identity or options.identity is not None:
            _require_residency(context, name)
            secret = open_identity(options.identity, options.passphrase_file).secret
        with ExitStack() as stack:
            trace = stack.enter_context(watched(context.clock, quiet=options.as_json))
            stack.enter_context(recipients_named(context))
            opened = [(one, stack.enter_context(open_repository(context, name, one, QUICKLY))) for one in stores]
            own = known_ledger_copy(context, name)
            catalog = read_catalog(name, opened, own, Phases(context.clock, trace, name))
            note_signers(context, catalog.stores[0].repository)
            yield _Look(context, catalog, trace, secret, options.as_json)

    @property
    def retention(self) -> RetentionPolicy:
        """Return the rules by which snapshots of the region expire, as this machine's configuration has them."""
        from backupd.planning.retention import RetentionPolicy

        return RetentionPolicy(**self.context.config.regions[self.catalog.region].retention.model_dump())

    def choice(self, one: SnapshotInfo) -> tuple[Repository, OpenedChoice]:
        """Open a snapshot with the identity. Raises what `open_snapshot` raises."""
        from backupd.operations.snapshots.holdings import open_snapshot

        return open_snapshot(self.catalog, one, self._world())

    def holdings(self, one: SnapshotInfo) -> OpenedHoldings:
        """Return what a snapshot holds. Raises what opening and reading it raises."""
        from backupd.operations.phases import Phases
        from backupd.operations.snapshots.holdings import read_holdings

        with Phases(self.context.clock, self.trace, self.catalog.region).phase("opening"):
            return read_holdings(*self.choice(one))

    def sections(self, one: SnapshotInfo) -> tuple[Record, SnapshotSections]:
        """Return a snapshot's record and sections, from the first store that has it."""
        repository = self.catalog.having(one.name)[0].repository
        record = repository.record(one.name)
        return record, repository.sections(record)

    def reply(self, value: InfoAnswer, lines: Iterable[str | output.TextTable]) -> int:
        """Print what was found, and which stores and records are missing in it; return the exit status."""
        catalog = self.catalog
        away = {store: output.as_object(error) for store, error in catalog.away.items()}
        remarks = [f"damage: {line}" for line in catalog.damage]
        for store, error in catalog.away.items():
            remarks += output.failure_lines(error, f"{catalog.region} on {store}")
        gone = next((error.exit_code for error in catalog.away.values()), 0)
        answer = msgspec.structs.replace(value, away=away, damage=catalog.damage)
        return Reply(answer, lines, remarks, DamageError.exit_code if catalog.damage else gone).print(
            as_json=self.as_json
        )

    def _world(self) -> RestoreEnvironment:
        from backupd.operations.restore import RestoreEnvironment
        from backupd.wiring.context import known_ledger_copy

        context = self.context
        own = known_ledger_copy(context, self.catalog.region)
        return RestoreEnvironment(self.secret or b"", context.clock, self.trace, os.urandom, own_ledger=own)


def _require_residency(context: Context, region: RegionName) -> None:
    """Raise RefusedError where rows of the region may not be: names of tenants are rows, too."""
    try:
        context.require_residency(region)
    except RefusedError as error:
        allowed = ", ".join(context.config.regions[region].locations)
        raise RefusedError(error.message, hint=f"Names of tenants are rows: look on a machine in {allowed}.") from error
