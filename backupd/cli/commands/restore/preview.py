"""The command `restore preview`, which says what a restore would fetch and write, and how long it should take."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.restore.options import (
    AnyDatabaseArgument,
    ChangeOptions,
    PartOptions,
    PassfileOption,
    RegionArgument,
    SnapshotOptions,
)
from backupd.cli.commands.restore.output import (
    absent_lines,
    database_name,
    expected_time,
    region_object,
    region_status,
)
from backupd.cli.commands.restore.region import each_database, find_region
from backupd.cli.commands.restore.task import configured, opened
from backupd.cli.run import Reply
from backupd.errors import UsageError
from backupd.model.ids import SHORT_NAME
from backupd.model.text import counted
from backupd.planning.selection import Selection

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.ledger.history import LedgerHistory
    from backupd.operations.restore import RestoreRequest
    from backupd.operations.restore.preview import Preview
    from backupd.operations.restore.region import DatabaseOutcome, RegionContents
    from backupd.postgres.target.restorer import Restorer

_KEYS = "those that need what is left out stop the restore, but for --without-broken-keys"


def preview(
    ctx: typer.Context,
    region: RegionArgument,
    database: AnyDatabaseArgument = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="DSN", show_default=False, help="Look, too, at what this server lacks, and name it."
        ),
    ] = None,
    passfile: PassfileOption = None,
    restorer: Annotated[
        str | None,
        typer.Option(
            "--restorer",
            metavar="ROLE",
            show_default=False,
            help="Print the statements that make this role, no superuser, to restore by where an owner may be hostile.",
        ),
    ] = None,
    *,
    changed: ChangeOptions,
    part: PartOptions,
    options: SnapshotOptions,
) -> int:
    """Say what would be fetched and written, and how long it should take.

    Reads the ledger, the record and the manifests, and writes nothing. The time is known after a first restore on this
    machine. With a target, roles, tablespaces and extensions are named that the snapshot needs and the server lacks,
    and what only a superuser can make.

    \b
    Examples:
      backupd restore preview be app --identity ops.identity
      backupd restore preview be app --tenant acme --identity ops.identity
      backupd restore preview be --snapshot 2026-03-31T14:00 --identity ops.identity
      backupd restore preview be app --restorer restorer --target "host=db2 user=postgres" --identity ops.identity
    """
    if restorer is not None and (target is None or database is None):
        raise UsageError("--restorer wants a DATABASE and a --target", hint="The role is made for one snapshot there.")
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import programs_alone, restore_server

    context, place = configured(ctx, options, region, database)
    selection = part.selection(database)
    with opened(context, place, options) as task:
        source = programs_alone(context) if target is None else restore_server(context, target, passfile)[0]
        request = RestoreRequest(
            database or "",
            options.snapshot,
            source,
            "preview",
            member=part.member,
            selection=selection,
            changes=changed.changes(),
            restorer=restorer,
        )
        if database is None:
            return _region_reply(task.region, *preview_each(task, request)).print(as_json=options.as_json)
        return _database_reply(task.region, preview_one(task, request), selection).print(as_json=options.as_json)


def preview_one(task: RestoreTask, request: RestoreRequest, history: LedgerHistory | None = None) -> Preview:
    """Find out what the restore of one database would do. Raises what `restore` raises before it touches the target."""
    from backupd.operations.restore import preview as previewing

    return previewing.preview(request, task.repository, task.world, task.rates(request.label), history)


def preview_each(task: RestoreTask, request: RestoreRequest) -> tuple[RegionContents, list[DatabaseOutcome[Preview]]]:
    """Find out what the restore of every database of a region would do. Raises what finding them raises."""
    finding, target = find_region(task, request, "")
    planned = each_database(finding, lambda found: preview_one(task, target.wanted(found), finding.history))
    return finding, planned


def _may_break(planned: Preview, selection: Selection) -> bool:
    """Check whether foreign keys are restored that rows which are left out may be needed for."""
    return selection.closed and bool(planned.purged or planned.aged or planned.unselected)


def _database_reply(region: str, planned: Preview, selection: Selection) -> Reply:
    size = output.human_bytes
    facts: dict[str, output.Cell] = {
        "snapshot": planned.snapshot[:SHORT_NAME],
        "exported": planned.exported,
        "segments": planned.segments,
        "left out": f"{planned.purged} purged, {planned.aged} expired, {planned.unselected} not asked for",
        **({"keys": _KEYS} if _may_break(planned, selection) else {}),
        "tables": planned.tables,
        "rows": planned.rows,
        "written": size(planned.bytes),
        "fetched": f"{counted(planned.objects, 'object')}, {size(planned.fetched)}",
        "ledger": f"obeyed up to entry {planned.ledger}",
        "time": expected_time(planned.expected, "unknown: no restore of it was measured here yet"),
    }
    lines = [*output.fact_lines(facts), *_lacking([planned]), *_superusers([planned])]
    if planned.restorer is not None:
        lines += _restorer_lines(planned.restorer)
    return Reply({"region": region, "plan": planned}, lines)


def _lacking(planned: Sequence[Preview]) -> Iterator[str]:
    """Yield what the target lacks of what one of these needs, each kind once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for lack in (lack for one in planned for lack in one.lacks):
        found.setdefault((lack.what, lack.cure), {}).update(dict.fromkeys(lack.names))
    for (what, cure), names in found.items():
        yield f"missing   {what}: {', '.join(names)}"
        yield f"          {cure}"


