"""The command `drill`, which restores a snapshot into a server of its own and reports what it found."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET

from backupd.cli import output
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    DatabaseOption,
    IdentityOption,
    JsonOption,
    PassphraseOption,
    StoreOption,
    grouped,
    load_context,
    open_identity,
    with_recipients,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.cli.supervised import progress_pipe
from backupd.errors import BackupdError, DamageError, KeyRefusedError, StoreError, UsageError
from backupd.model.text import counted, parse_stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.model.ids import RegionName
    from backupd.model.report import Report
    from backupd.operations.drill import DrillOutcome, DrillRequest
    from backupd.operations.reports import Published
    from backupd.trace import Trace
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("drill", epilog=EXIT_STATUS)(grouped(drill))


@dataclass(frozen=True, slots=True)
class DrillSource:
    """The options of a command that reads from one store."""

    store: StoreOption = None
    config: ConfigOption = None
    as_json: JsonOption = False


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """The options that say which snapshot is drilled, and how."""

    database: DatabaseOption = None
    snapshot: Annotated[
        str | None,
        typer.Option("--snapshot", metavar="ID|TIME|latest", show_default=False, help="[default: whose turn it is]"),
    ] = None
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant",
            metavar="TENANT",
            show_default=False,
            help="Only this tenant, with the shared rows; - reads the name from standard input.",
        ),
    ] = None
    seed: Annotated[
        str | None,
        typer.Option("--seed", metavar="HEX", show_default=False, help="For the random rule. [default: drawn]"),
    ] = None
    damage: Annotated[bool, typer.Option("--damage", help="Damage what is fetched; the drill must notice.")] = False
    explain: Annotated[
        bool, typer.Option("--explain", help="Name what is found, for who brings an identity; no report is kept.")
    ] = False
    identity: IdentityOption = None
    passphrase_file: PassphraseOption = None
    due: Annotated[str | None, typer.Option("--due", hidden=True, help="The daemon's: when the drill was due.")] = None
    caught_up: Annotated[bool, typer.Option("--caught-up", hidden=True, help="The daemon's: it was missed.")] = False

    def request(self, *, by_daemon: bool) -> DrillRequest:
        """Return what these options ask for; a tenant's name may come from standard input.

        Raises UsageError for options that contradict each other, an empty name, a seed that is none, and a due date
        that no daemon gave.
        """
        from backupd.operations.drill import DrillRequest

        if self.explain and (self.damage or self.due is not None):
            raise UsageError("--explain is of a drill that somebody asks for, of a whole or one tenant's snapshot")
        if self.identity is not None and not self.explain:
            raise UsageError(
                "a drill opens backups with its own identity", hint="--identity goes with --explain; see [drill]."
            )
        if self.damage and self.tenant is not None:
            raise UsageError(
                "--damage does not go with --tenant", hint="It damages what is fetched of a whole snapshot."
            )
        return DrillRequest(
            database=self.database,
            snapshot=self.snapshot,
            seed=_seed(self.seed),
            damage=self.damage,
            tenant=_tenant(self.tenant),
            explain=self.explain,
            trigger="command" if self.due is None else "catch-up" if self.caught_up else "timetable",
            scheduled=None if self.due is None else _due(self.due, by_daemon=by_daemon),
        )

    def reader(self) -> bytes | None:
        """Return the secret of the identity that names are shown to; None when they are not asked for.

        Raises UsageError without an identity, ConfigError, KeyRefusedError.
        """
        return open_identity(self.identity, self.passphrase_file).secret if self.explain else None


def drill(
    ctx: typer.Context,
    region: Annotated[
        str | None, typer.Argument(metavar="REGION", show_default=False, help="[default: drilled longest ago]")
    ] = None,
    *,
    options: DrillOptions,
    source: DrillSource,
) -> int:
    """Restore a snapshot into a server of the drill's own, check it, and report.

    By turns the latest, the oldest and a random snapshot of each database is fetched from the store, restored with its
    roles, and read back: every row stream must be what its manifest says. Sequences, constraints, indexes, extensions,
    roles, deletion, age and the configured assertions are checked, too. The server has no network, and is gone with all
    its files at the end. On a keeper the report is signed, chained to the one before, and kept on every store.

    With --tenant one tenant alone is fetched and restored, beside what is shared, and nobody else's row may be there.
    Its report says whose drill it was by the tenant's opaque id; it counts for no turn of the whole ones.

    With --explain what was found is named: tables with their tenants, indexes, roles, and how they differ. It reads
    with the identity that is given. Without a snapshot or a tenant, the newest drill that failed is done again. Nothing
    of it is kept or published.

    \b
    Examples:
      backupd drill
      backupd drill be --database app --snapshot latest --json
      backupd drill be --tenant acme
      backupd drill be --explain --identity ops.identity
    """
    from backupd.wiring.drill import drill_section

    context = load_context(ctx, source.config)
    drill_section(context)
    request = options.request(by_daemon=progress_pipe(context.environ) is not None)
    reader = options.reader()
    with watched(context.clock, quiet=source.as_json) as trace:
        place = _region(context, region, trace)
        context.require_residency(place)
        if options.database is not None:
            context.databases(place, options.database)
        where = place, context.stores_of(place, source.store)[0]
        done = (
            _run(context, where, request, trace)
            if reader is None
            else _explain(context, where, (request, reader), trace)
        )
    return _reply(context, place, done).print(as_json=source.as_json)


@dataclass(frozen=True, slots=True)
class _Done:
    """A drill that came to its end, and its report."""

    outcome: DrillOutcome
    published: Published | None
    """The signed report; None on a machine that is no keeper, and where it could not be published."""
    unpublished: BackupdError | None = None
    """The reason why a keeper could not publish the report."""
    named: bool = False
    """Whether the person who asked may read names, and the report is for nobody else."""

    @property
    def report(self) -> Report:
        """Return the report as it was signed, else as the drill made it."""
        return self.published.report if self.published else self.outcome.report


def _run(context: Context, place: tuple[RegionName, str], request: DrillRequest, trace: Trace) -> _Done:
    from backupd.operations.drill import drill as run
    from backupd.planning.drill import damage_is_due
    from backupd.wiring.context import open_repository
    from backupd.wiring.drill import drill_section, drill_world

    region, store = place
    past = _past(context, region, trace, dated=context.config.keeper is not None)
    every = drill_section(context).damage_every
    if (request.snapshot, request.database, request.tenant) == (None, None, None) and damage_is_due(past, every):
        request = replace(request, damage=True)
    world = drill_world(context, region, store, trace, past)
    with open_repository(context.telling(trace), region, store) as repository:
        outcome = run(request, repository, world)
    return _published(context, region, outcome, trace)


def _explain(context: Context, place: tuple[RegionName, str], asked: tuple[DrillRequest, bytes], trace: Trace) -> _Done:
    """Drill for somebody who may read the names; the report is published nowhere."""
    from backupd.operations.drill import drill as run
    from backupd.planning.drill import find_failed
    from backupd.wiring.context import open_repository
    from backupd.wiring.drill import drill_world

    (region, store), (request, reader) = place, asked
    past = _past(context, region, trace)
    failed = find_failed(past)
    if (request.snapshot, request.database, request.tenant) == (None, None, None) and failed is not None:
        request = replace(request, snapshot=failed.snapshot)
    world = replace(drill_world(context, region, store, trace, past), identity=reader)
    with open_repository(context.telling(trace), region, store) as repository:
        return _Done(run(request, repository, world), None, named=True)


def _published(context: Context, region: RegionName, outcome: DrillOutcome, trace: Trace) -> _Done:
    """Sign and keep the report, where a keeper's key is. A store that is out of reach takes nothing from the drill."""
    from backupd.operations.reports import publish_report
    from backupd.wiring.drill import open_report_desk
    from backupd.wiring.keeper import keeper_signer

    if context.config.keeper is None:
        return _Done(outcome, None)
    try:
        _, signer = keeper_signer(context)
        with open_report_desk(context, region, signer, trace) as desk:
            return _Done(outcome, publish_report(desk, outcome.report))
    except BackupdError as error:
        return _Done(outcome, None, error)


