"""The group `restore`: bring back a database, a region, or one tenant in place; or preview what that would do."""

from __future__ import annotations

import typer

from backupd.cli.commands.restore import clean, database, files, inplace, preview, region, runbook, scratch
from backupd.cli.commands.restore.short_form import RestoreGroup
from backupd.cli.options import EXIT_STATUS, grouped


def add(app: typer.Typer) -> None:
    """Add the group to the program."""
    group = typer.Typer(
        cls=RestoreGroup,
        rich_markup_mode=None,
        help="Restore a database, all of a region, or one tenant in place. Every row is compared with what was signed. "
        "The command's name may be left out: `restore be app ...` is `restore database be app ...`.",
    )
    for name, command in (
        ("database", database.database),
        ("region", region.region),
        ("in-place", inplace.in_place),
        ("files", files.files),
        ("scratch", scratch.scratch),
        ("preview", preview.preview),
        ("runbook", runbook.runbook),
        ("clean", clean.clean),
    ):
        group.command(name, epilog=EXIT_STATUS)(grouped(command))
    app.add_typer(group, name="restore")
