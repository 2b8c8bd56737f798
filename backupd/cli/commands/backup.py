"""`backup`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from msgspec import UNSET

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, DatabaseOption, JsonOption, RegionArgument, load_context
from backupd.cli.progress import watched

if TYPE_CHECKING:
    from backupd.model.answers import DatabaseBackup
    from backupd.operations.backup.region import BackupOutcome


def add(app: typer.Typer) -> None:
    app.command("backup", epilog=EXIT_STATUS)(backup)


def backup(
    ctx: typer.Context,
    region: RegionArgument = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Back up databases onto their stores.

    Every database of the given regions, or of all, goes onto each store of its region.
    The rows of a database are read at one instant, split by tenant, compressed, sealed and shipped. A snapshot exists
    when its record does, which is written last: whatever goes wrong before leaves nothing half done, and the next run
    goes on from what was published. One store or database failing does not stop the others; the exit status is that of
    the first failure.

    \b
    Examples:
      backupd backup
      backupd backup be --database app --json
    """
    from backupd.wiring.backup import backup_target

    context = load_context(ctx, config)
    with watched(context.clock, quiet=as_json) as trace:
        from backupd.operations.backup.region import back_up

        targets = [
            backup_target(context, name, store, database, trace)
            for name in context.regions(region or [])
            for store in context.stores_of(name)
        ]
        outcomes = list(back_up(targets))
    if as_json:
        from backupd.model.answers import BackupAnswer

        output.print_json(BackupAnswer(backups=tuple(map(_as_object, outcomes))))
    else:
        for outcome in outcomes:
            _print(outcome)
    return next((outcome.error.exit_code for outcome in outcomes if outcome.error is not None), 0)


def _as_object(outcome: BackupOutcome) -> DatabaseBackup:
    from backupd.model.answers import DatabaseBackup

    return DatabaseBackup(
        region=outcome.region,
        store=outcome.store,
        database=outcome.label,
        error=UNSET if outcome.error is None else output.as_object(outcome.error),
        report=UNSET if outcome.report is None else outcome.report,
    )


def _print(outcome: BackupOutcome) -> None:
    where = f"{outcome.region}/{outcome.label} on {outcome.store}"
    if outcome.error is not None:
        output.print_failure(outcome.error, where)
        return
    report, told = outcome.report, output.human_bytes
    if report is not None:
        output.print_lines(
            [
                f"{where}: snapshot {report.snapshot}",
                f"  {report.tables} tables, {report.rows} rows, {told(report.read)}",
                f"  {told(report.new)} new, sent {told(report.sent)} in {report.objects} objects",
                *([f"  a full copy: {report.missing} objects of earlier runs were missing"] if report.missing else []),
                f"  exported snapshot held {report.held_seconds:.1f} s, {report.seconds:.1f} s in all",
            ]
        )
