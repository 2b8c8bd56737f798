"""The command `restore database`, which restores a database, or a part of it, into a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from backupd.cli.commands.restore.options import (
    AnalyzeOption,
    ChangeOptions,
    DatabaseArgument,
    GlobalsOption,
    JobsOption,
    KeepGoingOption,
    PartOptions,
    PassfileOption,
    RegionArgument,
    SnapshotOptions,
    TargetOption,
    WithoutBrokenKeysOption,
)
from backupd.cli.commands.restore.output import restored_lines, restored_status
from backupd.cli.commands.restore.task import configured, opened
from backupd.cli.run import Reply

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore import RestoreReport, RestoreRequest


def database(
    ctx: typer.Context,
    region: RegionArgument,
    database: DatabaseArgument,
    target: TargetOption,
    passfile: PassfileOption = None,
    globals_: GlobalsOption = False,
    without_broken_keys: WithoutBrokenKeysOption = False,
    keep_going: KeepGoingOption = False,
    jobs: JobsOption = 4,
    analyze: AnalyzeOption = False,
    *,
    changed: ChangeOptions,
    part: PartOptions,
    options: SnapshotOptions,
) -> int:
    """Restore a database, or some tenants, tables or classes of it, into a new one.

    The database is filled under a temporary name and gets its own when everything is there: rows, sequences, large
    objects, indexes, constraints, owners, privileges, comments. Every row is compared with what was read when it was
    backed up. A failed restore leaves none. The ledger is read first: what was purged since is left out, and a ledger
    that cannot be believed, or is older than the snapshot, is damage and stops the restore. A tenant, some tables or a
    data class can be restored alone; only their objects are read.

    \b
    Examples:
      backupd restore database be app --target "host=db2 dbname=app_restored" --identity ops.identity
      backupd restore database be app --snapshot 2026-03-31 --globals --target "dbname=app" --identity ops.identity
      backupd restore database be app --tenant acme --target "dbname=app_acme" --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import restore_target

    context, place = configured(ctx, options, region, database)
    source, name = restore_target(context, target, passfile)
    selection = part.selection(database)
    with opened(context, place, options) as task:
        request = RestoreRequest(
            database,
            options.snapshot,
            source,
            name,
            member=part.member,
            jobs=jobs,
            roles=globals_,
            analyze=analyze,
            without_broken_keys=without_broken_keys,
            changes=changed.changes(),
            keep_going=keep_going,
            selection=selection,
        )
        return restored_reply(task, name, restore_one(task, request)).print(as_json=options.as_json)


def restore_one(task: RestoreTask, request: RestoreRequest, history: LedgerHistory | None = None) -> RestoreReport:
    """Restore one database, and remember how fast that was. Raises what the operation raises."""
    from backupd.operations.restore import restore
    from backupd.operations.restore.preview import keep_rates, rates_of
    from backupd.wiring.restore import rates_file

    rates = task.rates(request.label)
    paced = replace(request, pace=rates.seconds_per_byte) if rates is not None else request
    report = restore(paced, task.repository, task.world, history)
    if request.folder is None and request.selection.everything and (measured := rates_of(report)) is not None:
        keep_rates(rates_file(task.context, task.region, request.label), measured)
    return report


def restored_reply(task: RestoreTask, name: str, report: RestoreReport) -> Reply:
    """Return the reply to the restore of one database; `name` is that of the new database, or of the folder."""
    lines = restored_lines(report, f'"{name}"')
    return Reply({"region": task.region, "target": name, "report": report}, lines, status=restored_status(report))