def _past(context: Context, region: RegionName, trace: Trace, *, dated: bool = False) -> list[Report]:
    """Return the region's reports, oldest first.

    With `dated`, raises RefusedError under a clock by which no report could be published. A store that cannot be asked
    for its time, like one that is full, takes nothing from the drill.
    """
    from backupd.operations.reports import gather
    from backupd.wiring.keeper import open_book_and_repositories

    with open_book_and_repositories(context, region, trace) as (book, repositories):
        if dated:
            with suppress(StoreError):
                book.require_dates()
        return [one.report for one in gather(book, repositories).filed]


def _region(context: Context, name: str | None, trace: Trace) -> RegionName:
    """Return the region asked for, or the one whose last drill is longest ago."""
    known = context.regions([name] if name is not None else [])
    if len(known) == 1:
        return known[0]
    newest = {one: max((report.started for report in _past(context, one, trace)), default="") for one in known}
    return min(known, key=lambda one: (newest[one], one))


def _tenant(given: str | None) -> str | None:
    """Return the tenant's name; `-` has it read from standard input, so that no list of processes shows it."""
    name = sys.stdin.readline().rstrip("\n") if given == "-" else given
    if name == "":
        raise UsageError("no tenant is named")
    return name


def _due(given: str, *, by_daemon: bool) -> datetime:
    """Return the instant that the daemon's timetable had for the drill; only a daemon's child may say so."""
    if not by_daemon:
        raise UsageError("--due is the daemon's: a drill that somebody asks for is none of its timetable")
    try:
        return parse_stamp(given)
    except ValueError:
        raise UsageError("--due is not an instant as the daemon writes it") from None


