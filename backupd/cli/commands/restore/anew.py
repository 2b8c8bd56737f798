"""`restore` into a new database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.cli.commands.restore.telling import tell_plan, told

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.model.ids import RegionName
    from backupd.operations.restore import RestoreRequest, World
    from backupd.wiring import Wiring


def restore_anew(  # what a command has at hand
    wiring: Wiring,
    region: RegionName,
    request: RestoreRequest,
    repository: Repository,
    world: World,
    *,
    plan: bool,
    as_json: bool,
) -> None:
    """Restore, or with `plan` say what that would do. Raises what the operations raise."""
    from backupd.operations.restore import restore
    from backupd.operations.restore.previewing import preview
    from backupd.operations.restore.rates import keep_rates, rates_of, read_rates

    rates = wiring.rates_file(region, request.label)
    if plan:
        tell_plan(region, preview(request, repository, world, read_rates(rates)), as_json=as_json)
        return
    report = restore(request, repository, world)
    if (measured := rates_of(report)) is not None and request.selection.everything:
        keep_rates(rates, measured)
    if as_json:
        output.print_json({"region": region, "target": request.name, "report": report})
    else:
        output.print_lines(told(request.name, report))
