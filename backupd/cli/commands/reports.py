"""The group `report`: the findings of restore drills over any time, and the files that prove them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, JsonOption, RegionArgument, load_context, trusted_keys
from backupd.cli.progress import watched
from backupd.cli.run import Reply
from backupd.errors import DamageError, RefusedError, UsageError
from backupd.model.text import counted

if TYPE_CHECKING:
    from backupd.model.report import Report
    from backupd.operations.reports import Gathered, Part
    from backupd.planning.drill_reports import Occasion, Period

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="FOLDER",
        show_default=False,
        help="Read a copy of a region's folder, or an export, and no configuration.",
    ),
]
KeysOption = Annotated[
    list[str] | None,
    typer.Option(
        "--keeper",
        metavar="KEY",
        show_default=False,
        help="With --folder: a keeper's public key, 64 hex. [default: [trust] of the configuration, to verify]",
    ),
]
FromOption = Annotated[
    str | None, typer.Option("--from", metavar="DAY", show_default=False, help="YYYY-MM-DD. [default: a year ago]")
]
ToOption = Annotated[
    str | None, typer.Option("--to", metavar="DAY", show_default=False, help="The last day. [default: today]")
]
_DAY = timedelta(days=1)


def period_of(since: str | None, until: str | None, now: datetime) -> Period:
    """Return the period of whole days, in UTC, of which `until` is the last.

    Raises UsageError for text that is no day, and for a period without a day.
    """
    from backupd.planning.drill_reports import Period

    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    end = (_day(until, "--to") if until else today) + _DAY
    begin = _day(since, "--from") if since else end - 366 * _DAY
    if begin >= end:
        raise UsageError("the period has no day", hint="Give --from a day that is not behind --to.")
    return Period(begin, end)


def from_folder(folder: Path, keys: list[str] | None, regions: list[str]) -> list[Part]:
    """Read the reports of these regions, or of all, from a folder; without keys, any signer of them is believed.

    Raises UsageError for a region that the folder has no reports of.
    """
    from backupd.operations.reports import Part, gather_folder
    from backupd.planning.drill_reports import DrillTimetable

    found = gather_folder(folder, trusted_keys(keys) if keys else None)
    known = {one.region for one in found}
    for name in regions:
        if name not in known:
            raise UsageError(f"'{folder}' holds no reports of region '{name}'")
    return [Part(one, DrillTimetable(one.begins, None)) for one in found if not regions or one.region in regions]


def from_stores(ctx: typer.Context, config: Path | None, regions: list[str]) -> list[Part]:
    """Read the reports of configured regions from all their stores."""
    from backupd.operations.reports import Part, gather
    from backupd.wiring.drill import drill_timetable
    from backupd.wiring.keeper import open_book_and_repositories

    context = load_context(ctx, config)
    parts: list[Part] = []
    for name in context.regions(regions):
        with (
            watched(context.clock, quiet=False) as trace,
            open_book_and_repositories(context, name, trace) as (book, repositories),
        ):
            gathered = gather(book, repositories)
        parts.append(Part(gathered, drill_timetable(context, name, gathered.begins)))
    return parts


def _day(text: str, option: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError(f"{option} is not a day", hint="Write it as 2030-01-31.")
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


_CHECKED: Final = {"pass": 0, "fail": DamageError.exit_code, "damaged": DamageError.exit_code}
"""The exit status of `--check` by a region's standing; for every other standing it is 10: nothing is proven."""


def list_(
    ctx: typer.Context,
    region: RegionArgument = None,
    since: FromOption = None,
    until: ToOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with how regions stand now, for monitoring; see above.")
    ] = False,
    folder: FolderOption = None,
    keeper: KeysOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """List every restore drill of a period: passed, failed, without a verdict, and missed.

    A drill is missed when it is late by a fourth of the region's drill_every; missed ones are listed since the
    repository was made. Reports that are missing or altered are named, and then it exits with 7.

    With --check the exit status says how regions stand: 7 when the newest drill failed, too; 10 when there is none, it
    came to no verdict, or one was missed since; 0 only when the newest drill of every region passed.

    \b
    Example:
      backupd report list be --from 2030-01-01
    """
    from backupd.operations.reports import as_object, occasions, standing

    now = datetime.now(UTC)
    period = period_of(since, until, now)
    parts = from_folder(folder, keeper, region or []) if folder else from_stores(ctx, config, region or [])
    found = [(part, occasions(part, period, now)) for part in parts]
    standings = {part.gathered.region: standing(part, now) for part in parts}
    statuses = {_CHECKED.get(one, RefusedError.exit_code) for one in standings.values()} if check else set[int]()
    if any(part.gathered.faults for part in parts):
        statuses.add(DamageError.exit_code)
    regions = [{**as_object(part, drills), "standing": standings[part.gathered.region]} for part, drills in found]
    return Reply(
        {"regions": regions},
        [_table(found), *(line for part in parts for line in _remarks(part.gathered))],
        status=next((status for status in (DamageError.exit_code, RefusedError.exit_code) if status in statuses), 0),
    ).print(as_json=as_json)