def _seed(given: str | None) -> str:
    from backupd.wiring.drill import new_seed

    if given is None:
        return new_seed()
    if not 1 <= len(given) <= 64 or set(given) - set("0123456789abcdef"):
        raise UsageError("the seed is not made of 1 to 64 hex digits in lower case")
    return given


def _status(done: _Done) -> int:
    verdict, error = done.report.verdict, done.outcome.error
    if verdict == "fail":
        return DamageError.exit_code
    if verdict == "error":
        return error.exit_code if error is not None else BackupdError.exit_code
    return done.unpublished.exit_code if done.unpublished is not None else 0


def _reply(context: Context, region: RegionName, done: _Done) -> Reply:
    """Return the reply to a drill of this region."""
    from backupd.model.answers import DrillAnswer, NamedFindingAnswer, of_value

    published, failure, unpublished = done.published, done.outcome.error, done.unpublished
    if isinstance(failure, KeyRefusedError):
        failure = with_recipients(context, failure)
    return Reply(
        DrillAnswer(
            verdict=done.report.verdict,
            published=published is not None,
            report=done.report,
            sha256=UNSET if published is None else published.sha256,
            stores=UNSET if published is None else tuple(published.stores),
            error=UNSET if failure is None else output.as_object(failure),
            unpublished=UNSET if unpublished is None else output.as_object(unpublished),
            named=tuple(of_value(one, NamedFindingAnswer) for one in done.outcome.named) if done.named else UNSET,
        ),
        _lines(done),
        [
            line
            for error in (failure, unpublished)
            if error is not None
            for line in output.failure_lines(error, f"drill of {region}")
        ],
        _status(done),
    )


def _lines(done: _Done) -> Iterator[str]:
    from backupd.pages.findings import sentence

    report, size = done.report, output.human_bytes
    yield f"drill {report.drill} of {report.region}: {report.verdict.upper()}"
    if report.selection is not None:
        chosen = report.selection
        yield f"  {chosen.database} of {chosen.exported} from {chosen.store} (rule: {chosen.rule})"
        if chosen.tenants is not None:
            yield f"  one tenant, {chosen.tenant or 'whose opaque id needs the tenant key'}, and what is shared"
    if report.sizes is not None:
        yield f"  {counted(report.sizes.rows, 'row')}, {size(report.sizes.bytes)}; fetched {size(report.sizes.fetched)}"
    yield f"  {'':>2} {'check':<12} {'':<5} {'looked at':>9}"
    for check in report.checks:
        found = "; ".join(sentence(one.code) + (f" ({one.count})" if one.count > 1 else "") for one in check.findings)
        yield f"  {check.number:>2} {check.name:<12} {check.verdict:<5} {check.examined:>9}" + (
            f"  {found}" if found else ""
        )
    yield from _unproven_lines(report)
    measured = {"recovery point": report.measured.rpo, "recovery time": report.measured.rto}
    spans = {
        name: output.human_duration(timedelta(seconds=value)) for name, value in measured.items() if value is not None
    }
    yield "  " + ", ".join(f"{name} {span}" for name, span in spans.items())
    if done.published is not None:
        yield f"  report {done.published.sha256[:16]} on {', '.join(done.published.stores)}"
    elif done.named:
        yield from _named(done.outcome)
    elif done.unpublished is None:
        yield "  the report is kept nowhere: this machine is no keeper"


def _unproven_lines(report: Report) -> Iterator[str]:
    """Yield how many checks say nothing, as the page does: no pass proves what was not looked at."""
    skipped = sum(check.verdict == "skip" for check in report.checks)
    idle = sum(check.verdict == "pass" and not check.examined for check in report.checks)
    if skipped:
        yield f"  not made, and proving nothing: {skipped} of {counted(len(report.checks), 'check')}"
    if idle:
        yield f"  passed with nothing to look at, proving as little: {idle}"


def _named(outcome: DrillOutcome) -> Iterator[str]:
    from backupd.pages.findings import sentence

    yield "  by name, for your eyes; no report was kept:" if outcome.named else "  nothing to name; no report was kept"
    for one in outcome.named:
        yield f"  {one.check.number:>2} {one.check:<12} {one.what}: {sentence(one.code)}"
        yield from (f"       {line}" for line in one.details)
