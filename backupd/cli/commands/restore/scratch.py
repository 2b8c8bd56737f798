"""`restore scratch`: a server of its own that stays, on a unix socket only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from backupd.cli import output
from backupd.cli.commands.restore.database import restore_one
from backupd.cli.commands.restore.options import (
    AnalyzeOption,
    AnyDatabaseArgument,
    JobsOption,
    KeepOption,
    PartOptions,
    RegionArgument,
    SnapshotOptions,
    TargetDirOption,
    WithoutBrokenKeysOption,
)
from backupd.cli.commands.restore.output import print_outcomes, region_object, restored_lines
from backupd.cli.commands.restore.region import each_database, find_region, region_status
from backupd.cli.commands.restore.task import configured, opened

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.restore import RestoreReport, RestoreRequest
    from backupd.operations.restore.region import DatabaseOutcome
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.kept import KeptServer
    from backupd.wiring.context import Context


@dataclass(frozen=True, slots=True)
class ScratchPlace:
    """Where the server is to be, and whether it is left running."""

    path: Path
    running: bool


def scratch(
    ctx: typer.Context,
    region: RegionArgument,
    target_dir: TargetDirOption,
    database: AnyDatabaseArgument = None,
    keep: KeepOption = False,
    without_broken_keys: WithoutBrokenKeysOption = False,
    jobs: JobsOption = 4,
    analyze: AnalyzeOption = False,
    *,
    part: PartOptions,
    options: SnapshotOptions,
) -> int:
    """Restore into a server made for it, which no network reaches.

    The server lies in the new folder and listens on a unix socket there. It has all roles of the snapshot, and without
    a DATABASE all databases of the region. What starts, reaches, stops and removes it is printed.

    \b
    Examples:
      backupd restore scratch be app --target-dir /srv/look --keep --identity ops.identity
      backupd restore scratch be --snapshot 2026-03-31T14:00 --target-dir /srv/look --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import programs_alone

    context, place = configured(ctx, options, region, database)
    selection = part.selection(database)
    wanted = ScratchPlace(target_dir, keep)
    with opened(context, place, options) as task:
        request = RestoreRequest(
            database or "",
            options.snapshot,
            programs_alone(context),
            part.member or database or "",
            member=part.member,
            jobs=jobs,
            roles=True,
            analyze=analyze,
            without_broken_keys=without_broken_keys,
            selection=selection,
        )
        if database is None:
            return _restore_region(task, request, wanted, as_json=options.as_json)
        _restore_database(task, request, wanted, as_json=options.as_json)
    return 0


def _restore_database(task: RestoreTask, request: RestoreRequest, wanted: ScratchPlace, *, as_json: bool) -> None:
    from backupd.operations.restore.choose import choose, read_history

    history = read_history(task.repository, task.world)
    server = choose(request, task.repository, task.world, history).record.server
    reports: list[RestoreReport] = []

    def fill(source: Source) -> bool:
        reports.append(restore_one(task, replace(request, target=source), history))
        return True

    kept = _in_scratch(task.context, wanted, server, fill)
    if kept is None:
        return
    (report,) = reports
    # A member's name is its tenant's.
    name = request.name if request.member is None else None
    if as_json:
        facts = {"region": task.region, "target": name, "report": report, "scratch": _object(kept, wanted)}
        output.print_json(facts)
    else:
        output.print_lines(
            [*restored_lines(report, f'"{name}"' if name else "a database"), *_lines(kept, wanted, name)]
        )


def _restore_region(task: RestoreTask, request: RestoreRequest, wanted: ScratchPlace, *, as_json: bool) -> int:
    finding, target = find_region(task, request, "")
    server = max((found.server for found in finding.databases), default=0)
    outcomes: list[DatabaseOutcome[RestoreReport]] = []

    def fill(source: Source) -> bool:
        here = replace(target, request=replace(target.request, target=source))
        outcomes.extend(each_database(finding, lambda found: here.restore(found, finding, task.repository, task.world)))
        return any(outcome.error is None for outcome in outcomes)

    kept = _in_scratch(task.context, wanted, server, fill) if finding.databases else None
    if as_json:
        facts = {"region": task.region, **region_object(finding, outcomes, "report")}
        output.print_json(facts if kept is None else {**facts, "scratch": _object(kept, wanted)})
    else:
        print_outcomes(task.region, finding, outcomes, "")
        output.print_lines([] if kept is None else _lines(kept, wanted, None))
    return region_status(finding, outcomes)


def _in_scratch(
    context: Context, wanted: ScratchPlace, server: int, fill: Callable[[Source], bool]
) -> KeptServer | None:
    """Make a server, have it filled, and keep it where anything came of that; what fails leaves none.

    `server` is the `server_version_num` whose major version it has. Raises RefusedError, ConfigError, SourceError, and
    what `fill` raises.
    """
    from backupd.postgres.scratch.cluster import scratch_cluster
    from backupd.wiring.restore import scratch_making

    path = wanted.path.absolute()
    with scratch_cluster(scratch_making(context, path, server)) as cluster:
        kept = cluster.keep(path) if fill(cluster.source) else None
    if kept is not None and wanted.running:
        kept.start()
    return kept


def _lines(kept: KeptServer, wanted: ScratchPlace, name: str | None) -> Iterator[str]:
    """How to reach the server, stop it and remove it; `name` is the database's, where there is one to be shown."""
    yield f"scratch server in {kept.path}: {'running' if wanted.running else 'stopped'}; it has no network"
    if not wanted.running:
        yield f"  start it: {kept.starting}"
    yield f'  connect:  psql "{kept.connect} dbname={name or "postgres"}"'
    yield f"  stop it:  {kept.stopping}"
    yield f"  remove:   {kept.removing}"


def _object(kept: KeptServer, wanted: ScratchPlace) -> dict[str, object]:
    """The same for programs."""
    return {
        "folder": str(kept.path),
        "running": wanted.running,
        "connect": kept.connect,
        "start": kept.starting,
        "stop": kept.stopping,
        "remove": kept.removing,
    }