def show(
    ctx: typer.Context,
    region: Annotated[str, typer.Argument(metavar="REGION", show_default=False)],
    drill: Annotated[
        str, typer.Argument(metavar="[DRILL]", help="The beginning of a drill's id from `report list`, or latest.")
    ] = "latest",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PAGE.html", show_default=False, help="Also write a page to this new file."),
    ] = None,
    folder: FolderOption = None,
    keeper: KeysOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show one report of a restore drill, or make a page of it.

    The page is one HTML file that fetches nothing, to read and print. It proves nothing: the report does, and the page
    says how to verify it.

    \b
    Example:
      backupd report show be latest --out drill.html
    """
    from backupd.operations.attestation.files import check_new, write_new
    from backupd.pages import render_report

    if out is not None:
        check_new(out)
    (part,) = from_folder(folder, keeper, [region]) if folder else from_stores(ctx, config, [region])
    gathered = part.gathered
    newest = gathered.newest()
    if newest is None:
        raise UsageError(f"region '{region}' has no report", hint="`backupd drill` makes one.")
    history = gathered.until(newest.drill if drill == "latest" else drill)
    one = history[-1]
    if out is not None:
        write_new(out, render_report(one.report, one.sha256, [each.report for each in history][-60:]).encode())
    page = [f"page: {out}"] if out is not None else []
    return Reply(
        {"sha256": one.sha256, "report": one.report},
        [*_report_lines(one.report, one.sha256), *_remarks(gathered), *page],
    ).print(as_json=as_json)


def verify(
    ctx: typer.Context,
    region: RegionArgument = None,
    folder: FolderOption = None,
    keeper: KeysOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Verify the reports of restore drills and their chain, on every store or in a folder. Needs no secret.

    Each is signed by a trusted keeper, does not contradict itself, and names the one before it; the ledger has an entry
    of each. Missing, altered, exchanged and added reports are named. With --folder, no store and no network are needed,
    and the regions need not be configured any more; what was not checked is said.

    \b
    Example:
      backupd report verify be
      backupd report verify --folder drills-2030 --keeper $KEY
    """
    parts = _to_verify(ctx, (folder, keeper, config), region or [])
    faults = [fault for part in parts for fault in part.gathered.faults]
    unreached = (error.exit_code for one in parts for error in one.gathered.unreached.values())
    return Reply(
        {"clean": not faults, "regions": [_verified_object(one.gathered) for one in parts]},
        (line for one in parts for line in _verified_lines(one.gathered)),
        status=DamageError.exit_code if faults else next(unreached, 0),
    ).print(as_json=as_json)


def _verified_object(gathered: Gathered) -> dict[str, Any]:
    return {
        "region": gathered.region,
        "clean": not gathered.faults,
        "reports": len(gathered.filed),
        "faults": [fault.sentence for fault in gathered.faults],
        "unreached": sorted(gathered.unreached),
        "not_checked": list(gathered.not_checked),
    }


def _verified_lines(gathered: Gathered) -> Iterator[str]:
    yield f"{gathered.region}: {'DAMAGED' if gathered.faults else 'clean'}, {counted(len(gathered.filed), 'report')}"
    yield from _remarks(gathered)


def _to_verify(
    ctx: typer.Context, where: tuple[Path | None, list[str] | None, Path | None], regions: list[str]
) -> list[Part]:
    folder, keeper, config = where
    if folder is None:
        return from_stores(ctx, config, regions)
    trusted = trusted_keys(keeper) if keeper else load_context(ctx, config).trusted_keepers()
    if not trusted:
        raise UsageError("nobody is trusted", hint="Give the keeper's public key as --keeper KEY.")
    return from_folder(folder, sorted(trusted), regions)


