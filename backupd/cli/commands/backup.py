"""The command `backup`, which backs up databases onto their stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import UNSET

from backupd.cli import output
from backupd.cli.options import (
    EXIT_STATUS,
    ConfigOption,
    DatabaseOption,
    JsonOption,
    QuietOption,
    RegionArgument,
    load_context,
)
from backupd.cli.progress import watched
from backupd.cli.run import Reply, Results
from backupd.cli.waiting_line import counted_seconds
from backupd.errors import BackupdError, InterruptedRunError, RefusedError, SourceError, StoreError, UnmappedError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.model.answers import BackupReport, UnreadAnswer
    from backupd.model.ids import RegionName
    from backupd.operations.backup.region import BackupOutcome, BackupTarget
    from backupd.operations.hooks import HookEvent
    from backupd.operations.preflight import BackupPreview
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("backup", epilog=EXIT_STATUS)(backup)


def backup(
    ctx: typer.Context,
    region: RegionArgument = None,
    database: DatabaseOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be read and where it would go, and read no rows.")
    ] = False,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Read everything, and compare it with what would have been taken over unread. Without a difference, "
            "this ends the distrust that an earlier one left.",
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait",
            help="Give a store that is away, or goes away, 15 seconds and not the time of its `patience`.",
        ),
    ] = False,
    quiet: QuietOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Back up databases onto their stores.

    Every database of the given regions, or of all, goes onto each store of its region.
    The rows of a database are read at one instant, split by tenant, compressed, sealed and shipped. A snapshot exists
    when its record does, which is written last: a run that fails before that leaves nothing half done, and the next run
    goes on from what was published. One store or database failing does not stop the others; the exit status is that of
    the first failure. A store that does not answer comes last, and is waited for as long as `stores.NAME.patience`
    says; with --no-wait for 15 seconds.

    \b
    Examples:
      backupd backup
      backupd backup be --database app --json
      backupd backup --dry-run
    """
    from backupd.model.answers import BackupAnswer
    from backupd.wiring.answering_store import answering_first
    from backupd.wiring.backup import backup_target, impatient

    context = load_context(ctx, config)
    if dry_run:
        return _preview(context, region or [], database, as_json=as_json)
    results = Results(as_json, quiet=quiet)
    with watched(context.clock, quiet=as_json or quiet) as trace:
        targets = {
            name: {store: backup_target(context, name, store, database, trace) for store in context.stores_of(name)}
            for name in context.regions(region or [])
        }
        for name, placed in targets.items():
            some = [placed[store] for store in answering_first(context, name, trace)]
            some = [impatient(context, one) for one in some] if no_wait else some
            _back_up_region(context, name, [one.auditing() for one in some] if audit else some, results)
    return results.finish("backups", BackupAnswer)


def _preview(context: Context, regions: list[str], database: str | None, *, as_json: bool) -> int:
    """Show what a backup would read and where it would go; the exit status is that of the first refusal."""
    from backupd.operations.preflight import UNMAPPED, check_store, preview_backup
    from backupd.wiring.context import QUICKLY, given_tags, open_repository, source_of, tenancy_of

    def place(name: RegionName, label: str) -> Reply:
        with counted_seconds(f"asking the server of {name}/{label}", quiet=as_json):
            preview = preview_backup(source_of(context, name, label), tenancy_of(context, name, label))
        codes = [one.code for one in preview.findings if one.severity == "error"]
        status = (UnmappedError if codes[0] == UNMAPPED else SourceError).exit_code if codes else 0
        stores = context.stores_of(name)
        value = {"region": name, "database": label, "stores": stores, "preview": preview}
        return Reply(value, _preview_lines(f"{name}/{label}", stores, preview), status=status)

    def store(name: RegionName, at: str) -> Reply:
        with (
            counted_seconds(f"asking {at}", quiet=as_json),
            open_repository(context, name, at, QUICKLY) as repository,
        ):
            found = check_store(repository, given_tags(context, name))
        lines = [line for one in found for line in (f"{name} on {at}: {one.message}", f"  {one.hint}")]
        return Reply(
            {"region": name, "store": at, "findings": found}, lines, status=StoreError.exit_code if found else 0
        )

    results = Results(as_json)
    stores = Results(as_json)
    for name in context.regions(regions):
        for label in context.databases(name, database):
            results.add(place(name, label))
        for at in context.stores_of(name):
            stores.add(store(name, at))
    if as_json:
        output.print_json(
            {"previews": [one.value for one in results.replies], "stores": [one.value for one in stores.replies]}
        )
    return results.status or stores.status


