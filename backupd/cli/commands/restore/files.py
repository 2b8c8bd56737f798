"""The command `restore files`, which writes a database or a region as plain files that psql loads."""

from __future__ import annotations

import typer

from backupd.cli.commands.restore.database import restore_one, restored_reply
from backupd.cli.commands.restore.options import (
    AnyDatabaseArgument,
    JobsOption,
    PartOptions,
    RegionArgument,
    SnapshotOptions,
    TargetDirOption,
)
from backupd.cli.commands.restore.region import restore_region
from backupd.cli.commands.restore.task import configured, opened


def files(
    ctx: typer.Context,
    region: RegionArgument,
    target_dir: TargetDirOption,
    database: AnyDatabaseArgument = None,
    jobs: JobsOption = 4,
    *,
    part: PartOptions,
    options: SnapshotOptions,
) -> int:
    """Write plain files that psql loads, not encrypted.

    The folder holds the rows as COPY text, by tenant and table, everything else as SQL, and a README.txt that says how
    to load it; it has its name when all of it is written. Without a DATABASE it holds a folder for each database of
    the region, and the same command does what is left.

    \b
    Examples:
      backupd restore files be app --tenant acme --target-dir acme --identity ops.identity
      backupd restore files be --snapshot 2026-03-31T14:00 --target-dir march --identity ops.identity
    """
    from backupd.operations.restore import RestoreRequest
    from backupd.wiring.restore import programs_alone

    context, place = configured(ctx, options, region, database)
    selection = part.selection(database)
    with opened(context, place, options) as task:
        request = RestoreRequest(
            database or "",
            options.snapshot,
            programs_alone(context),
            "",
            folder=target_dir,
            member=part.member,
            jobs=jobs,
            selection=selection,
        )
        if database is None:
            return restore_region(task, request, "", as_json=options.as_json)
        return restored_reply(task, str(target_dir), restore_one(task, request)).print(as_json=options.as_json)
