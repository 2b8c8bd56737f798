"""The command `restore scratch`, which makes a server for what is restored, on a unix socket only, and leaves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

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
from backupd.cli.commands.restore.output import region_reply, restored_lines
from backupd.cli.commands.restore.region import each_database, find_region
from backupd.cli.commands.restore.task import configured, opened
from backupd.cli.run import Reply

if TYPE_CHECKING:
    from backupd.cli.commands.restore.task import RestoreTask
    from backupd.operations.restore import RestoreReport, RestoreRequest
    from backupd.operations.restore.region import DatabaseOutcome
    from backupd.postgres.connect import Source
    from backupd.postgres.scratch.kept import KeptServer
    from backupd.wiring.context import Context


@dataclass(frozen=True, slots=True)
class ScratchPlace:
    """The folder that a scratch server gets, and whether it is left running."""

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
            trial=True,
        )
        if database is None:
            return _restore_region(task, request, wanted).print(as_json=options.as_json)
        return _restore_database(task, request, wanted).print(as_json=options.as_json)


def _restore_database(task: RestoreTask, request: RestoreRequest, wanted: ScratchPlace) -> Reply:
    """Restore one database into a server made for it."""
    from backupd.operations.restore.choose import choose, read_history

    history = read_history(task.repository, task.world)
    server = choose(request, task.repository, task.world, history).record.server
    reports: list[RestoreReport] = []

    def fill(source: Source) -> bool:
        reports.append(restore_one(task, replace(request, target=source), history))
        return True

    kept = _in_scratch(task.context, wanted, server, fill)
    (report,) = reports
    # A member's name is its tenant's.
    name = request.name if request.member is None else None
    reply = Reply(
        {"region": task.region, "target": name, "report": report},
        restored_lines(report, f'"{name}"' if name else "a database"),
    )
    return _with_server(reply, kept, wanted, name)


def _restore_region(task: RestoreTask, request: RestoreRequest, wanted: ScratchPlace) -> Reply:
    """Restore all databases of a region into a server made for them."""
    finding, target = find_region(task, request, "")
    server = max((found.server for found in finding.databases), default=0)
    outcomes: list[DatabaseOutcome[RestoreReport]] = []

    def fill(source: Source) -> bool:
        here = replace(target, request=replace(target.request, target=source))
        outcomes.extend(each_database(finding, lambda found: here.restore(found, finding, task.repository, task.world)))
        return any(outcome.error is None for outcome in outcomes)

    kept = _in_scratch(task.context, wanted, server, fill) if finding.databases else None
    return _with_server(region_reply(task.region, finding, outcomes, ""), kept, wanted, None)


def _with_server(reply: Reply, kept: KeptServer | None, wanted: ScratchPlace, name: str | None) -> Reply:
    """Add to a reply how the server is reached, where one was kept."""
    if kept is None:
        return reply
    return replace(
        reply,
        value={**reply.value, "scratch": _object(kept, wanted)},
        lines=[*reply.lines, *_lines(kept, wanted, name)],
    )


def _in_scratch(
    context: Context, wanted: ScratchPlace, server: int, fill: Callable[[Source], bool]
) -> KeptServer | None:
    """Make a server, have it filled, and keep it if `fill` restored anything; a failure leaves no server.

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
    """Yield how the server is started, reached, stopped and removed; `name` is the database's, if it may be shown."""
    yield f"scratch server in {kept.path}: {'running' if wanted.running else 'stopped'}; it is shut in with its files"
    if not wanted.running:
        yield f"  start it: {kept.starting}"
    yield f'  connect:  psql "{kept.connect} dbname={name or "postgres"}"'
    yield f"  stop it:  {kept.stopping}"
    yield f"  remove:   {kept.removing}"


def _object(kept: KeptServer, wanted: ScratchPlace) -> dict[str, object]:
    """Return how the server is started, reached, stopped and removed, as the object for programs."""
    return {
        "folder": str(kept.path),
        "running": wanted.running,
        "connect": kept.connect,
        "start": kept.starting,
        "stop": kept.stopping,
        "remove": kept.removing,
    }