def _preview_lines(name: str, stores: Sequence[str], preview: BackupPreview) -> Iterator[str]:
    many = f"{counted(preview.databases, 'database')}, " if preview.databases != 1 else ""
    yield f"{name}: {many}{counted(preview.tables, 'table')}, about {counted(preview.rows, 'row')}"
    yield f"  {output.human_bytes(preview.bytes)} in them: about the most that a first backup sends to each store"
    yield f"  to {', '.join(stores)}"
    if preview.left_out:
        yield f"  {counted(preview.left_out, 'table')} more without rows: their class is never backed up"
    if preview.unknown:
        yield f"  {counted(preview.unknown, 'table')} of unknown rows: never analyzed"
    for one in preview.findings:
        yield f"  {one.severity}: {one.message}"
        yield f"    {one.hint}"


def _back_up_region(context: Context, region: RegionName, targets: list[BackupTarget], results: Results) -> None:
    """Run a region's backups between its hooks: none after a hook that failed. One that is interrupted has failed."""
    from backupd.operations.backup.region import back_up
    from backupd.operations.hooks import HookEvent
    from backupd.operations.snapshots.listed_names import remember_one

    own = Results(results.as_json, quiet=results.quiet)
    try:
        if _has_run(context, region, HookEvent.BEFORE, own):
            for outcome in back_up(targets):
                own.add(_reply(outcome))
                if outcome.report is not None:
                    remember_one(context.config.node.state_dir / region, outcome.report.snapshot)
    except InterruptedRunError as error:
        _has_run(context, region, HookEvent.FAILURE, own, error.exit_code)
        raise
    _has_run(context, region, HookEvent.FAILURE if own.status else HookEvent.AFTER, own, own.status)
    results.replies.extend(own.replies)


def _has_run(
    context: Context, region: RegionName, event: HookEvent, results: Results, status: int | None = None
) -> bool:
    """Run a region's hook, if it has one, with the exit status so far; a failure becomes a reply. Return whether none
    failed.
    """
    from backupd.model.answers import DatabaseBackup
    from backupd.operations.hooks import run_hook
    from backupd.wiring.backup import region_hook

    hook = region_hook(context, region, event)
    if hook is None:
        return True
    try:
        run_hook(hook, region, context.environ, status)
    except BackupdError as error:
        value = DatabaseBackup(region=region, store="", database="", error=output.as_object(error))
        results.add(Reply(value, remarks=output.failure_lines(error, region), status=error.exit_code))
        return False
    return True


def _reply(outcome: BackupOutcome) -> Reply:
    """Return the reply of one database on one store."""
    from backupd.model.answers import DatabaseBackup

    value = DatabaseBackup(
        region=outcome.region,
        store=outcome.store,
        database=outcome.label,
        error=UNSET if outcome.error is None else output.as_object(outcome.error),
        report=UNSET if outcome.report is None else outcome.report,
    )
    name = f"{outcome.region}/{outcome.label} on {outcome.store}"
    if outcome.error is not None:
        return Reply(value, remarks=output.failure_lines(outcome.error, name), status=outcome.error.exit_code)
    if outcome.report is None:
        return Reply(value)
    # The snapshot is well; those before it may not be.
    verdict = RefusedError.exit_code if outcome.report.unread.differences else 0
    return Reply(value, _lines(name, outcome.report), status=verdict)


def _lines(name: str, report: BackupReport) -> Iterator[str]:
    size = output.human_bytes
    yield f"{name}: snapshot {report.snapshot[:SHORT_NAME]}"
    yield f"  {counted(report.tables, 'table')}, {counted(report.rows, 'row')}, {size(report.read)}"
    yield f"  {size(report.new)} new, sent {size(report.sent)} in {counted(report.objects, 'object')}"
    yield from _unread_lines(report.unread)
    if report.missing:
        yield f"  a full copy, as the store lacks {counted(report.missing, 'object')} of earlier runs"
    if report.tries > 1:
        yield f"  the database was busy before: this was try {report.tries}"
    yield f"  exported snapshot held {report.held_seconds:.1f} s, {report.seconds:.1f} s in all"


def _unread_lines(unread: UnreadAnswer) -> Iterator[str]:
    if unread.extents:
        yield f"  {output.human_bytes(unread.bytes)} of tables not read: no block of them has changed"
    if unread.news:
        yield f"  everything was read: {unread.reason}"
    if unread.compared:
        found = counted(len(unread.differences), "difference") if unread.differences else "no difference"
        yield f"  {counted(unread.compared, 'unchanged part')} of tables compared: {found}"