def _table(found: Sequence[tuple[Part, Sequence[Occasion]]]) -> output.TextTable:
    headings = ("region", "began", "verdict", "type", "database", "snapshot of", "rto", "rpo", "drill")
    return output.TextTable(headings, [_row(part.gathered.region, one) for part, drills in found for one in drills])


def _row(region: str, one: Occasion) -> list[str]:
    at = f"{one.at.astimezone(UTC):%Y-%m-%d %H:%M}"
    if one.filed is None:
        return [region, at, one.outcome, "-", "-", "-", "-", "-", "-"]
    report = one.filed.report
    chosen = (report.selection.database, report.selection.exported[:16].replace("T", " ")) if report.selection else "--"
    measured = (report.measured.rto, report.measured.rpo)
    return [region, at, one.outcome, report.type, *chosen, *map(_seconds, measured), report.drill]


def _report_lines(report: Report, sha256: str) -> Iterator[str]:
    from backupd.pages.findings import sentence

    yield f"{report.verdict.upper()}: drill {report.drill} of region {report.region}, {report.type}, {report.started}"
    if report.selection is not None:
        chosen = report.selection
        yield f"  restored: {chosen.database} of {chosen.exported}, from {chosen.store}, chosen by rule {chosen.rule}"
        if not report.whole:
            yield f"  of it: {chosen.tenants} tenant, {chosen.tenant or 'not named'}, and what is shared"
    aims = report.objectives
    yield f"  rto {_seconds(report.measured.rto)}, objective {_seconds(aims.rto)}"
    yield f"  rpo {_seconds(report.measured.rpo)}, objective {_seconds(aims.rpo)}"
    yield "  phases: " + (", ".join(f"{phase.name} {phase.ms / 1000:.1f} s" for phase in report.phases) or "none")
    for check in report.checks:
        findings = "; ".join(
            sentence(one.code) + (f" ({one.count})" if one.count > 1 else "") for one in check.findings
        )
        yield f"  {check.number:>2} {check.name:<12} {check.verdict:<5} {check.examined} {findings}".rstrip()
    yield f"  sha256 {sha256}, signed by {report.performer}"


def _remarks(gathered: Gathered) -> Iterator[str]:
    yield from (f"  damage: {fault.sentence}" for fault in gathered.faults)
    yield from (f"  not reached: {store}" for store in gathered.unreached)
    yield from (f"  NOT checked: {gathered.region}: {line}" for line in gathered.not_checked)


def _seconds(seconds: int | None) -> str:
    return "-" if seconds is None else output.human_duration(timedelta(seconds=seconds))


def export(
    ctx: typer.Context,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", show_default=False, help="A new folder; nothing is overwritten.")
    ],
    region: RegionArgument = None,
    since: FromOption = None,
    until: ToOption = None,
    folder: FolderOption = None,
    keeper: KeysOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Write a period's reports into a folder for an auditor or a customer.

    The signed reports, a page for each, a page for the whole period with the missed and failed drills, and a note on
    how to verify it all elsewhere. What cannot be believed is left out and named; then it exits with 7.

    \b
    Example:
      backupd report export be --from 2030-01-01 --to 2030-12-31 --out drills-2030
    """
    from backupd.operations.reports import export_reports

    now = datetime.now(UTC)
    period = period_of(since, until, now)
    parts = from_folder(folder, keeper, region or []) if folder else from_stores(ctx, config, region or [])
    done = export_reports(parts, period, out, now)
    faults = [fault.sentence for part in parts for fault in part.gathered.faults]
    return Reply(
        {"folder": str(done.folder), "reports": done.reports, "faults": faults},
        [
            f"{done.folder}: {counted(done.reports, 'report')} of {', '.join(done.regions)}",
            *(f"  damage: {fault}" for fault in faults),
            *(f"  NOT checked: {one.gathered.region}: {line}" for one in parts for line in one.gathered.not_checked),
        ],
        status=DamageError.exit_code if faults else 0,
    ).print(as_json=as_json)


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(rich_markup_mode=None, help="Reports of restore drills: list, show, verify, export.")
    for name, command in (("list", list_), ("show", show), ("verify", verify), ("export", export)):
        group.command(name, epilog=EXIT_STATUS)(command)
    app.add_typer(group, name="report")
