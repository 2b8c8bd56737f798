"""The command `restore region`, which restores all databases of a region, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import typer

from backupd.cli.commands.restore.options import (
    AnalyzeOption,
    ChangeOptions,
    GlobalsOption,
    JobsOption,
    KeepGoingOption,
    PassfileOption,
    RegionArgument,
    ServerOption,
    SnapshotOptions,
    SuffixOption,
    WithoutBrokenKeysOption,
)
from backupd.cli.commands.restore.output import region_reply
from backupd.cli.commands.restore.task import configured, opened
from backupd.errors import UsageError
from backupd.model.tenancy import TenancyKind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.restore import RestoreRequest
    from backupd.operations.restore.region import DatabaseOutcome, FoundDatabase, RegionContents, RestoreTarget
    from backupd.postgres.connect import Source
    from backupd.wiring.context import Context

T = TypeVar("T")


def region(
    ctx: typer.Context,
    region: RegionArgument,
    target: ServerOption,
    passfile: PassfileOption = None,
    suffix: SuffixOption = "_restored",
    globals_: GlobalsOption = False,
    without_broken_keys: WithoutBrokenKeysOption = False,
    keep_going: KeepGoingOption = False,
    jobs: JobsOption = 4,
    analyze: AnalyzeOption = False,
    *,
    changed: ChangeOptions,
    options: SnapshotOptions,
) -> int:
    """Restore all databases of a region, as they were at a time.

    Each becomes a new database, named as the old one with a suffix. What is missing or fails is reported, the others
    are restored, and the exit status is that of the first failure; the same command does what is left.

    \b
    Examples:
      backupd restore region be --target "host=db2 user=postgres" --identity ops.identity
      backupd restore region be --snapshot 2026-03-31T14:00 --globals --target "host=db2" --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest

    context, place = configured(ctx, options, region, None)
    source = _server(context, target, passfile)
    with opened(context, place, options) as task:
        request = RestoreRequest(
            "",
            options.snapshot,
            source,
            "",
            jobs=jobs,
            roles=globals_,
            analyze=analyze,
            without_broken_keys=without_broken_keys,
            changes=changed.changes(),
            keep_going=keep_going,
        )
        return restore_region(task, request, suffix, as_json=options.as_json)


def restore_region(task: RestoreTask, request: RestoreRequest, suffix: str, *, as_json: bool) -> int:
    """Restore the databases of a region and print what came of it; return the exit status.

    Raises what finding the databases raises.
    """
    finding, target = find_region(task, request, suffix)
    outcomes = each_database(finding, lambda found: target.restore(found, finding, task.repository, task.world))
    return region_reply(task.region, finding, outcomes, suffix).print(as_json=as_json)


def find_region(task: RestoreTask, request: RestoreRequest, suffix: str) -> tuple[RegionContents, RestoreTarget]:
    """Find the databases that the region had at the time, and where each of them goes.

    Raises what finding them raises, RefusedError when two of them would get one name.
    """
    from backupd.operations.restore.region import RestoreTarget, find_databases
    from backupd.wiring.context import tenancy_of
    from backupd.wiring.restore import restored_file

    context, region = task.context, task.region
    tenancies = {label: tenancy_of(context, region, label) for label in context.databases(region)}
    labels = {label: tenancy.kind is TenancyKind.DATABASE for label, tenancy in tenancies.items()}
    finding = find_databases(request.snapshot, labels, task.repository, task.world)
    target = RestoreTarget(request, suffix, restored_file(context, region))
    target.require_apart(finding.databases)
    return finding, target


def each_database(finding: RegionContents, each: Callable[[FoundDatabase], T | None]) -> list[DatabaseOutcome[T]]:
    """Do `each` for every database; an error becomes that database's outcome, an InterruptedRunError passes."""
    from backupd.operations.restore.region import restore_region

    return list(restore_region(finding.databases, each))


def _server(context: Context, target: str, passfile: Path | None) -> Source:
    from backupd.wiring.restore import restore_server

    source, name = restore_server(context, target, passfile)
    if name not in (None, "postgres"):
        raise UsageError(
            "the target of a region names a database",
            hint="Leave dbname out: they get their own names, with --suffix at the end.",
        )
    return source
