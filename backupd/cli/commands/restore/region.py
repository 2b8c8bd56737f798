"""`restore` of a region: all its databases, one after another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from backupd.cli import output
from backupd.cli.commands.restore.anew import Paper
from backupd.cli.commands.restore.places import scratch as scratches
from backupd.cli.commands.restore.saying import regions
from backupd.errors import UsageError
from backupd.model.tenancy import TenancyKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.cli.commands.restore.anew import Task
    from backupd.cli.commands.restore.places.where import Where
    from backupd.operations.restore import RestoreReport, RestoreRequest
    from backupd.operations.restore.paper.previewing import Preview
    from backupd.operations.restore.region import Finding, Found, Outcome
    from backupd.operations.restore.region.targets import Target
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.kept import Kept

T = TypeVar("T")


def restore_whole(task: Task, request: RestoreRequest, where: Where) -> int:
    """Restore what there is of a region, or say on paper what that would do; the exit status.

    Raises what finding the databases raises, and, into a scratch server, what making that does.
    """
    from backupd.operations.restore.region import find_databases
    from backupd.operations.restore.region.targets import Target as Place

    wiring = task.wiring
    region = task.region
    labels = {label: wiring.tenancy(region, label).kind is TenancyKind.DATABASE for label in wiring.databases(region)}
    finding = find_databases(request.snapshot, labels, task.repository, task.world)
    target = Place(request, where.ending, wiring.restored_file(region))
    target.require_apart(finding.databases)
    if task.paper is not None:
        planned = _each(finding, lambda found: _preview(task, target.wanted(found), finding))
        _tell_paper(task, finding, planned, where)
        return status(finding, planned)
    kept, scratch = None, None
    if where.scratch is None:
        outcomes = _each(finding, lambda found: target.restore(found, finding, task.repository, task.world))
    else:
        server = max((found.server for found in finding.databases), default=0)
        scratch = scratches.Scratch(where.scratch, where.keep, server)
        kept, outcomes = _into_scratch(task, target, finding, scratch)
    _tell(task, finding, outcomes, where, (kept, scratch))
    return status(finding, outcomes)


def status(finding: Finding, outcomes: list[Outcome[T]]) -> int:
    """That of the first failure, of a record that cannot be read, or of a database that is missing."""
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    failed += [error for _, error in finding.faults]
    if failed:
        return failed[0].exit_code
    return UsageError.exit_code if finding.missing else 0


def _each(finding: Finding, each: Callable[[Found], T | None]) -> list[Outcome[T]]:
    from backupd.operations.restore.region import restore_region

    return list(restore_region(finding.databases, each))


def _into_scratch(
    task: Task, target: Target, finding: Finding, scratch: scratches.Scratch
) -> tuple[Kept | None, list[Outcome[RestoreReport]]]:
    outcomes: list[Outcome[RestoreReport]] = []

    def fill(source: Source) -> bool:
        here = replace(target, request=replace(target.request, target=source, roles=True))
        outcomes.extend(_each(finding, lambda found: here.restore(found, finding, task.repository, task.world)))
        return any(outcome.error is None for outcome in outcomes)

    return (scratches.in_scratch(task.wiring, scratch, fill) if finding.databases else None), outcomes


def _preview(task: Task, request: RestoreRequest, finding: Finding) -> Preview:
    from backupd.operations.restore.paper.previewing import preview
    from backupd.operations.restore.paper.rates import read_rates

    rates = read_rates(task.wiring.rates_file(task.region, request.label))
    return preview(request, task.repository, task.world, rates, finding.history)


def _tell_paper(task: Task, finding: Finding, planned: list[Outcome[Preview]], where: Where) -> None:
    if task.paper is Paper.RUNBOOK:
        output.print_lines(regions.runbook(task.wiring, task.region, task.world.store or "", finding, planned))
    elif task.as_json:
        output.print_json({"region": task.region, **regions.as_object(finding, planned, "plan")})
    else:
        regions.print_plan(task.region, finding, planned, where.told)


def _tell(
    task: Task,
    finding: Finding,
    outcomes: list[Outcome[RestoreReport]],
    where: Where,
    scratch: tuple[Kept | None, scratches.Scratch | None],
) -> None:
    kept, wanted = scratch
    if task.as_json:
        facts = {"region": task.region, **regions.as_object(finding, outcomes, "report")}
        if kept is not None and wanted is not None:
            facts["scratch"] = scratches.as_object(kept, wanted)
        output.print_json(facts)
        return
    regions.print_outcomes(task.region, finding, outcomes, where.ending)
    if kept is not None and wanted is not None:
        output.print_lines(scratches.told(kept, wanted, None))
