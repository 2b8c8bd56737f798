"""`restore preview`: what a restore would fetch and write, and how long that should take."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from backupd.cli import output
from backupd.cli.commands.restore.options import AnyDatabaseArgument, PartOptions, RegionArgument, SnapshotOptions
from backupd.cli.commands.restore.output import absent_lines, database_name, expected_time, region_object
from backupd.cli.commands.restore.region import each_database, find_region, region_status
from backupd.cli.commands.restore.task import configured, opened

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore import RestoreRequest
    from backupd.operations.restore.preview import Preview
    from backupd.operations.restore.region import DatabaseOutcome, RegionContents


def preview(
    ctx: typer.Context,
    region: RegionArgument,
    database: AnyDatabaseArgument = None,
    *,
    part: PartOptions,
    options: SnapshotOptions,
) -> int:
    """Say what would be fetched and written, and how long it should take.

    Reads the ledger, the record and the manifests, and writes nothing. The time is known after a first restore on this
    machine.

    \b
    Examples:
      backupd restore preview be app --identity ops.identity
      backupd restore preview be app --tenant acme --identity ops.identity
      backupd restore preview be --snapshot 2026-03-31T14:00 --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import programs_alone

    context, place = configured(ctx, options, region, database)
    selection = part.selection(database)
    with opened(context, place, options) as task:
        request = RestoreRequest(
            database or "", options.snapshot, programs_alone(context), "", member=part.member, selection=selection
        )
        if database is None:
            return _preview_region(task, request, as_json=options.as_json)
        _print_preview(task.region, preview_one(task, request), as_json=options.as_json)
    return 0


def preview_one(task: RestoreTask, request: RestoreRequest, history: LedgerHistory | None = None) -> Preview:
    """What the restore of one database would do. Raises what `restore` raises before it touches the target."""
    from backupd.operations.restore import preview as previewing

    return previewing.preview(request, task.repository, task.world, task.rates(request.label), history)


def preview_each(task: RestoreTask, request: RestoreRequest) -> tuple[RegionContents, list[DatabaseOutcome[Preview]]]:
    """What the restore of every database of a region would do. Raises what finding them raises."""
    finding, target = find_region(task, request, "")
    planned = each_database(finding, lambda found: preview_one(task, target.wanted(found), finding.history))
    return finding, planned


def _preview_region(task: RestoreTask, request: RestoreRequest, *, as_json: bool) -> int:
    finding, planned = preview_each(task, request)
    if as_json:
        output.print_json({"region": task.region, **region_object(finding, planned, "plan")})
    else:
        _print_region(task.region, finding, planned)
    return region_status(finding, planned)


def _print_preview(region: str, planned: Preview, *, as_json: bool) -> None:
    if as_json:
        output.print_json({"region": region, "plan": planned})
        return
    size = output.human_bytes
    time = expected_time(planned.expected, "unknown: no restore of it was measured here yet")
    output.print_facts(
        {
            "snapshot": planned.snapshot,
            "exported": planned.exported,
            "segments": planned.segments,
            "left out": f"{planned.purged} purged, {planned.aged} expired, {planned.unselected} not asked for",
            "tables": planned.tables,
            "rows": planned.rows,
            "written": size(planned.bytes),
            "fetched": f"{planned.objects} objects, {size(planned.fetched)}",
            "ledger": f"obeyed up to entry {planned.ledger}",
            "time": time,
        }
    )


def _print_region(region: str, finding: RegionContents, planned: Sequence[DatabaseOutcome[Preview]]) -> None:
    """A line for each database, and the sums."""
    plans = [one.result for one in planned if one.result is not None]
    rows = [_row(one, plan) for one in planned if (plan := one.result) is not None]
    headings = ("database", "exported", "tables", "rows", "written", "objects", "fetched", "time")
    output.print_table(output.TextTable(headings, rows))
    for outcome in planned:
        if outcome.error is not None:
            output.print_failure(outcome.error, database_name(region, outcome.found))
    output.print_lines(absent_lines(region, finding), sys.stderr)
    written, fetched = sum(plan.bytes for plan in plans), sum(plan.fetched for plan in plans)
    size = output.human_bytes
    output.print_lines(
        [
            f"{len(plans)} databases: {size(written)} written, {size(fetched)} fetched",
            f"the ledger is obeyed up to entry {len(finding.history.chain.links)}",
        ]
    )


def _row(one: DatabaseOutcome[Preview], plan: Preview) -> tuple[output.Cell, ...]:
    size = output.human_bytes
    return (
        database_name("", one.found),
        plan.exported.partition(".")[0],
        plan.tables,
        plan.rows,
        size(plan.bytes),
        plan.objects,
        size(plan.fetched),
        expected_time(plan.expected, "not measured"),
    )
