"""`restore` of one database: into a new one, into plain files, into a scratch server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from backupd.cli import output
from backupd.cli.commands.restore.places import scratch as scratches
from backupd.cli.commands.restore.saying.runbook import runbook
from backupd.cli.commands.restore.saying.telling import tell_plan, told

if TYPE_CHECKING:
    from backupd.catalog.repository import Repository
    from backupd.cli.commands.restore.places.where import Where
    from backupd.model.ids import RegionName
    from backupd.operations.restore import RestoreReport, RestoreRequest, World
    from backupd.operations.verify.ledger import History
    from backupd.postgres.connect import Source
    from backupd.wiring import Wiring


class Paper(Enum):
    """What is said instead of being done."""

    PLAN = "plan"
    RUNBOOK = "runbook"


@dataclass(frozen=True, slots=True)
class Task:
    """What every restore has at hand."""

    wiring: Wiring
    region: RegionName
    repository: Repository
    world: World
    paper: Paper | None
    as_json: bool


def restore_anew(task: Task, request: RestoreRequest, where: Where) -> None:
    """Restore, or say on paper what that would do. Raises what the operations raise."""
    if task.paper is not None:
        _on_paper(task, request, task.paper)
    elif where.scratch is not None:
        _into_scratch(task, replace(request, name=request.member or request.label, roles=True), where)
    else:
        report = _restored(task, request)
        name = request.name if request.folder is None else str(request.folder)
        if task.as_json:
            output.print_json({"region": task.region, "target": name, "report": report})
        else:
            output.print_lines(told(report, f'"{name}"'))


def _on_paper(task: Task, request: RestoreRequest, paper: Paper) -> None:
    from backupd.operations.restore.paper.previewing import preview
    from backupd.operations.restore.paper.rates import read_rates

    rates = read_rates(task.wiring.rates_file(task.region, request.label))
    found = preview(request, task.repository, task.world, rates)
    if paper is Paper.PLAN:
        tell_plan(task.region, found, as_json=task.as_json)
    else:
        output.print_lines(runbook(task.wiring, task.region, task.world.store or "", found))


def _into_scratch(task: Task, request: RestoreRequest, where: Where) -> None:
    from backupd.operations.restore.choosing import choose, read_history

    history = read_history(task.repository, task.world)
    server = choose(request, task.repository, task.world, history).record.server
    wanted = scratches.Scratch(where.scratch, where.keep, server)  # type: ignore[arg-type]  # the caller has looked
    reports: list[RestoreReport] = []

    def fill(source: Source) -> bool:
        reports.append(_restored(task, replace(request, target=source), history))
        return True

    kept = scratches.in_scratch(task.wiring, wanted, fill)
    if kept is None:
        return
    (report,) = reports
    # A member's name is its tenant's.
    name = request.name if request.member is None else None
    if task.as_json:
        scratch = scratches.as_object(kept, wanted)
        output.print_json({"region": task.region, "target": name, "report": report, "scratch": scratch})
    else:
        output.print_lines([*told(report, f'"{name}"' if name else "a database"), *scratches.told(kept, wanted, name)])


def _restored(task: Task, request: RestoreRequest, history: History | None = None) -> RestoreReport:
    from backupd.operations.restore import restore
    from backupd.operations.restore.paper.rates import keep_rates, rates_of

    report = restore(request, task.repository, task.world, history)
    if request.folder is None and request.selection.everything and (measured := rates_of(report)) is not None:
        keep_rates(task.wiring.rates_file(task.region, request.label), measured)
    return report
