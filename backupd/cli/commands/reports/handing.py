"""`report export`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from backupd.cli import output
from backupd.cli.commands.reports.options import (
    FolderOption,
    FromOption,
    KeysOption,
    ToOption,
    from_folder,
    from_stores,
    period_of,
)
from backupd.cli.options import ConfigOption, JsonOption, RegionArgument
from backupd.errors import DamageError


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
    how to verify it all elsewhere. What cannot be believed is left out and told of; then it exits with 7.

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
    if as_json:
        output.print_json({"folder": str(done.folder), "reports": done.reports, "faults": faults})
    else:
        output.print_lines([f"{done.folder}: {done.reports} reports of {', '.join(done.regions)}"])
        output.print_lines(f"  damage: {fault}" for fault in faults)
        output.print_lines(
            f"  NOT checked: {one.gathered.region}: {line}" for one in parts for line in one.gathered.not_checked
        )
    return DamageError.exit_code if faults else 0