def _superusers(planned: Sequence[Preview]) -> Iterator[str]:
    """Yield what only a superuser of the target can make of these, each once."""
    found = dict.fromkeys(name for one in planned for name in one.superuser)
    if found:
        yield f"superuser {', '.join(found)}"
        yield "          a superuser can make these; restored by another, they need --keep-going, which leaves them out"


def _restorer_lines(role: Restorer) -> Iterator[str]:
    """Yield a script for psql: what is no statement is a comment."""
    yield ""
    yield "-- A superuser of the target looks at this, and runs it. Then give the role a password: \\password"
    yield from role.statements
    options = "".join(f" --role-map {shlex.quote(f'{one}={role.name}')}" for one in role.mapped)
    yield f"-- Restore with user={role.name} in --target{', and' if options else ''}{options}"
    if role.mapped:
        yield "-- A member of those owners could become a superuser; what is theirs is given to the role."
    if role.elsewhere:
        yield f"-- Other databases there are owned by {', '.join(role.elsewhere)}: hostile code could rename or set"
        yield "-- them by it. Restore on a server of its own, or with --no-owner, which needs no GRANT of theirs."


def _region_reply(region: str, finding: RegionContents, planned: Sequence[DatabaseOutcome[Preview]]) -> Reply:
    failures = [
        line
        for outcome in planned
        if outcome.error is not None
        for line in output.failure_lines(outcome.error, database_name(region, outcome.found))
    ]
    return Reply(
        {"region": region, **region_object(finding, planned, "plan")},
        _region_lines(finding, planned),
        [*failures, *absent_lines(region, finding)],
        region_status(finding, planned),
    )


def _region_lines(
    finding: RegionContents, planned: Sequence[DatabaseOutcome[Preview]]
) -> Iterator[str | output.TextTable]:
    """Yield a row for each database, and the sums."""
    plans = [one.result for one in planned if one.result is not None]
    headings = ("database", "exported", "tables", "rows", "written", "objects", "fetched", "time")
    yield output.TextTable(headings, [_row(one, plan) for one in planned if (plan := one.result) is not None])
    size = output.human_bytes
    written, fetched = sum(plan.bytes for plan in plans), sum(plan.fetched for plan in plans)
    yield f"{counted(len(plans), 'database')}: {size(written)} written, {size(fetched)} fetched"
    if any(_may_break(plan, Selection()) for plan in plans):
        yield f"keys: {_KEYS}"
    yield f"the ledger is obeyed up to entry {len(finding.history.chain.links)}"
    yield from _lacking(plans)
    yield from _superusers(plans)


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
