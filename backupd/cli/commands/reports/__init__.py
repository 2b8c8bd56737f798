"""`report …`: what restore drills found, over any time, and the files to prove it."""

from __future__ import annotations

import typer

from backupd.cli.commands.reports.handing import export
from backupd.cli.commands.reports.looking import show, told, verify
from backupd.cli.options import EXIT_STATUS


def add(app: typer.Typer) -> None:
    group = typer.Typer(rich_markup_mode=None, help="Reports of restore drills: list, show, verify, export.")
    for name, command in (("list", told), ("show", show), ("verify", verify), ("export", export)):
        group.command(name, epilog=EXIT_STATUS)(command)
    app.add_typer(group, name="report")
