"""`restore` into a new database."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.cli.commands.restore.saying.runbook import runbook
from backupd.cli.commands.restore.saying.telling import tell_plan, told

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.clock import Clock
    from backupd.model.ids import RegionName
    from backupd.operations.restore import RestoreRequest, World
    from backupd.postgres.connect import Source
    from backupd.wiring import Wiring


class Paper(Enum):
    """What is said instead of being done."""

    PLAN = "plan"
    RUNBOOK = "runbook"


_BETWEEN = 5.0
"""Seconds between two looks: a restore under way is without a connection for moments only."""


def clean_up(target: Source, clock: Clock) -> None:
    """Drop the databases that restores which were killed left on a server; nobody may be connected to them."""
    from backupd.postgres.target import database, session

    with session.connect(target, session.MAINTENANCE) as connection:
        before = database.leftovers(connection)
        if before:
            clock.sleep(_BETWEEN)
        found = [name for name in database.leftovers(connection) if name in before]
    gone = [name for name in found if database.drop(target, name)]
    output.print_lines([f"dropped {len(gone)} of {len(found)} unfinished databases", *(f"  {name}" for name in gone)])


def restore_anew(  # what a command has at hand
    wiring: Wiring,
    region: RegionName,
    request: RestoreRequest,
    repository: Repository,
    world: World,
    *,
    paper: Paper | None,
    as_json: bool,
) -> None:
    """Restore, or say on paper what that would do. Raises what the operations raise."""
    from backupd.operations.restore import restore
    from backupd.operations.restore.paper.previewing import preview
    from backupd.operations.restore.paper.rates import keep_rates, rates_of, read_rates

    rates = wiring.rates_file(region, request.label)
    if paper is not None:
        found = preview(request, repository, world, read_rates(rates))
        if paper is Paper.PLAN:
            tell_plan(region, found, as_json=as_json)
        else:
            output.print_lines(runbook(wiring, region, world.store or "", found))
        return
    report = restore(request, repository, world)
    if (measured := rates_of(report)) is not None and request.selection.everything:
        keep_rates(rates, measured)
    if as_json:
        output.print_json({"region": region, "target": request.name, "report": report})
    else:
        output.print_lines(told(request.name, report))
