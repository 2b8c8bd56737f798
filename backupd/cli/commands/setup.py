"""`tenancy` and `init`: what comes before the first backup."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import typer

from backupd.cli import output
from backupd.cli.options import EXIT_STATUS, ConfigOption, DatabaseOption, JsonOption, RegionArgument, load_context
from backupd.errors import UnmappedError

if TYPE_CHECKING:
    from backupd.model.ids import RegionName
    from backupd.operations.init import Founder, Initialised
    from backupd.operations.preflight import TenancyLine, TenancyReport
    from backupd.wiring.context import Context


def add(app: typer.Typer) -> None:
    app.command("init", epilog=EXIT_STATUS)(init)
    app.command("tenancy", epilog=EXIT_STATUS)(tenancy)


def tenancy(
    ctx: typer.Context,
    region: RegionArgument = None,
    database: DatabaseOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> int:
    """Show how every table is mapped to tenants and data classes.

    A table belongs to tenants by a column, by following foreign keys to one, or by its schema or database; or it is
    shared. For a table that nothing covers, the foreign keys that would map it are proposed, as they are written in the
    configuration. The exit status says whether anything is unmapped; a backup would refuse it.

    \b
    Examples:
      backupd tenancy be
      backupd tenancy --json
    """
    from backupd.operations.preflight import report_tenancy
    from backupd.wiring.context import source_of, tenancy_of

    context = load_context(ctx, config)
    reports = [
        (name, report_tenancy(label, source_of(context, name, label), tenancy_of(context, name, label)))
        for name in context.regions(region or [])
        for label in context.databases(name, database)
    ]
    if as_json:
        output.print_json({"databases": [{"region": name, "tenancy": report} for name, report in reports]})
    else:
        for name, report in reports:
            _print_tenancy(name, report)
    return 0 if all(report.complete for _, report in reports) else UnmappedError.exit_code


def _print_tenancy(region: str, report: TenancyReport) -> None:
    output.print_lines([f"{region}/{report.database}"])
    headings = ("table", "mapped by", "class", "backup", "rows about")
    output.print_table(output.TextTable(headings, [_row(line) for line in report.lines]))
    unmapped = [line for line in report.lines if not line.mapped]
    for line in unmapped:
        output.print_lines([f"unmapped: {line.table}", *(f"  path = {list(path)}" for path in line.proposals)])
        if line.hint:
            output.print_lines([f"  {line.route}", f"  {line.hint}"])
    output.print_lines([f"{len(report.lines) - len(unmapped)} mapped, {len(unmapped)} unmapped", ""])


def _row(line: TenancyLine) -> tuple[output.Cell, ...]:
    name = line.table if line.tables == 1 else f"{line.table} ({line.tables} tables)"
    return name, line.route, line.data_class, line.policy, line.rows


def init(
    ctx: typer.Context, region: RegionArgument = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Make the repository of each region on its stores.

    Each store is tried out first: does a rename refuse a taken name, can it sync, hash and tell its space, does it keep
    snapshots of its own, does it let anything be removed? What is found is kept in the repository, signed. A folder
    that holds anything else, or another's repository, is refused before anything is written; a store that was added to
    the region, or missed when init was cut off, joins the region's repository.

    \b
    Example:
      backupd init be
    """
    from backupd.wiring.backup import repository_founder

    context = load_context(ctx, config)
    founder = repository_founder(context)
    made = [(name, _made(context, name, founder)) for name in context.regions(region or [])]
    if as_json:
        output.print_json({"regions": [{"region": name, "stores": stores} for name, stores in made]})
    else:
        output.print_lines(line for name, stores in made for one in stores for line in _initialised(name, one))


def _made(context: Context, region: RegionName, founder: Founder) -> list[Initialised]:
    from backupd.operations.init import NamedStore, initialise
    from backupd.wiring.context import QUICKLY, open_store

    with contextlib.ExitStack() as stack:
        places = [
            NamedStore(store, stack.enter_context(contextlib.closing(open_store(context, region, store, QUICKLY))))
            for store in context.stores_of(region)
        ]
        return initialise(region, places, founder)


def _initialised(region: str, one: Initialised) -> list[str]:
    if not one.created:
        return [f"{region} on {one.store}: repository {one.repository} was there already"]
    told = (f"{name} {_ability(value)}" for name, value in one.profile.items())
    return [f"{region} on {one.store}: made repository {one.repository}", f"  {', '.join(told)}"]


def _ability(value: object) -> object:
    if isinstance(value, dict):
        return value.get("command")
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    return value
